//! Merging three carts of 1 KiB: the component in a fresh instance, the same code natively, and a
//! component that gives back the first cart unread, which shows what a sandbox costs without work.

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cart::CartMerge;
use stator::merge::{MergeHost, MergeHostConfig};
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome};
use stator_guest::{Merge, Outcome as GuestOutcome};
use support::{cart_json, median, thread_time};

const CART_BYTES: usize = 1 << 10;
const ROUNDS: usize = 15;
const CALLS: u32 = 2_000;
const THROUGHPUT: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut config = MergeHostConfig::new(cache.path()).expect("this program has a path");
    config.compiler = support::program();
    let host = MergeHost::new(config).expect("the engine starts");
    let runtime = runtime.expect("a runtime");
    let admit = |component| {
        let admitted = runtime.block_on(host.admit(Bytes::from(component)));
        admitted.expect("the module is admitted").digest
    };
    let digest = admit(support::component("cart.wasm"));
    let idle = admit(support::component("tests/first.wasm"));

    let values: Vec<_> = (1..=3).map(|which| cart_json(which, CART_BYTES)).collect();
    let hosted = divergence(&values);
    let texts = values.iter().map(|value| std::str::from_utf8(value).expect("JSON"));
    let native = stator_guest::Divergence::of_values(texts);
    let in_sandbox = || host.call(&digest, black_box(&hosted)).expect("merged");
    let idly = || host.call(&idle, black_box(&hosted)).expect("given back");
    let natively = || CartMerge::merge(black_box(&native)).expect("merged");
    match (in_sandbox().outcome.clone(), natively().outcome) {
        (Outcome::Value(ours), GuestOutcome::Value(theirs)) => assert_eq!(ours, theirs),
        other => panic!("no values: {other:?}"),
    }

    let (mut sandbox, mut idle, mut native) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.push(micros_per_call(idly));
        sandbox.push(micros_per_call(in_sandbox));
        native.push(micros_per_call(natively));
    }
    let (sandbox, idle, native) = (median(sandbox), median(idle), median(native));
    let bytes: Vec<_> = values.iter().map(Vec::len).collect();
    println!("merge of three JSON carts of {bytes:?} bytes, processor time of the thread,");
    println!("median of {ROUNDS} rounds of {CALLS} calls");
    println!("| | µs a call |");
    println!("|---|---|");
    println!("| native | {native:.1} |");
    println!("| cart.wasm, fresh instance | {sandbox:.1} |");
    println!("| the same values given back unread, fresh instance | {idle:.1} |");
    println!("| ratio | {:.2} |", sandbox / native);
    println!("| ratio of what is done within | {:.2} |", (sandbox - idle) / native);

    let started = Instant::now();
    let mut calls = 0_u64;
    while started.elapsed() < THROUGHPUT {
        black_box(in_sandbox());
        calls += 1;
    }
    println!(
        "| calls per second on one thread | {:.0} |",
        calls as f64 / started.elapsed().as_secs_f64()
    );
}

fn micros_per_call<T>(call: impl Fn() -> T) -> f64 {
    let started = thread_time();
    for _ in 0..CALLS {
        black_box(call());
    }
    (thread_time() - started).as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn divergence(values: &[Vec<u8>]) -> Divergence {
    let siblings = values.iter().map(|value| DivergentVersion {
        value: Some(Bytes::from(value.clone())),
        schema: 0,
        written_at_ms: 0,
    });
    Divergence {
        keyspace: "carts".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings: siblings.collect(),
        ancestor: Ancestor::Unknown,
        fingerprint: [0; 32],
    }
}
