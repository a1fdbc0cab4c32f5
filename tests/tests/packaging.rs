//! `host/packaging/check` with the built program: packages, manifests, alerts and their tests, as far as
//! this machine can check them. What it cannot is said by name, on standard error.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use stator_tests::program;

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
