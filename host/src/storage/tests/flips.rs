//! A flipped byte anywhere in the real files of a store that was closed: never a wrong value,
//! never a crash, never a hang.
//!
//! Each flip is met by a process of its own that opens the stores, reads all and writes once. Its
//! engine may end that process while it opens, once: the next start must know better.
//! `STATOR_FLIPS=2000` flips so many bytes for each engine instead of 24, `STATOR_FLIPS_IN=v3`
//! only those of files of this name. The places are random; a failure names its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::EngineKind;
use super::child::{Ack, Ended, Orders, Running};
use super::disks::{copy_tree, print_table};
use super::*;

fn flips() -> usize {
    std::env::var("STATOR_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// A clean data directory with small, middling and large values, and what was acknowledged.
fn fill(engine: EngineKind, home: &Path) -> Vec<Ack> {
    let options = StoreOptions { engine, cache_bytes: 2 << 20, ..StoreOptions::default() };
    let stores = Stores::open(Arc::new(Home::open(home).unwrap()), &options).unwrap();
    let sizes = [(1 << 10, 200), (64 << 10, 20), (1 << 20, 3)];
    let mut acks = Vec::new();
    for (value_bytes, count) in sizes {
        for n in 0..count {
            let key = format!("{value_bytes}-{n}");
            let (done, reply) = reply();
            let change = mint(Context::default(), child_value(&key, value_bytes));
            stores.write(WriteJob { change, ..put_job(&key, "", true, done) });
            let dot = reply.get().unwrap().dot.unwrap().to_string();
            acks.push(Ack { key, dot, value_bytes: Some(value_bytes) });
        }
    }
    stores.close().unwrap();
    acks
}

fn child_value(key: &str, value_bytes: usize) -> Vec<u8> {
    child::value(key, value_bytes)
}

/// Every byte of every file of the data store that holds something: file, and where in it.
fn places(home: &Path) -> Vec<(PathBuf, usize)> {
    fn visit(directory: &Path, out: &mut Vec<(PathBuf, usize)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, out);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            // Not the holes: they are most of some files, and say nothing.
            let blocks = bytes.chunks(512).enumerate();
            let full = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            out.extend(full.map(|(at, _)| (path.clone(), at * 512)));
        }
    }
    let mut out = Vec::new();
    visit(&home.join("data"), &mut out);
    if let Some(name) = std::env::var_os("STATOR_FLIPS_IN") {
        out.retain(|(path, _)| path.file_name() == Some(&name));
    }
    out
}

/// Which place the `n`-th flip takes: every file in turn, so that small ones are met, too.
fn choose(places: &[(PathBuf, usize)], n: usize, random: u64) -> (PathBuf, usize) {
    let mut files: Vec<&PathBuf> = places.iter().map(|(file, _)| file).collect();
    files.dedup();
    // Half of the flips by file, half by byte.
    let of: Vec<&(PathBuf, usize)> = if n.is_multiple_of(2) {
        let file = files[(n / 2) % files.len()];
        places.iter().filter(|(found, _)| found == file).collect()
    } else {
        places.iter().collect()
    };
    let (file, block) = of[(random >> 16) as usize % of.len()].clone();
    let length = std::fs::metadata(&file).unwrap().len() as usize;
    (file, (block + (random % 512) as usize).min(length - 1))
}

#[test]
fn a_flipped_byte_is_never_a_wrong_value_a_crash_or_a_hang() {
    let mut rows = Vec::new();
    for engine in [EngineKind::Sled, EngineKind::Fjall] {
        let original = tempfile::tempdir().unwrap();
        let acks = fill(engine, original.path());
        let places = places(original.path());
        if places.is_empty() {
            continue;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for n in 0..flips() {
            let random = getrandom::u64().unwrap();
            let copy = tempfile::tempdir().unwrap();
            copy_tree(original.path(), copy.path()).unwrap();
            let (file, at) = choose(&places, n, random);
            let file = copy.path().join(file.strip_prefix(original.path()).unwrap());
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[at] ^= 1 << (random >> 60 & 7);
            std::fs::write(&file, bytes).unwrap();
            let place = format!("{} byte {at}", file.strip_prefix(copy.path()).unwrap().display());

            let outcome = meet(engine, copy.path(), &acks, &place);
            *counts.entry(outcome).or_default() += 1;
        }
        let shown = OUTCOMES.map(|outcome| counts.get(outcome).copied().unwrap_or_default());
        rows.push(
            [engine.name().to_owned(), flips().to_string()]
                .into_iter()
                .chain(shown.map(|count| count.to_string()))
                .collect(),
        );
    }
    let head: Vec<&str> = ["engine", "flips"].into_iter().chain(OUTCOMES).collect();
    print_table("A flipped byte in the files of a closed store", &head, &rows);
}

const OUTCOMES: [&str; 5] =
    ["all whole", "keys damaged", "set aside", "loss noticed", "refused to start"];

/// What a process met.
#[derive(Default)]
struct Met {
    missing: usize,
    damaged: usize,
    asides: Vec<String>,
    refused: Option<String>,
    last: String,
}

/// What the flip at `place` came to; what must never be fails the test.
fn meet(engine: EngineKind, home: &Path, acks: &[Ack], place: &str) -> &'static str {
    let orders = Orders {
        to_check: acks.to_vec(),
        environment: vec![("STATOR_CHILD_WRITES_ONE".to_owned(), "1".to_owned())],
        ..Orders::new(engine, home, 1 << 10)
    };
    let (mut met, mut ended) = meet_once(&orders, place);
    if matches!(ended, Some(Ended::Otherwise(_))) && home.join("opening-data").exists() {
        (met, ended) = meet_once(&orders, place);
        assert!(!met.asides.is_empty(), "{engine:?}, {place}: the second start learnt nothing");
    }
    let Met { missing, damaged, asides, refused, last } = met;
    assert_ne!(ended, Some(Ended::Hung), "{engine:?}, {place}: hung after {last:?}");
    assert_eq!(ended, Some(Ended::Well), "{engine:?}, {place}: {last:?}");
    match (refused, asides.first()) {
        (Some(why), _) => {
            assert!(why.contains("start the node again"), "{engine:?}, {place}: {why}");
            "refused to start"
        }
        (None, Some(_)) if home.join("data.set-aside-1").exists() => "set aside",
        (None, Some(_)) => "loss noticed",
        (None, None) => {
            assert_eq!(missing, 0, "{engine:?}, {place}: keys are gone and nobody was told");
            if damaged > 0 { "keys damaged" } else { "all whole" }
        }
    }
}

fn meet_once(orders: &Orders, place: &str) -> (Met, Option<Ended>) {
    let mut met = Met::default();
    let ended = Running::start(orders).read(None, |line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "missing" => met.missing += 1,
            "damaged" => met.damaged += 1,
            "aside" => met.asides.push(rest.to_owned()),
            "refused" => met.refused = Some(rest.to_owned()),
            "wrong" | "unread" => panic!("{:?}, {place}: {line}", orders.engine),
            _ => {}
        }
        met.last = line.to_owned();
        true
    });
    (met, ended)
}
