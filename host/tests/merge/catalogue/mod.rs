//! The catalogue of hostile modules: each is pushed and, if it is taken, called; the table that is
//! printed says where it was stopped, what its author reads, and what it cost.
//!
//! ```sh
//! cargo test --workspace --test merge hostile_catalogue -- --nocapture
//! ```
//!
//! Asserted are the stage, the words, and bounds of memory; times are printed only.
//! `STATOR_HOSTILE_ALL=1` adds the rows that keep a compiler busy for many seconds.

mod calls;
mod figures;
mod raw;
mod types;

use std::fmt::Write as _;
use std::time::Instant;

use bytes::Bytes;
use stator::merge::{Limits, Stage};
use stator_core::catalogue::ModuleClass;
use stator_core::divergence::Outcome;

use crate::support::{cart, divergence, host_on, text};
use figures::{mib, resident, track_peak};

/// Where a module is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It is refused when it is pushed.
    Refused(Stage),
    /// It is taken, and fails when it merges a value.
    Called,
    /// It is taken, and does no harm.
    Served,
}

/// A row of the table.
struct Case {
    name: &'static str,
    build: Box<dyn Fn() -> Bytes>,
    class: ModuleClass,
    ends: Ends,
    /// Words of the error, or of the merged value in hexadecimal digits.
    says: &'static [&'static str],
    /// What is changed of the class's limits: a bound lifted to show the one behind it.
    relax: fn(&mut Limits),
}

fn case(
    name: &'static str,
    ends: Ends,
    says: &'static [&'static str],
    build: impl Fn() -> Bytes + 'static,
) -> Case {
    Case { name, build: Box::new(build), class: ModuleClass::Small, ends, says, relax: |_| () }
}

impl Case {
    fn large(self) -> Case {
        Case { class: ModuleClass::Large, ..self }
    }

    fn with(self, relax: fn(&mut Limits)) -> Case {
        Case { relax, ..self }
    }
}

/// What came of a case.
struct Seen {
    ends: Ends,
    words: String,
    seconds: f64,
    /// By how much the test's own process grew, at its peak.
    host_bytes: u64,
    /// The peak of the compiling process; 0 if there was none, or if it ended within a millisecond
    /// or two, or on the wall clock.
    child_bytes: u64,
    compilations: u64,
}

/// How much the host's process may grow over one module. The largest class holds 24 MiB of
/// component, as much in a pipe, its artefact of up to 128 MiB, and a call's 128 MiB.
const HOST_BYTES_MAX: u64 = 160 << 20;
/// How long the error of a push may be: it travels in a header.
const WORDS_MAX: usize = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_catalogue() {
    let all = std::env::var_os("STATOR_HOSTILE_ALL").is_some();
    let mut cases = [raw::cases(), types::cases(), calls::cases()].into_iter().flatten();
    let slow = if all { raw::slow_cases() } else { Vec::new() };
    let cache = tempfile::tempdir().expect("a temporary directory");
    let cart = host_on(cache.path(), |_| ()).admit(cart()).await.expect("the cart is taken");

    let mut table = format!(
        "\n{:<44} {:<8} {:>7} {:>9} {:>9}  {}\n",
        "hostile module", "stopped", "s", "host MiB", "child MiB", "what its author reads"
    );
    let (mut wrong, before) = (String::new(), resident());
    for case in cases.by_ref().chain(slow) {
        let seen = run(&case, cache.path(), &cart.digest).await;
        let stopped = match seen.ends {
            Ends::Refused(stage) => stage.to_string(),
            Ends::Called => "call".to_owned(),
            Ends::Served => "served".to_owned(),
        };
        let _ = writeln!(
            table,
            "{:<44} {:<8} {:>7.3} {:>9} {:>9}  {}",
            case.name,
            stopped,
            seen.seconds,
            mib(seen.host_bytes),
            if seen.child_bytes == 0 { "-".to_owned() } else { mib(seen.child_bytes) },
            seen.words.escape_debug().take(150).collect::<String>()
        );
        check(&case, &seen, &mut wrong);
    }
    println!("{table}");
    println!("resident before {} MiB, after {} MiB", mib(before), mib(resident()));
    assert!(wrong.is_empty(), "{wrong}");
}

/// Pushes a module to a host of its own, calls it, and shows that the host still serves another.
async fn run(case: &Case, cache: &std::path::Path, cart: &stator_core::id::ModuleDigest) -> Seen {
    let component = (case.build)();
    let host = host_on(cache, |config| {
        let limits = match case.class {
            ModuleClass::Small => &mut config.limits,
            ModuleClass::Large => &mut config.large_limits,
        };
        (case.relax)(limits);
    });
    let peak = track_peak();
    let start = Instant::now();
    let (ends, words) = match host.admit_as(case.class, component).await {
        Err(refusal) => match refusal.stage() {
            Some(stage) => (Ends::Refused(stage), refusal.to_string()),
            None => panic!("{}: the node is not to blame: {refusal}", case.name),
        },
        Ok(info) => match host.resolve(&info.digest, &divergence(&[Some("x"), None])).await {
            Err(failure) => (Ends::Called, failure.to_string()),
            Ok(merged) => match &merged.outcome {
                Outcome::Value(value) => (Ends::Served, hex(value)),
                other => (Ends::Served, format!("{other:?}")),
            },
        },
    };
    let seconds = start.elapsed().as_secs_f64();
    let host_bytes = peak.growth();
    let figures = host.figures();
    let (child_bytes, compilations) = (figures.compile_memory_peak_bytes, figures.compilations);
    host.load(*cart, crate::support::cart()).await.expect("the cart loads");
    let merged = host.resolve(cart, &divergence(&[Some("{}")])).await.expect("the cart merges");
    assert_eq!(text(&merged), r#"{"items":{},"removed":[]}"#, "after {}", case.name);
    Seen { ends, words, seconds, host_bytes, child_bytes, compilations }
}

fn check(case: &Case, seen: &Seen, wrong: &mut String) {
    let mut must = |holds: bool, what: String| {
        if !holds {
            let words: String = seen.words.escape_debug().take(300).collect();
            let _ = writeln!(wrong, "{}: {what}; it reads: {words}", case.name);
        }
    };
    must(seen.ends == case.ends, format!("ended at {:?}, not {:?}", seen.ends, case.ends));
    for part in case.says {
        must(seen.words.contains(part), format!("{part:?} is not said"));
    }
    let is_short = seen.words.len() <= WORDS_MAX || seen.ends == Ends::Called;
    must(is_short, format!("the error has {} bytes", seen.words.len()));
    must(seen.host_bytes <= HOST_BYTES_MAX, format!("the host grew by {}", seen.host_bytes));
    let mut limits = Limits::of(case.class);
    (case.relax)(&mut limits);
    let child_max = limits.compile_memory_bytes;
    must(seen.child_bytes <= child_max, format!("the compiler took {}", seen.child_bytes));
    let needs_compiler = !matches!(seen.ends, Ends::Refused(Stage::Bounds | Stage::World));
    must(!needs_compiler || seen.compilations == 1, "it was not compiled".to_owned());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
