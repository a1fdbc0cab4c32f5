//! Starts that must fail: with an exit code, words on standard error, and nothing else touched.

use std::path::Path;
use std::process::Output;

use crate::support::{Node, stator};

/// Checks that a start was refused with `code` and these words.
fn refused(case: &str, output: &Output, code: i32, says: &[&str]) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{case}: {words}");
    assert!(output.stdout.is_empty(), "{case}: not ready");
    assert!(!words.contains("panicked"), "{case}: {words}");
    for word in says {
        assert!(words.contains(word), "{case}: {word:?} is not in: {words}");
    }
}

/// `stator serve` on free ports with further flags.
async fn serve(data_dir: &str, flags: &[&str]) -> Output {
    let all = ["serve", "--data-dir", data_dir, "--output", "table"];
    let free = ["client", "admin", "peer"].map(|whom| format!("--{whom}-listen=127.0.0.1:0"));
    // Of a flag that is given twice clap refuses the second: the free ports are the default.
    let is_given = |free: &&String| {
        let name = free.split('=').next().unwrap_or_default();
        flags.iter().any(|flag| flag.starts_with(name))
    };
    let free: Vec<_> = free.iter().filter(|free| !is_given(free)).map(String::as_str).collect();
    stator(all.into_iter().chain(free).chain(flags.iter().copied())).await
}

#[tokio::test]
async fn a_wrong_configuration_names_file_and_setting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("stator.toml").display().to_string();
    let table = [
        ("an unknown setting", "zome = \"a\"", vec!["zome", "zone"]),
        (
            "an unknown section's setting",
            "[limits]\nkey_size = 1",
            vec!["key_size", "key_bytes_max"],
        ),
        ("a wrong type", "weight = \"heavy\"", vec!["weight"]),
        ("no TOML", "zone = = 1", vec!["TOML"]),
    ];
    for (case, text, mut says) in table {
        std::fs::write(&file, text).expect("written");
        says.push(&file);
        refused(case, &serve(&data, &["--config", &file]).await, 2, &says);
        refused(case, &serve(&data, &["--config", &file, "--check"]).await, 2, &says);
    }
    std::fs::write(&file, "zone = \"a\"").expect("written");
    let checked = serve(&data, &["--config", &file, "--check"]).await;
    assert!(checked.status.success() && !Path::new(&data).exists(), "{checked:?}");
    std::fs::write(&file, "[tls.client]\ncert = \"no.pem\"\nkey = \"no.key\"").expect("written");
    let checked = serve(&data, &["--config", &file, "--check"]).await;
    refused("no certificate", &checked, 2, &["tls.client", "no.pem"]);
    std::fs::write(&file, "[timings]\nreplica_timeout_ms = 0").expect("written");
    let says = ["timings.replica_timeout_ms = 0", "1 to 60000"];
    refused("out of range", &serve(&data, &["--config", &file]).await, 2, &says);
    let missing = folder.path().join("missing.toml").display().to_string();
    let output = serve(&data, &["--config", &missing]).await;
    refused("a missing file", &output, 2, &[&missing, "cannot read"]);

    let exposed = ["--enable-faults", "--insecure", "--admin-listen=0.0.0.0:0"];
    let says = ["enable_faults", "admin_listen = 0.0.0.0:0", "loopback"];
    refused("exposed faults", &serve(&data, &exposed).await, 2, &says);
    let says = ["client_listen = 0.0.0.0:0", "[tls.client]", "--insecure"];
    refused("no encryption", &serve(&data, &["--client-listen=0.0.0.0:0"]).await, 2, &says);
    refused("no log filter", &serve(&data, &["--log", "a=b=c"]).await, 2, &["log", "a=b=c"]);
    for (case, given, why) in [
        ("empty", "--advertise-peer=", "is empty"),
        ("no port", "--advertise-client=node1", "no port"),
        ("a scheme", "--advertise-peer=http://127.0.0.1:7103", "scheme"),
        ("port 0", "--advertise-admin=127.0.0.1:0", "port 0"),
        ("a port too large", "--advertise-peer=127.0.0.1:99999", "65535"),
        ("white space", "--advertise-peer=no such host:1", "white space"),
        ("no address to listen on", "--peer-listen=localhost:7103", "IP:PORT"),
    ] {
        let setting = given.split('=').next().unwrap_or_default();
        refused(case, &serve(&data, &[given]).await, 2, &[setting, why]);
    }
    let everywhere = ["--insecure", "--client-listen=0.0.0.0:0"];
    let says = ["client_listen = 0.0.0.0:0", "advertise_client"];
    refused("an undeclared address", &serve(&data, &everywhere).await, 2, &says);
    std::fs::write(&file, "advertise_peer = \"\"").expect("written");
    let says = ["advertise_peer", "is empty", "HOST:PORT", &file];
    refused("an unset variable", &serve(&data, &["--config", &file]).await, 2, &says);
    assert!(!Path::new(&data).exists(), "nothing was made");
}

#[tokio::test]
async fn a_start_in_the_way_of_another_node_is_refused_and_leaves_it_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(folder.path(), "node", &[]).await;
    let own = node.data_dir.display().to_string();
    let data = folder.path().join("data").display().to_string();

    for (whom, address) in [
        ("client", &node.addresses.client),
        ("admin", &node.addresses.admin),
        ("peer", &node.addresses.peer),
    ] {
        let output = serve(&data, &[&format!("--{whom}-listen={address}")]).await;
        refused(whom, &output, 1, &["cannot listen", address, "in use"]);
        node.serves("default", whom).await;
    }
    assert!(!Path::new(&data).exists(), "a node without ports leaves its data alone");

    let output = serve(&own, &[]).await;
    refused("a locked directory", &output, 1, &["in use by", &own, "nothing was changed"]);
    node.serves("default", "a locked directory").await;

    let incarnation_file = Path::new(&own).join("incarnation");
    let before = std::fs::read(&incarnation_file).expect("it has started");
    node.signal(libc::SIGTERM);
    assert!(node.ended().await);
    let output = serve(&own, &["--cluster", "other"]).await;
    refused("another cluster's data", &output, 1, &["\"other\"", "\"stator\"", &own]);
    let after = std::fs::read(&incarnation_file).expect("it has started");
    assert_eq!(before, after, "the refused start touched nothing");
    node.restart().await;
    node.serves("default", "another cluster's start").await;
    assert!(!node.log().contains('\u{1b}'), "a log in a file has no colours");
}
