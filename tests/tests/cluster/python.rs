//! A client in Python, generated from the `.proto` files alone, against a cluster of three.
//!
//! `tests/python/client.py` is the client. Its libraries are pinned in `requirements.txt` there
//! and installed once, into `target/python`. Without Python 3 or a package index set
//! STATOR_SKIP_PYTHON=1: the test then says that it did nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Cluster, keyspace};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `command` and gives its output; what failed is told with `advice`.
fn run(command: &mut Command, advice: &str) -> Output {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}; {advice}"));
    assert!(
        output.status.success(),
        "{shown}: {}\n{}{}{advice}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// The interpreter with the libraries, installed if this was not done before.
fn python(folder: &Path) -> PathBuf {
    let advice = "this test needs python3 with venv, and once a package index; \
                  STATOR_SKIP_PYTHON=1 leaves it out";
    let requirements = root().join("tests/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements");
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    // Written last, so that an installation that was broken off is made anew.
    let stamp = venv.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), advice);
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(&requirements), advice);
    fs::write(&stamp, wanted).expect("written");
    python
}

/// Generates the client's modules from the files that anybody would take.
fn generate(python: &Path, out: &Path) {
    let protos = root().join("host/proto/proto");
    let folder = fs::read_dir(protos.join("stator/v1")).expect("the .proto files");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).expect("made");
    let mut protoc = Command::new(python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
    protoc.arg(format!("--python_out={}", out.display()));
    protoc.arg(format!("--grpc_python_out={}", out.display())).args(files);
    run(&mut protoc, "");
}

#[tokio::test]
async fn a_python_client_made_from_the_proto_files_works() {
    if std::env::var_os("STATOR_SKIP_PYTHON").is_some_and(|value| value == "1") {
        println!("SKIPPED: STATOR_SKIP_PYTHON=1, no client in Python was tried");
        return;
    }
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("python", 2, 2)).await;
    let addresses = cluster[0].addresses.clone();
    let tried = tokio::task::spawn_blocking(move || {
        let folder = root().join("target/python");
        let (python, generated) = (python(&folder), folder.join("generated"));
        generate(&python, &generated);
        let mut client = Command::new(python);
        client.arg(root().join("tests/python/client.py")).env("PYTHONPATH", generated);
        run(client.args([&addresses.client, &addresses.admin]), "")
    });
    let output = tried.await.expect("the client in Python succeeds");
    println!("{}", String::from_utf8_lossy(&output.stdout));
}
