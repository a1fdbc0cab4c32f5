//! Hosts and divergences.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use stator::merge::{Limits, MergeHost, MergeHostConfig};
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome, Resolution};
use tempfile::TempDir;

pub use crate::guests::*;

/// A host with a cache of its own, which goes with it.
pub struct TestHost {
    pub host: MergeHost,
    pub cache: TempDir,
}

impl TestHost {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A host whose set-up the test has changed.
    pub fn with(change: impl FnOnce(&mut MergeHostConfig)) -> Self {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let host = host_on(cache.path(), change);
        TestHost { host, cache }
    }

    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|config| change(&mut config.limits))
    }
}

/// A host on a cache that exists.
pub fn host_on(cache: &Path, change: impl FnOnce(&mut MergeHostConfig)) -> MergeHost {
    let mut config = MergeHostConfig::new(cache).expect("this program has a path");
    config.compiler = PathBuf::from(env!("CARGO_BIN_EXE_stator"));
    change(&mut config);
    MergeHost::new(config).expect("the engine starts")
}

/// A divergence of values (`None` is a tombstone), with a fingerprint of them.
pub fn divergence(values: &[Option<&str>]) -> Divergence {
    let siblings: Vec<_> = values
        .iter()
        .map(|value| DivergentVersion {
            value: value.map(|text| Bytes::copy_from_slice(text.as_bytes())),
            schema: 0,
            written_at_ms: 0,
        })
        .collect();
    Divergence {
        keyspace: "carts".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings,
        ancestor: Ancestor::Unknown,
        fingerprint: *blake3::hash(format!("{values:?}").as_bytes()).as_bytes(),
    }
}

/// The merged value as text.
pub fn text(resolution: &Resolution) -> &str {
    match &resolution.outcome {
        Outcome::Value(value) => std::str::from_utf8(value).expect("UTF-8"),
        other => panic!("{other:?} is no value"),
    }
}
