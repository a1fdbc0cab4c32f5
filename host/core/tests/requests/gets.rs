//! Scripts of gets.

use stator_core::causality::Survivors;
use stator_core::request::QuorumKind::{self, Sloppy, Strict};
use stator_core::request::RequestError;
use stator_core::request::get::Get;

use crate::cast::{Cast, DEADLINE_MS, REPLICA_TIMEOUT_MS, Script, short, words, written};

fn play_get(case: &str, (needed, kind, down): (usize, QuorumKind, &str), script: Script) {
    let cast = Cast::new(2);
    let is_reachable = |node| (!cast.is_in(down, node)).then_some(0);
    let (rules, key) = ((kind, Survivors::All), cast.key.clone());
    let mut get = Get::new(Some(1), key, DEADLINE_MS, needed, rules, &cast.list, is_reachable);
    let mut now_ms = 0;
    let mut repaired = None;
    for (step, expected) in script {
        let (verb, object) = words(step);
        let mut failed = Vec::new();
        let mut late = Vec::new();
        let mut to_ask = 0;
        match verb {
            "start" => to_ask = 3,
            "none" => {
                get.answered(cast.node(object), None);
            }
            "has" => {
                let (name, puts) = words(object);
                let held = written(puts.parse().unwrap()).1;
                get.answered(cast.node(name), Some(held));
            }
            "fail" => failed.push((cast.node(object), false)),
            "damaged" => failed.push((cast.node(object), true)),
            "at" => {
                now_ms = object.parse().unwrap();
                late = get.overdue(now_ms);
            }
            _ => panic!("{case}: {step}"),
        }
        to_ask +=
            failed.into_iter().filter(|(node, is_damaged)| get.failed(*node, *is_damaged)).count();
        let due_ms = now_ms + REPLICA_TIMEOUT_MS;
        to_ask += late.into_iter().filter(|node| get.is_late(*node, due_ms)).count();
        let mut found = Vec::new();
        for (node, is_fallback) in (0..to_ask).filter_map(|_| get.next_to_ask(now_ms, due_ms)) {
            let as_what = if is_fallback { "hints of " } else { "" };
            found.push(format!("ask {as_what}{}", cast.name(node)));
        }
        found.extend(get.take_answer(now_ms, 1).map(|answer| match answer {
            Ok(receipt) => {
                format!("ok {} live, {} answered", receipt.siblings.live_count(), receipt.answered)
            }
            Err(RequestError::QuorumNotReached { needed, answered, effect }) => {
                short(needed, answered, effect)
            }
            Err(other) => panic!("{case}: {other}"),
        }));
        if get.is_finished(now_ms) {
            // The last step: what is left is the repair.
            let (_, stale) = std::mem::replace(&mut get, empty_get(&cast)).repairs();
            found.push("finished".to_owned());
            found.extend(stale.iter().map(|(node, _)| format!("repair {}", cast.name(*node))));
            assert!(repaired.replace(step).is_none(), "{case}: finished twice");
        }
        assert_eq!(found.join("; "), *expected, "{case}: {step}");
    }
    assert!(repaired.is_some(), "{case}: it never finished");
}

fn empty_get(cast: &Cast) -> Get {
    Get::new(None, cast.key.clone(), u64::MAX, 1, (Strict, Survivors::All), &cast.list, |_| Some(0))
}

#[test]
fn gets() {
    play_get(
        "owners agree",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("has a 1", ""),
            ("has b 1", "ok 1 live, 2 answered"),
            ("has c 1", "finished"),
        ],
    );
    play_get(
        "nobody knows the key, nobody is repaired",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("none a", ""),
            ("none b", "ok 0 live, 2 answered"),
            ("none c", "finished"),
        ],
    );
    play_get(
        "a late answer still tells who is stale",
        (1, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("has b 1", "ok 1 live, 1 answered"),
            ("none a", ""),
            ("has c 2", "finished; repair a; repair b"),
        ],
    );
    play_get(
        "who failed is not repaired, a fallback neither",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("fail a", "ask hints of x"),
            ("has b 2", ""),
            ("has x 1", "ok 2 live, 2 answered"),
            ("has c 2", "finished"),
        ],
    );
    play_get(
        "a damaged copy does not count and is repaired",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("damaged a", "ask hints of x"),
            ("has b 1", ""),
            ("has c 1", "ok 1 live, 2 answered"),
            ("none x", "finished; repair a"),
        ],
    );
    play_get(
        "an answer counts once",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("has a 1", ""),
            ("has a 1", ""),
            ("has c 1", "ok 1 live, 2 answered"),
            ("none b", "finished; repair b"),
        ],
    );
    play_get(
        "silence moves on",
        (2, Sloppy, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("has a 1", ""),
            ("at 500", "ask hints of x; ask hints of y"),
            ("none y", "ok 1 live, 2 answered"),
            ("none x", ""),
            ("none b", ""),
            ("at 1000", "finished; repair b"),
        ],
    );
    play_get(
        "who is slow still counts until the deadline",
        (2, Strict, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("fail c", ""),
            ("at 500", ""),
            ("has b 1", ""),
            ("has a 1", "ok 1 live, 2 answered; finished"),
        ],
    );
    play_get(
        "nodes known to be down are not asked",
        (2, Sloppy, "bc"),
        &[
            ("start", "ask a; ask hints of x; ask hints of y"),
            ("none x", ""),
            ("has a 1", "ok 1 live, 2 answered"),
            ("fail y", "finished"),
        ],
    );
    play_get(
        "a strict get asks owners only",
        (2, Strict, ""),
        &[
            ("start", "ask a; ask b; ask c"),
            ("fail a", ""),
            ("fail b", "0 of 2, effect None"),
            ("has c 1", "finished"),
        ],
    );
    play_get(
        "the deadline",
        (3, Sloppy, "y"),
        &[
            ("start", "ask a; ask b; ask c"),
            ("has a 1", ""),
            ("has b 1", ""),
            ("at 1900", "ask hints of x"),
            ("at 2000", "2 of 3, effect None"),
            ("at 2400", ""),
            ("at 2900", "finished"),
        ],
    );
}

#[test]
fn a_get_is_never_due_in_the_past() {
    let cast = Cast::new(2);
    let key = cast.key.clone();
    let rules = (Sloppy, Survivors::All);
    let mut get = Get::new(Some(1), key, 10_000, 1, rules, &cast.list, |_| Some(0));
    for due_ms in [500, 500, 5_000] {
        get.next_to_ask(0, due_ms);
    }
    get.answered(cast.node("a"), None);
    get.take_answer(0, 1);
    get.is_late(cast.node("b"), 1_000);
    assert_eq!(get.next_due_ms(), Some(5_000), "c is still waited for");
    get.answered(cast.node("c"), None);
    assert_eq!(get.next_due_ms(), Some(1_000));
    assert!(get.is_finished(1_000) && !get.is_finished(999));
}

#[test]
fn a_value_without_room_is_never_told_as_absent() {
    let cast = Cast::new(2);
    let no_room = RequestError::NoRoom { bytes_max: 7 };
    for needed in [1, 2] {
        let rules = (Sloppy, Survivors::All);
        let key = cast.key.clone();
        let mut get = Get::new(Some(1), key, 10_000, needed, rules, &cast.list, |_| Some(0));
        let asked: Vec<_> = (0..3).map(|_| get.next_to_ask(0, 500).expect("an owner").0).collect();
        get.has_no_room(asked[0], 7);
        assert_eq!(get.next_to_ask(0, 500), None, "no fallback stands in, which holds nothing");
        assert_eq!(get.take_answer(1, 1), None, "the others may answer");
        get.answered(asked[1], Some(written(1).1));
        get.has_no_room(asked[2], 7);
        match (needed, get.take_answer(2, 1).expect("certain")) {
            (1, Ok(receipt)) => assert_eq!(receipt.answered, 1),
            (2, Err(error)) => assert_eq!(error, no_room),
            (_, other) => panic!("{needed}: {other:?}"),
        }
    }
}
