//! The cart in every language: the same siblings, the same bytes, in the host's sandbox.
//!
//! `make languages` builds the template of each language whose compiler is here, as an author would.
//! They are compared with `example-merges/cart`, which is Rust: on carts as clients write them, on texts
//! that mean the same in other words (escapes, white space, names twice), and on what must be refused. A
//! language that was not built is skipped by its name, on standard error, where no test harness
//! holds it back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stator::merge::{MergeHost, MergeHostConfig};
use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{
    Ancestor, Divergence, DivergentVersion, MergeFailure, Outcome, Resolution,
};
use stator_core::id::ModuleDigest;

const CASES: usize = 400;

/// The languages with a template beside Rust, and the class of their modules.
const LANGUAGES: [(&str, ModuleClass); 5] = [
    ("c", ModuleClass::Small),
    ("cpp", ModuleClass::Small),
    ("assemblyscript", ModuleClass::Small),
    ("javascript", ModuleClass::Small),
    ("python", ModuleClass::Large),
];

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn component(language: &str) -> PathBuf {
    target().join(format!("components/languages/{language}.wasm"))
}

/// The languages that were built; says which were not.
fn built() -> Vec<(&'static str, ModuleClass)> {
    let (built, absent): (Vec<_>, Vec<_>) =
        LANGUAGES.into_iter().partition(|(language, _)| component(language).is_file());
    for (language, _) in absent {
        // Not by a macro, whose words the harness keeps of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {language}, which `make languages` has not built"
        );
    }
    built
}

fn host() -> MergeHost {
    // Compiled once: a module of class large takes its time.
    let mut config = MergeHostConfig::new(target().join("languages/cache")).expect("a path");
    config.compiler = target().join("debug/stator");
    MergeHost::new(config).expect("the engine starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cart_is_the_same_bytes_in_every_language() {
    let host = host();
    let admit = async |path: PathBuf, class| {
        let component = Bytes::from(std::fs::read(&path).expect("a component"));
        let admitted = host.admit_as(class, component).await;
        admitted.unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display())).digest
    };
    let rust = admit(target().join("components/cart.wasm"), ModuleClass::Small).await;
    let mut modules = Vec::new();
    for (language, class) in built() {
        modules.push((language, admit(component(language), class).await));
    }
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for case in 0..CASES {
        let divergence = divergence(case, &mut random);
        let expected = merged(&host, &rust, &divergence);
        for (language, module) in &modules {
            let found = merged(&host, module, &divergence);
            assert_eq!(found, expected, "{language}, case {case}: {}", shown(&divergence));
        }
    }
}

/// As its author would check it.
#[test]
fn every_template_keeps_the_laws() {
    for (language, class) in built() {
        let mut test = Command::new(target().join("debug/stator"));
        test.args(["module", "test", "--cases", "200", "--class", class.name()]);
        let tested = test.arg(component(language)).output().expect("stator runs");
        let words = String::from_utf8_lossy(&tested.stdout);
        assert!(
            tested.status.success(),
            "{language}: {words}{}",
            String::from_utf8_lossy(&tested.stderr)
        );
        assert!(!words.contains("violated"), "{language}: {words}");
    }
}

/// What a reader may build on: the value, or what is wrong with which sibling. A parser's own words
/// are its own.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Value(String),
    Delete,
    Refused(&'static str, Option<u32>),
    Else(String),
}

fn merged(host: &MergeHost, module: &ModuleDigest, divergence: &Divergence) -> Answer {
    match host.call(module, divergence).map(|answer| Resolution::clone(&answer)) {
        Ok(Resolution { outcome: Outcome::Value(value), note: None, .. }) => {
            Answer::Value(String::from_utf8_lossy(&value).into_owned())
        }
        Ok(Resolution { outcome: Outcome::Delete, note: None, .. }) => Answer::Delete,
        Err(MergeFailure::Refused { reason, sibling, .. }) => Answer::Refused(reason, sibling),
        other => Answer::Else(format!("{other:?}")),
    }
}

fn divergence(case: usize, random: &mut ChaCha8Rng) -> Divergence {
    let siblings = (0..random.random_range(1..=4)).map(|_| {
        let value = (!random.random_bool(0.1)).then(|| text(random));
        let schema = if random.random_bool(0.02) { 2 } else { random.random_range(0..=1) };
        DivergentVersion { value: value.map(Bytes::from), schema, written_at_ms: 0 }
    });
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&(case as u64).to_le_bytes());
    Divergence {
        keyspace: "carts".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings: siblings.collect(),
        ancestor: Ancestor::Unknown,
        fingerprint,
    }
}

/// Few, so that carts share them; apart in every order that a language may have by mistake.
const TAGS: [&str; 12] = [
    "a",
    "b",
    "10",
    "9",
    "",
    "Z",
    "é",
    "\u{e000}",
    "🍵",
    "line\nbreak\t\"\\",
    "\u{1}\u{7f}\u{2028}",
    "a b",
];

const SKUS: [&str; 4] = ["22423", "85123A", "", "\u{10ffff}\u{8}\u{c}/"];

const QUANTITIES: [&str; 5] = ["1", "2", "30", "4294967295", "7"];

/// What is refused, or nearly.
const ODD: [&[u8]; 24] = [
    b"",
    b"{}",
    b" {\"removed\" : [ ] , \"items\":{ } }\r\n",
    b"[]",
    b"null",
    b"{} {}",
    b"{\"items\":[]}",
    b"{\"items\":{},\"items\":{}}",
    b"{\"removed\":[\"a\",]}",
    b"{\"removed\":[1]}",
    b"{\"more\":1}",
    b"{\"removed\":[\"\\ud800\"]}",
    b"{\"removed\":[\"\\ud83c\\udf75\"]}",
    b"{\"removed\":[\"\\udf75\\ud83c\"]}",
    b"{\"removed\":[\"\xff\"]}",
    b"\xef\xbb\xbf{}",
    b"{\"items\":{\"a\":{\"quantity\":0,\"sku\":\"x\"}}}",
    b"{\"items\":{\"a\":{\"quantity\":1.0,\"sku\":\"x\"}}}",
    b"{\"items\":{\"a\":{\"quantity\":4294967296,\"sku\":\"x\"}}}",
    b"{\"items\":{\"a\":{\"quantity\":01,\"sku\":\"x\"}}}",
    b"{\"items\":{\"a\":{\"quantity\":1,\"sku\":\"x\",\"sku\":\"x\"}}}",
    b"{\"items\":{\"a\":{\"quantity\":1}}}",
    b"{\"removed\":[\"a\x01\"]}",
    b"{\"removed\":[\"unfinished",
];

fn text(random: &mut ChaCha8Rng) -> Vec<u8> {
    if random.random_bool(0.08) {
        return ODD.choose(random).expect("one").to_vec();
    }
    let mut json = String::from("{");
    let items = (0..random.random_range(0..6)).map(|_| {
        let (tag, sku) = (quoted(TAGS.choose(random).expect("one"), random), SKUS.choose(random));
        let sku = quoted(sku.expect("one"), random);
        let quantity = QUANTITIES.choose(random).expect("one");
        match random.random_bool(0.5) {
            true => format!("{tag}:{{\"quantity\":{quantity},\"sku\":{sku}}}"),
            false => format!("{tag}: {{ \"sku\" : {sku},\n\"quantity\":{quantity} }}"),
        }
    });
    let items = format!("\"items\":{{{}}}", items.collect::<Vec<_>>().join(","));
    let removed =
        (0..random.random_range(0..4)).map(|_| quoted(TAGS.choose(random).expect("one"), random));
    let removed = format!("\"removed\":[{}]", removed.collect::<Vec<_>>().join(", "));
    let fields = match random.random_range(0..5) {
        0 => items,
        1 => removed,
        2 => format!("{removed},{items}"),
        _ => format!("{items},{removed}"),
    };
    json.push_str(&fields);
    json.push('}');
    json.into_bytes()
}

/// A text of JSON, some of its characters in other words.
fn quoted(text: &str, random: &mut impl Rng) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        if character < ' ' || matches!(character, '"' | '\\') || random.random_bool(0.2) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                json.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            json.push(character);
        }
    }
    json.push('"');
    json
}

fn shown(divergence: &Divergence) -> String {
    let siblings = divergence.siblings.iter().map(|version| match &version.value {
        Some(value) => format!("{} (schema {})", value.escape_ascii(), version.schema),
        None => "a delete".to_owned(),
    });
    siblings.collect::<Vec<_>>().join("\n")
}

/// The table of docs/languages.md:
/// `make languages && cargo test --workspace --test languages -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; it checks nothing"]
async fn measure() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut config = MergeHostConfig::new(cache.path()).expect("a path");
    config.compiler = target().join("debug/stator");
    let host = MergeHost::new(config).expect("the engine starts");
    let rust = ("rust", ModuleClass::Small, target().join("components/cart.wasm"));
    let others =
        built().into_iter().map(|(language, class)| (language, class, component(language)));
    // Another engine of JavaScript, if someone has put it there.
    let monkey = ("starlingmonkey", ModuleClass::Large, component("starlingmonkey"));
    let monkey = Some(monkey).filter(|(_, _, path)| path.is_file());
    for (language, class, path) in [rust].into_iter().chain(others).chain(monkey) {
        let component = Bytes::from(std::fs::read(&path).expect("a component"));
        let (bytes, started) = (component.len(), Instant::now());
        let info = host.admit_as(class, component).await.expect("taken");
        let admitted = started.elapsed();
        println!(
            "{language}: {bytes} bytes, {} of code, class {class}, admitted in {admitted:.1?}",
            info.code_bytes
        );
        for items in [5, 50, 6000] {
            let divergence = of_items(items);
            let bytes = divergence.siblings[0].value.as_ref().map_or(0, Bytes::len);
            let (mut best, mut fuel) = (Duration::MAX, Ok(0));
            for _ in 0..if items > 1000 { 2 } else { 30 } {
                let started = Instant::now();
                fuel = host.call(&info.digest, &divergence).map(|answer| answer.fuel_used);
                best = best.min(started.elapsed());
            }
            println!("  2 x {items} items, {bytes} bytes each: {best:.2?}, fuel {fuel:?}");
        }
        let status = std::fs::read_to_string("/proc/self/status").expect("of this process");
        let resident =
            status.lines().filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS"));
        println!("  {}", resident.collect::<Vec<_>>().join(", ").replace('\t', " "));
    }
}

/// Two carts with items of their own.
fn of_items(count: usize) -> Divergence {
    let cart = |device: usize| {
        let item = |n| {
            format!(
                r#""6a3f4f0e-9d0c-{device:04}:{n}":{{"quantity":{},"sku":"85{n:04}A"}}"#,
                n % 9 + 1
            )
        };
        let items = (0..count).map(item).collect::<Vec<_>>().join(",");
        format!(r#"{{"items":{{{items}}},"removed":["1:{device}","1:2"]}}"#)
    };
    let siblings = [1, 2].map(|device| DivergentVersion {
        value: Some(Bytes::from(cart(device))),
        schema: 0,
        written_at_ms: 0,
    });
    Divergence {
        keyspace: "carts".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings: siblings.to_vec(),
        ancestor: Ancestor::Unknown,
        fingerprint: [0; 32],
    }
}
