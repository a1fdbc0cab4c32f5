//! `host/packaging/check` with the built program: packages, manifests, alerts and their tests, as far as
//! this machine can check them. What it cannot is said by name, on standard error.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program under test: `STATOR_BIN`, or the one beside the folder of this test.
fn program() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.parent().and_then(Path::parent).expect("target/debug/deps/TEST");
        folder.join("stator")
    };
    let path = std::env::var_os("STATOR_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is not there; run `make test`", path.display());
    path
}

#[test]
fn what_is_handed_out_is_whole() {
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/packaging/check");
    let output = Command::new(check).arg(program()).stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{words}");
    assert!(text.lines().any(|line| line.starts_with("ok: ")), "nothing was checked:\n{text}");
    for skipped in text.lines().filter(|line| line.starts_with("skipped: ")) {
        // Not by a macro, whose words the harness keeps of a test that passes.
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
}
