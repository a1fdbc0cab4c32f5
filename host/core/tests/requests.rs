//! Gets and puts as scripts: what happens, and what the request wants done then.
//!
//! A key has the owners a, b, c and the fallbacks x, y. Replicas are due after 500 ms, the
//! client after 2,000. After every step the script names what the request asks for, then its
//! answer, then `finished`.

mod history;

use std::sync::Arc;

use history::draft;
use stator_core::causality::{Context, Fold, Siblings};
use stator_core::id::{Dot, Incarnation, NodeId};
use stator_core::keys::StoreKey;
use stator_core::message::PutReceipt;
use stator_core::request::get::Get;
use stator_core::request::put::{Asker, Place, Put};
use stator_core::request::{Effect, QuorumKind, RequestError};
use stator_core::ring::{PreferenceList, Seat, claim};
use stator_core::write::{Change, Minter, write};

const NAMES: [&str; 5] = ["a", "b", "c", "x", "y"];
const REPLICA_TIMEOUT_MS: u64 = 500;
const DEADLINE_MS: u64 = 2_000;

struct Cast {
    list: PreferenceList,
    key: StoreKey,
}

impl Cast {
    /// The nodes of a key with so many fallbacks.
    fn new(fallbacks: u64) -> Self {
        let seat = |id| Seat { node: NodeId(id), zone: String::new(), weight: 1 };
        let ring = claim(1, 8, 3, &(1..=3 + fallbacks).map(seat).collect::<Vec<_>>()).unwrap();
        let keyspace = stator_core::id::KeyspaceId(1);
        let partition = ring.partition(keyspace, b"k");
        let key = StoreKey { partition, keyspace, key: "k".into() };
        Cast { list: ring.preference_list(partition, 3), key }
    }

    fn node(&self, name: &str) -> NodeId {
        let place = NAMES.iter().position(|known| *known == name).unwrap();
        self.list.iter().nth(place).unwrap().node
    }

    fn name(&self, node: NodeId) -> &'static str {
        NAMES[self.list.iter().position(|replica| replica.node == node).unwrap()]
    }

    fn is_in(&self, names: &str, node: NodeId) -> bool {
        names.contains(self.name(node))
    }
}

/// A key after this many blind puts at one node.
fn written(puts: usize) -> (Dot, Arc<Siblings>) {
    let mut minter = Minter::new(NodeId(77), Incarnation(1), 0);
    let (mut record, mut dot) = (None, None);
    for value in 0..puts {
        let (context, draft) = (Context::default(), draft(Some(value as u8)));
        let change = Change::Mint { context, draft, now_ms: 1, limits: history::NO_LIMITS };
        let written = write(record, &change, &[], Fold::Keep, &mut minter).unwrap();
        (record, dot) = (Some(written.record), written.dot);
    }
    (dot.unwrap(), record.unwrap().siblings)
}

type Script<'a> = &'a [(&'a str, &'a str)];

fn words(step: &str) -> (&str, &str) {
    step.split_once(' ').unwrap_or((step, ""))
}

fn short(needed: u32, answered: u32, effect: Effect) -> String {
    format!("{answered} of {needed}, effect {effect:?}")
}

fn play_put(case: &str, (me, needed, kind, down): (&str, usize, QuorumKind, &str), script: Script) {
    let cast = Cast::new(if case.contains("no spare") { 0 } else { 2 });
    let is_reachable = |node| !cast.is_in(down, node);
    let asker = Asker::Client(1);
    let place = (cast.node(me), &cast.list);
    let key = cast.key.clone();
    let mut put = Put::new(asker, key, DEADLINE_MS, true, needed, kind, place, is_reachable);
    let mut now_ms = 0;
    for (step, expected) in script {
        let due_ms = now_ms + REPLICA_TIMEOUT_MS;
        let (verb, object) = words(step);
        let places = match verb {
            "mint" => {
                let (dot, siblings) = written(1);
                put.minted(dot, siblings, is_reachable, due_ms)
            }
            "ack" => {
                put.acknowledged(cast.node(object));
                Vec::new()
            }
            "fail" => put.failed(cast.node(object), due_ms).into_iter().collect(),
            "stored" => {
                put.hint_stored(cast.node(object));
                Vec::new()
            }
            "at" => {
                now_ms = object.parse().unwrap();
                let overdue = put.overdue(now_ms);
                let due_ms = now_ms + REPLICA_TIMEOUT_MS;
                let mut places = put.retry(now_ms, is_reachable, due_ms);
                places.extend(overdue.into_iter().filter_map(|node| put.is_late(node, due_ms)));
                places
            }
            "refused" => {
                let is_over = put.hint_failed(cast.node(object), "full".to_owned(), due_ms);
                assert!(!is_over, "{case}: {step}");
                Vec::new()
            }
            "stop" => put.stop(),
            _ => panic!("{case}: {step}"),
        };
        let told = |place: Place| match place {
            Place::Owner(node) => format!("send {}", cast.name(node)),
            Place::Fallback { node, owner } => {
                format!("hint {} for {}", cast.name(node), cast.name(owner))
            }
            Place::Here { owner } => format!("keep for {}", cast.name(owner)),
        };
        let mut found: Vec<String> = places.into_iter().map(told).collect();
        found.extend(put.take_answer(now_ms, 1).map(|answer| match answer {
            Ok(PutReceipt { acked, hinted, .. }) => format!("ok {acked} acked {hinted} hinted"),
            Err(RequestError::QuorumNotReached { needed, answered, effect }) => {
                short(needed, answered, effect)
            }
            Err(RequestError::Store { reason, effect }) => format!("{reason}, effect {effect:?}"),
            Err(other) => panic!("{case}: {other}"),
        }));
        found.extend(put.is_finished().then(|| "finished".to_owned()));
        assert_eq!(found.join("; "), *expected, "{case}: {step}");
    }
}

use QuorumKind::{Sloppy, Strict};

#[test]
fn puts() {
    play_put(
        "every owner acknowledges",
        ("a", 2, Sloppy, ""),
        &[("mint", "send b; send c"), ("ack c", "ok 2 acked 0 hinted"), ("ack b", "finished")],
    );
    play_put(
        "w=1 is answered by the coordinator alone",
        ("a", 1, Sloppy, ""),
        &[("mint", "send b; send c; ok 1 acked 0 hinted"), ("ack b", ""), ("ack c", "finished")],
    );
    play_put(
        "a duplicate acknowledgement counts once",
        ("a", 3, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("ack b", ""),
            ("ack b", ""),
            ("ack c", "ok 3 acked 0 hinted; finished"),
        ],
    );
    play_put(
        "refusals go to the spares, then home",
        ("a", 3, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("fail b", "hint x for b"),
            ("fail c", "hint y for c"),
            ("fail x", "keep for b; 1 of 3, effect Maybe"),
            ("ack y", ""),
            ("stored b", "finished"),
        ],
    );
    play_put(
        "hints count for a sloppy quorum",
        ("a", 3, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("ack b", ""),
            ("fail c", "hint x for c"),
            ("ack x", "ok 3 acked 1 hinted; finished"),
        ],
    );
    play_put(
        "an owner known to be down is owed a hint at once",
        ("a", 2, Sloppy, "bx"),
        &[
            ("mint", "hint y for b; send c"),
            ("ack y", "ok 2 acked 1 hinted"),
            ("ack c", "finished"),
        ],
    );
    play_put(
        "no spare: the coordinator keeps the hint",
        ("a", 2, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("fail c", "keep for c"),
            ("ack b", "ok 2 acked 0 hinted"),
            ("stored c", "finished"),
        ],
    );
    play_put(
        "silence ends at the replica's time, a late answer counts",
        ("a", 3, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("ack b", ""),
            ("at 499", ""),
            ("at 500", "hint x for c"),
            ("ack c", "ok 3 acked 0 hinted"),
            ("at 1000", "hint y for c"),
            ("at 1500", "keep for c"),
            ("stored c", "finished"),
        ],
    );
    play_put(
        "the client's deadline ends the answer, not the put",
        ("a", 2, Sloppy, ""),
        &[
            ("at 1900", ""),
            ("mint", "send b; send c"),
            ("at 2000", "1 of 2, effect Maybe"),
            ("ack b", ""),
            ("at 2400", "hint x for c"),
            ("ack x", "finished"),
        ],
    );
    play_put(
        "no spare and an owner known to be down: the hint comes before the answer",
        ("a", 1, Sloppy, "c"),
        &[
            ("mint", "send b; keep for c"),
            ("ack b", ""),
            ("stored c", "ok 2 acked 0 hinted; finished"),
        ],
    );
    play_put(
        "no spare and no room for a hint: refused before it is acknowledged, tried again",
        ("a", 1, Sloppy, "c"),
        &[
            ("mint", "send b; keep for c"),
            ("ack b", ""),
            ("refused c", "full, effect Maybe"),
            ("at 500", "keep for c"),
            ("stored c", "finished"),
        ],
    );
    play_put(
        "no spare: a hint that is refused later is tried again, with the owner if it is back",
        ("a", 1, Sloppy, ""),
        &[
            ("mint", "send b; send c; ok 1 acked 0 hinted"),
            ("ack b", ""),
            ("at 500", "keep for c"),
            ("refused c", ""),
            ("at 1000", "send c"),
            ("ack c", "finished"),
        ],
    );
    play_put(
        "a stop makes hints of what is owed",
        ("a", 2, Sloppy, ""),
        &[
            ("mint", "send b; send c"),
            ("ack b", "ok 2 acked 0 hinted"),
            ("stop", "keep for c"),
            ("stored c", "finished"),
        ],
    );
    play_put(
        "a mint that hangs is answered in time",
        ("a", 1, Sloppy, ""),
        &[
            ("at 1999", ""),
            ("at 2000", "0 of 1, effect Maybe"),
            ("mint", "send b; send c"),
            ("ack b", ""),
            ("ack c", "finished"),
        ],
    );
    play_put(
        "a strict put asks no fallback",
        ("a", 2, Strict, ""),
        &[
            ("mint", "send b; send c"),
            ("fail b", "keep for b"),
            ("fail c", "keep for c; 1 of 2, effect Maybe"),
            ("stored b", ""),
            ("stored c", "finished"),
        ],
    );
    play_put(
        "a fallback coordinates: its record is the hint",
        ("x", 2, Sloppy, "ab"),
        &[
            ("mint", "hint y for a; send c"),
            ("fail y", ""),
            ("ack c", "ok 2 acked 1 hinted; finished"),
        ],
    );
}

#[test]
fn a_put_knows_who_could_hold_it() {
    let cast = Cast::new(2);
    let table = [
        ("a", Sloppy, "", 5),
        ("a", Strict, "", 3),
        ("a", Sloppy, "bcxy", 1),
        ("a", Strict, "bc", 1),
        ("x", Sloppy, "", 5),
        ("x", Sloppy, "abcy", 1),
    ];
    for (me, kind, down, expected) in table {
        let is_reachable = |node| !cast.is_in(down, node);
        let place = (cast.node(me), &cast.list);
        let (asker, key) = (Asker::Client(1), cast.key.clone());
        let put = Put::new(asker, key, 1, true, 1, kind, place, is_reachable);
        assert_eq!(put.possible(is_reachable), expected, "{me} {kind:?} without {down}");
        assert_eq!(put.is_owner(), me == "a");
    }
}

#[test]
fn only_a_sole_version_comes_with_a_context() {
    let cast = Cast::new(0);
    for (puts, siblings_remaining) in [(1, 0), (3, 2)] {
        let (dot, siblings) = written(puts);
        let place = (cast.node("a"), &cast.list);
        let (asker, key) = (Asker::Client(1), cast.key.clone());
        let mut put = Put::new(asker, key, 9, true, 1, Sloppy, place, |_| true);
        put.minted(dot, siblings.clone(), |_| true, 5);
        let receipt = put.take_answer(0, 1).unwrap().unwrap();
        assert_eq!(receipt.siblings_remaining, siblings_remaining);
        let context = (siblings_remaining == 0).then(|| Context::of(&siblings));
        assert_eq!(receipt.context, context);
    }
}

fn play_get(case: &str, (needed, kind, down): (usize, QuorumKind, &str), script: Script) {
    let cast = Cast::new(2);
    let is_reachable = |node| !cast.is_in(down, node);
    let (rules, key) = ((kind, Fold::Keep), cast.key.clone());
    let mut get = Get::new(1, key, DEADLINE_MS, needed, rules, &cast.list, is_reachable);
    let mut now_ms = 0;
    let mut repaired = None;
    for (step, expected) in script {
        let (verb, object) = words(step);
        let mut failed = Vec::new();
        let mut late = Vec::new();
        let mut to_ask = 0;
        match verb {
            "start" => to_ask = 3,
            "none" => get.answered(cast.node(object), None),
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
        for (node, is_fallback) in (0..to_ask).filter_map(|_| get.next_to_ask(due_ms)) {
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
            found.extend(stale.iter().map(|node| format!("repair {}", cast.name(*node))));
            assert!(repaired.replace(step).is_none(), "{case}: finished twice");
        }
        assert_eq!(found.join("; "), *expected, "{case}: {step}");
    }
    assert!(repaired.is_some(), "{case}: it never finished");
}

fn empty_get(cast: &Cast) -> Get {
    Get::new(0, cast.key.clone(), u64::MAX, 1, (Strict, Fold::Keep), &cast.list, |_| true)
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
    let rules = (Sloppy, Fold::Keep);
    let mut get = Get::new(1, key, 10_000, 1, rules, &cast.list, |_| true);
    for due_ms in [500, 500, 5_000] {
        get.next_to_ask(due_ms);
    }
    get.answered(cast.node("a"), None);
    get.take_answer(0, 1);
    get.is_late(cast.node("b"), 1_000);
    assert_eq!(get.next_due_ms(), Some(5_000), "c is still waited for");
    get.answered(cast.node("c"), None);
    assert_eq!(get.next_due_ms(), Some(1_000));
    assert!(get.is_finished(1_000) && !get.is_finished(999));
}
