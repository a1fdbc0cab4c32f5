//! Wrong merges are caught with a counterexample that a person understands, right ones raise no
//! alarm. The merges are closures here, for speed; `host/tests/merge/laws.rs` has some of them as
//! components.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;
use stator_core::divergence::{
    Ancestor, Divergence, DivergentVersion, MergeFailure, Outcome, Resolution,
};

use super::{Counterexample, Law, Origin, Plan, Promise, Report, Specimen, Verdict, check};

type Answer = Result<Resolution, MergeFailure>;

fn version(value: String) -> DivergentVersion {
    DivergentVersion { value: Some(value.into()), schema: 0, written_at_ms: 0 }
}

fn sample(ancestor: Option<String>, siblings: Vec<String>) -> Divergence {
    Divergence {
        keyspace: "test".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings: siblings.into_iter().map(version).collect(),
        ancestor: ancestor.map_or(Ancestor::Unknown, |base| Ancestor::Known(version(base))),
        fingerprint: [0; 32],
    }
}

/// A number that follows from where it is asked for.
fn noise(n: u64, salt: u64) -> u64 {
    let mixed = (n * 31 + salt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
}

/// Grow-only sets of words, one a line: each client adds some to what all have read.
fn sets() -> Vec<Divergence> {
    let words = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"];
    let set = |base: &BTreeSet<&'static str>, n: u64, salt: u64| {
        let mut set = base.clone();
        for word in 0..noise(n, salt) % 4 {
            set.insert(words[noise(n, salt + 10 + word) as usize % words.len()]);
        }
        set
    };
    let text = |set: BTreeSet<&str>| set.into_iter().collect::<Vec<_>>().join("\n");
    (0..300)
        .map(|n| {
            let base = set(&BTreeSet::from(["ant"]), n, 1_000);
            let edit = |salt| text(set(&base, n, salt * 100));
            sample(Some(text(base.clone())), (0..2 + n % 3).map(edit).collect())
        })
        .collect()
}

/// Registers: `{"at": 3, "value": "ant"}`, with ties.
fn registers() -> Vec<Divergence> {
    let register = |n: u64, salt| {
        let at = 10 + noise(n, salt) % 4;
        format!(
            r#"{{"at":{at},"value":"{}"}}"#,
            ["ant", "bee", "cat"][noise(n, salt + 1) as usize % 3]
        )
    };
    let base = |_| r#"{"at":1,"value":"ant"}"#.to_owned();
    (0..200)
        .map(|n| sample(Some(base(n)), (0..2 + n % 2).map(|s| register(n, s * 10)).collect()))
        .collect()
}

/// Balances that clients raise.
fn numbers() -> Vec<Divergence> {
    let number = |n, salt| (100 + noise(n, salt) % 1_000).to_string();
    (0..100)
        .map(|n| sample(Some("100".to_owned()), (0..3).map(|s| number(n, s)).collect()))
        .collect()
}

fn texts(divergence: &Divergence) -> Vec<&str> {
    let values = divergence.siblings.iter().filter_map(|sibling| sibling.value.as_deref());
    // A mutation may have made no text of it.
    values.map(|value| std::str::from_utf8(value).unwrap_or("?")).collect()
}

/// The merge of texts, if there are any; only deletes merge to a delete.
fn merge_texts(divergence: &Divergence, merge: impl FnOnce(Vec<&str>) -> String) -> Answer {
    let texts = texts(divergence);
    let outcome =
        if texts.is_empty() { Outcome::Delete } else { Outcome::Value(merge(texts).into()) };
    Ok(Resolution { outcome, note: None, events: Vec::new(), fuel_used: 10 })
}

fn union(divergence: &Divergence) -> Answer {
    merge_texts(divergence, |texts| {
        let words: BTreeSet<_> = texts.iter().flat_map(|text| text.split('\n')).collect();
        words.into_iter().collect::<Vec<_>>().join("\n")
    })
}

fn report(specimen: &dyn Specimen, samples: &[Divergence]) -> Report {
    check(specimen, samples, &Plan::new(1_000, 42)).expect("no node is involved")
}

fn violated(report: &Report, law: Law) -> &Counterexample {
    match report.verdict(law) {
        Some(Verdict::Violated(counterexample)) => counterexample,
        other => panic!("{law}: {other:?}"),
    }
}

/// Sizes of the values of a counterexample, for what "smallest" means.
fn bytes(found: &Counterexample) -> usize {
    found.inputs.iter().filter_map(|(_, input)| Some(input.value.as_ref()?.len())).sum()
}

#[test]
fn a_join_keeps_all_laws() {
    let report = report(&union, &sets());
    for law in Law::FOR_FOLDS {
        let verdict = report.verdict(law).expect("checked");
        assert!(matches!(verdict, Verdict::Holds { cases } if *cases > 200), "{law}: {verdict:?}");
    }
    assert!(matches!(report.verdict(Law::Preserves), Some(Verdict::NotCheckable { .. })));
    assert_eq!(report.stopped, None);
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let samples = registers();
    let later = |divergence: &Divergence| merge_texts(divergence, |texts| texts[0].to_owned());
    let run = |seed| check(&later, &samples, &Plan::new(100, seed)).expect("checks");
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).merges, run(8).merges, "another seed takes another way");
}

#[test]
fn subtraction_is_caught() {
    let subtract = |divergence: &Divergence| {
        merge_texts(divergence, |texts| {
            let mut numbers = texts.iter().map(|text| text.parse::<i64>().unwrap_or_default());
            let first = numbers.next().unwrap_or_default();
            numbers.fold(first, i64::wrapping_sub).to_string()
        })
    };
    let report = report(&subtract, &numbers());
    let found = violated(&report, Law::Commutative);
    assert_eq!(found.inputs.len(), 2);
    assert!(bytes(found) <= 2, "{found}");
    let text = found.to_string();
    assert!(text.contains("--- merge(b, a)") && text.contains("+++ merge(a, b)"), "{text}");
    violated(&report, Law::Associative);
    violated(&report, Law::Idempotent);
}

#[test]
fn a_tie_won_by_the_last_is_caught() {
    let at = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        json["at"].as_u64().unwrap_or_default()
    };
    let latest = |divergence: &Divergence| {
        merge_texts(divergence, |texts| {
            let mut best = texts[0];
            for text in texts {
                // The fault: `>=` where equal times need a rule of their own.
                if at(text) >= at(best) {
                    best = text;
                }
            }
            best.to_owned()
        })
    };
    let found = report(&latest, &registers());
    let found = violated(&found, Law::Commutative);
    assert_eq!(found.inputs.len(), 2, "{found}");
    let times: BTreeSet<_> = texts(&sample(None, vec![]))
        .into_iter()
        .chain(found.inputs.iter().map(|(_, input)| {
            std::str::from_utf8(input.value.as_deref().expect("a value")).expect("text")
        }))
        .map(at)
        .collect();
    assert_eq!(times.len(), 1, "a tie: {found}");

    let ordered = |divergence: &Divergence| {
        let best = |texts: Vec<&str>| {
            let best = texts.into_iter().max_by_key(|text| (at(text), (*text).to_owned()));
            best.unwrap_or_default().to_owned()
        };
        merge_texts(divergence, best)
    };
    assert_eq!(report(&ordered, &registers()).violations().count(), 0);
}

/// A union with the promise that no word is lost, or something that claims to be one.
struct Promising<F>(F);

impl<F: Fn(&Divergence) -> Answer> Specimen for Promising<F> {
    fn merge(&self, divergence: &Divergence) -> Answer {
        (self.0)(divergence)
    }

    fn preserves(&self, before: &Divergence, after: &Outcome) -> Promise {
        let after = match after {
            Outcome::Value(value) => std::str::from_utf8(value).expect("text"),
            _ => "",
        };
        let after: BTreeSet<_> = after.split('\n').collect();
        let mut words = texts(before).into_iter().flat_map(|text| text.split('\n'));
        match words.find(|word| !after.contains(word)) {
            Some(word) => Promise::Broken(format!("{word:?} is lost")),
            None => Promise::Kept,
        }
    }
}

#[test]
fn a_constant_breaks_only_the_promise() {
    let constant =
        Promising(|divergence: &Divergence| merge_texts(divergence, |_| "ant".to_owned()));
    let constant = report(&constant, &sets());
    for law in Law::FOR_FOLDS {
        let verdict = constant.verdict(law).expect("checked");
        assert!(matches!(verdict, Verdict::Holds { .. }), "{law}: {verdict:?}");
    }
    let found = violated(&constant, Law::Preserves);
    assert!(found.to_string().contains("is lost"), "{found}");
    assert!(bytes(found) <= 4, "{found}");
    assert!(constant.remarks.iter().any(|remark| remark.contains("merge to the same")));

    let kept = report(&Promising(union), &sets());
    assert!(matches!(kept.verdict(Law::Preserves), Some(Verdict::Holds { cases: 500.. })));
    assert!(!kept.remarks.iter().any(|remark| remark.contains("merge to the same")));
}

#[test]
fn a_third_sibling_that_is_dropped_is_caught() {
    let two = |divergence: &Divergence| {
        let mut first = divergence.clone();
        first.siblings.truncate(2);
        union(&first)
    };
    let report = report(&two, &sets());
    for law in [Law::Commutative, Law::Associative] {
        let found = violated(&report, law);
        assert_eq!(found.inputs.len(), 3, "two siblings are merged well: {found}");
    }
}

/// A hasher with few results, as in a small table; the iteration then follows insertion.
#[derive(Default)]
struct Weak(u64);

impl Hasher for Weak {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>() % 2;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn the_order_of_a_hash_map_is_caught() {
    let unordered = |divergence: &Divergence| {
        merge_texts(divergence, |texts| {
            let mut words: HashMap<&str, (), BuildHasherDefault<Weak>> = HashMap::default();
            words.extend(texts.iter().flat_map(|text| text.split('\n')).map(|word| (word, ())));
            words.into_keys().collect::<Vec<_>>().join("\n")
        })
    };
    let report = report(&unordered, &sets());
    let found = violated(&report, Law::Commutative);
    assert!(found.inputs.len() == 2 && bytes(found) <= 8, "{found}");
    assert!(
        matches!(report.verdict(Law::Deterministic), Some(Verdict::Holds { .. })),
        "a fresh instance repeats its order"
    );
}

#[test]
fn bytes_that_are_not_canonical_are_caught() {
    let appending = |divergence: &Divergence| {
        merge_texts(divergence, |texts| {
            let mut words: Vec<&str> = Vec::new();
            for word in texts.iter().flat_map(|text| text.split('\n')) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            words.join("\n") // in the order in which they came
        })
    };
    violated(&report(&appending, &sets()), Law::Commutative);
    let spaced = |divergence: &Divergence| {
        let merged = union(divergence)?;
        let Outcome::Value(value) = &merged.outcome else { return Ok(merged) };
        let text = format!("{}\n", String::from_utf8_lossy(value).trim_matches('\n'));
        let text = if divergence.siblings.len() > 2 { text } else { text.trim().to_owned() };
        Ok(Resolution { outcome: Outcome::Value(text.into()), ..merged })
    };
    let report = report(&spaced, &sets());
    let found = violated(&report, Law::Associative);
    assert!(found.to_string().contains("\\n"), "the invisible is shown: {found}");
}

/// A register by value: clients may write less than they read, and a fold would bring back what
/// they replaced. Only later writes show it.
#[test]
fn a_merge_that_revives_what_was_replaced_is_caught_by_the_derived_law() {
    let largest = |divergence: &Divergence| {
        merge_texts(divergence, |texts| {
            let rank = |text: &&str| (text.parse::<u64>().unwrap_or(0), (*text).to_owned());
            texts.into_iter().max_by_key(rank).unwrap_or_default().to_owned()
        })
    };
    let writes = |n: u64| {
        sample(
            Some("500".into()),
            vec![noise(n, 1), noise(n, 2)]
                .into_iter()
                .map(|value| (value % 600).to_string())
                .collect(),
        )
    };
    let samples: Vec<_> = (0..100).map(writes).collect();
    let found = report(&largest, &samples);
    assert!(matches!(found.verdict(Law::Idempotent), Some(Verdict::Holds { .. })));
    let derived = violated(&found, Law::Derived);
    let names: Vec<_> = derived.inputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "a'"]);

    let unknown: Vec<_> = samples
        .iter()
        .map(|sample| Divergence { ancestor: Ancestor::Unknown, ..sample.clone() })
        .collect();
    let found = report(&largest, &unknown);
    assert!(matches!(found.verdict(Law::Derived), Some(Verdict::NotCheckable { .. })));
}

#[test]
fn a_merge_with_an_ancestor_raises_no_false_alarm() {
    // Three ways: what differs from the base wins.
    let three_way = |divergence: &Divergence| {
        let Ancestor::Known(base) = &divergence.ancestor else { return union(divergence) };
        let base = base.value.clone().unwrap_or_default();
        let base: BTreeSet<_> = std::str::from_utf8(&base).expect("text").split('\n').collect();
        merge_texts(divergence, |texts| {
            let sets: Vec<BTreeSet<_>> =
                texts.iter().map(|text| text.split('\n').collect()).collect();
            let words: BTreeSet<_> = sets.iter().flatten().copied().collect();
            let kept = words
                .into_iter()
                .filter(|word| !base.contains(word) || sets.iter().all(|set| set.contains(word)));
            kept.collect::<Vec<_>>().join("\n")
        })
    };
    let samples: Vec<_> = (0..200)
        .map(|n| {
            sample(
                Some("ant\nbee".into()),
                vec![format!("ant\n{}", noise(n, 1) % 9), format!("bee\n{}", noise(n, 2) % 9)],
            )
        })
        .collect();
    let report = report(&three_way, &samples);
    for law in [Law::Associative, Law::Idempotent, Law::Derived] {
        let verdict = report.verdict(law).expect("an answer");
        assert!(
            matches!(verdict, Verdict::NotCheckable { why } if why.contains("ancestor")),
            "{law}: {verdict:?}"
        );
    }
    assert!(matches!(report.verdict(Law::Commutative), Some(Verdict::Holds { .. })));
    assert_eq!(report.violations().count(), 0);
}

#[test]
fn a_refusal_is_a_violation_of_totality_only_if_it_can_arise() {
    let strict = |divergence: &Divergence| {
        if texts(divergence).iter().all(|text| text.split('\n').all(|word| word.len() >= 3)) {
            return union(divergence);
        }
        let message = "short words".to_owned();
        Err(MergeFailure::Refused { reason: "malformed", sibling: Some(0), message })
    };
    let mutated = report(&strict, &sets());
    assert_eq!(mutated.violations().count(), 0, "{:?}", mutated.violations().next());
    let mut samples = sets();
    samples.push(sample(None, vec!["ant\nox".to_owned(), "bee".to_owned()]));
    let found = report(&strict, &samples);
    let total = violated(&found, Law::Total);
    assert!(total.to_string().contains("short words"), "{total}");
    assert_eq!(found.violations().count(), 1);
}

#[test]
fn mutations_find_what_samples_do_not_and_say_so() {
    // Wrong only for words that no sample has.
    let wrong = |divergence: &Divergence| {
        if texts(divergence).iter().any(|text| text.len() < 3) {
            return merge_texts(divergence, |texts| texts[0].to_owned());
        }
        union(divergence)
    };
    let plan = Plan { mutate: false, ..Plan::new(1_000, 1) };
    let tame = check(&wrong, &sets(), &plan).expect("checks");
    assert_eq!(tame.violations().count(), 0);
    let found = report(&wrong, &sets());
    let found = violated(&found, Law::Commutative);
    assert_ne!(found.origin, Origin::Sampled);
}

#[test]
fn a_budget_ends_a_check_without_making_up_a_verdict() {
    let merges = std::cell::Cell::new(0);
    let counting = |divergence: &Divergence| {
        merges.set(merges.get() + 1);
        union(divergence)
    };
    let plan = Plan { merges_max: 300, ..Plan::new(1_000, 1) };
    let found = check(&counting, &sets(), &plan).expect("checks");
    assert!(found.stopped.is_some_and(|why| why.contains("merges")));
    assert!(merges.get() <= 300 && found.merges == merges.get());
    let plan = Plan { fuel_max: 50, ..Plan::new(1_000, 1) };
    let found = check(&union, &sets(), &plan).expect("checks");
    assert!(found.fuel <= 50, "{}", found.fuel);
    assert!(found.verdicts().all(|(_, verdict)| matches!(verdict, Verdict::NotCheckable { .. })));

    // Making a counterexample smaller is charged as well.
    let first = |divergence: &Divergence| {
        merges.set(merges.get() + 1);
        merge_texts(divergence, |texts| texts[0].to_owned())
    };
    merges.set(0);
    let plan = Plan { merges_max: 900, ..Plan::new(1_000, 1) };
    let found = check(&first, &sets(), &plan).expect("checks");
    violated(&found, Law::Commutative);
    assert!(merges.get() <= 900);
}

#[test]
fn without_samples_nothing_is_concluded() {
    let found = report(&union, &[]);
    assert!(found.verdicts().all(|(_, verdict)| matches!(verdict, Verdict::NotCheckable { why }
        if why.contains("sampler"))));
}

#[test]
fn a_failing_node_is_not_taken_for_a_failing_module() {
    let busy = |_: &Divergence| Err(MergeFailure::Overloaded { limit: 1 });
    let failed = check(&busy, &sets(), &Plan::new(10, 1));
    assert_eq!(failed, Err(MergeFailure::Overloaded { limit: 1 }));
}

#[test]
fn a_counterexample_becomes_a_test() {
    let two = |divergence: &Divergence| {
        let mut first = divergence.clone();
        first.siblings.truncate(2);
        union(&first)
    };
    let found = report(&two, &sets());
    let text = violated(&found, Law::Associative).rust_test("words::Words");
    for part in [
        "#[test]",
        "fn merge_is_lawful_associative()",
        "use words::Words as Module;",
        "merge(&[&merge(&[&a, &b]), &c])",
        "let c = Version { value: Some(b\"",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
