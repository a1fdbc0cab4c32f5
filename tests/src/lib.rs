//! Tests of Stator from the outside: real processes, documents, layering rules, benchmarks.
//!
//! The simulator is the crate beside this one, in `simulator/`: it needs the core only, and builds
//! in seconds.

use std::path::{Path, PathBuf};

/// The program under test: `STATOR_BIN`, or the one beside the folder of this test.
///
/// # Panics
/// It is not built.
pub fn program() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.parent().and_then(Path::parent).expect("target/debug/deps/TEST");
        folder.join("stator")
    };
    let path = std::env::var_os("STATOR_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is not there; run `make test`", path.display());
    path
}
