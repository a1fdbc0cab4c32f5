//! Simulated worlds in which the real component merges, in the host's sandbox, where a native twin
//! does otherwise: every rule holds, and every run takes the same course with both.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use stator::merge::{MergeHost, MergeHostConfig};
use stator_core::divergence::{Divergence, MergeFailure, Resolution};
use stator_core::id::ModuleDigest;
use stator_simulator::{Options, merging, run, run_merging};

const SEEDS: u64 = 12;
/// More than a module may use of the stack, and the host under it.
const STACK_BYTES: usize = 16 << 20;

static MODULE: OnceLock<(MergeHost, ModuleDigest)> = OnceLock::new();
static MERGES: AtomicU64 = AtomicU64::new(0);

fn admitted(cache: &Path) -> (MergeHost, ModuleDigest) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let component = target.join("components/tests/lines.wasm");
    let component = std::fs::read(&component)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make components`", component.display()));
    let mut config = MergeHostConfig::new(cache).expect("this program has a path");
    config.compiler = target.join("debug/stator");
    let host = MergeHost::new(config).expect("the engine starts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let admitted = runtime.block_on(host.admit(Bytes::from(component))).expect("it is admitted");
    (host, admitted.digest)
}

fn merge(divergence: &Divergence) -> Result<Resolution, MergeFailure> {
    let (host, digest) = MODULE.get().expect("it is admitted first");
    let hosted = Resolution::clone(&*host.call(digest, divergence)?);
    let twin = merging::union(divergence)?;
    assert_eq!(hosted.outcome, twin.outcome, "the component and its twin differ");
    MERGES.fetch_add(1, Ordering::Relaxed);
    Ok(Resolution { fuel_used: twin.fuel_used, ..hosted })
}

fn worlds(scenario: &'static str) {
    for seed in 0..SEEDS {
        let options = Options { scenario: Some(scenario), ..Options::of_seed(seed) };
        let hosted = run_merging(options, merge);
        assert!(hosted.violations.is_empty(), "{hosted}");
        let natively = run(options).trace_hash;
        assert_eq!(hosted.trace_hash, natively, "seed {seed} had two courses");
    }
}

#[test]
fn the_real_component_merges_as_its_twin_does_and_every_rule_holds() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    drop(MODULE.set(admitted(cache.path())));
    let all = || ["folds", "fold race"].into_iter().for_each(worlds);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(all);
    thread.expect("a thread").join().expect("no rule is broken");
    let merges = MERGES.load(Ordering::Relaxed);
    println!("the component made {merges} merges");
    assert!(merges > 100, "{merges} merges prove little");
}
