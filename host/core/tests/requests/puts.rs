//! Scripts of puts.

use stator_core::catalogue::Durability;
use stator_core::causality::Context;
use stator_core::id::NodeId;
use stator_core::request::QuorumKind::{self, Sloppy, Strict};
use stator_core::request::put::{Next, Place, Put};
use stator_core::request::{Effect, PutReceipt, PutRequest, RequestError};

use crate::cast::{Cast, DEADLINE_MS, REPLICA_TIMEOUT_MS, Script, short, words, written};
use crate::history::{self, draft};

/// A put at `me`, whose dot is to come from one of `namers`.
fn put_at(
    cast: &Cast,
    me: &str,
    (deadline_ms, needed, kind): (u64, usize, QuorumKind),
    namers: &str,
    is_reachable: impl Fn(NodeId) -> bool,
) -> Put {
    let put = PutRequest {
        keyspace: cast.key.keyspace,
        key: cast.key.key.clone(),
        context: Context::default(),
        draft: draft(Some(1)),
        w: None,
        quorum: kind,
        durability: None,
        limits: history::NO_LIMITS,
        timeout_ms: deadline_ms,
    };
    let namers = namers.chars().map(|name| cast.node(&name.to_string())).collect();
    let place = (cast.node(me), &cast.list);
    Put::new(
        (1, put),
        cast.key.clone(),
        (deadline_ms, Durability::All, needed),
        place,
        namers,
        is_reachable,
    )
}

fn play_put(case: &str, (me, needed, kind, down): (&str, usize, QuorumKind, &str), script: Script) {
    let cast = Cast::new(if case.contains("no spare") { 0 } else { 2 });
    let is_reachable = |node| !cast.is_in(down, node);
    let (namers, case) = case.split_once(": ask ").map_or((me, case), |(case, who)| (who, case));
    let mut put = put_at(&cast, me, (DEADLINE_MS, needed, kind), namers, is_reachable);
    let mut next = Some(put.next_namer(REPLICA_TIMEOUT_MS));
    let mut now_ms = 0;
    for (step, expected) in script {
        let due_ms = now_ms + REPLICA_TIMEOUT_MS;
        let (verb, object) = words(step);
        let places = match verb {
            "start" => Vec::new(),
            "mint" => {
                let (dot, siblings) = written(1);
                put.minted(dot, siblings);
                put.spread(is_reachable, due_ms)
            }
            "lent" if put.is_borrowing() => {
                let (dot, siblings) = written(1);
                put.lent(dot, siblings);
                put.spread(is_reachable, due_ms)
            }
            "lent" => Vec::new(),
            "untouched" => {
                let (reason, effect) = (object.to_owned(), Effect::None);
                put.namer_failed(RequestError::Store { reason, effect });
                next = Some(put.next_namer(due_ms));
                Vec::new()
            }
            "ack" => {
                put.acknowledged(cast.node(object));
                Vec::new()
            }
            "fail" => put.debts.failed(cast.node(object), due_ms).into_iter().collect(),
            "stored" => {
                put.hint_stored(cast.node(object));
                Vec::new()
            }
            "at" => {
                now_ms = object.parse().unwrap();
                let overdue = put.debts.overdue(now_ms);
                let due_ms = now_ms + REPLICA_TIMEOUT_MS;
                if put.is_namer_overdue(now_ms) {
                    next = Some(put.next_namer(due_ms));
                }
                let mut places = put.debts.retry(now_ms, is_reachable, due_ms);
                places
                    .extend(overdue.into_iter().filter_map(|node| put.debts.is_late(node, due_ms)));
                places
            }
            "refused" => {
                let is_over = put.hint_failed(cast.node(object), "full".to_owned(), due_ms);
                assert!(!is_over, "{case}: {step}");
                Vec::new()
            }
            "stop" => put.debts.stop(),
            _ => panic!("{case}: {step}"),
        };
        let told = |place: Place| match place {
            Place::Owner(node) => format!("send {}", cast.name(node)),
            Place::Fallback { node, owner } => {
                format!("hint {} for {}", cast.name(node), cast.name(owner))
            }
            Place::Here { owner } => format!("keep for {}", cast.name(owner)),
        };
        let asked = next.take().and_then(|next| match next {
            Next::Mint(_) if namers == me => None,
            Next::Mint(_) => Some("mint here".to_owned()),
            Next::Borrow(node, _) => Some(format!("ask {}", cast.name(node))),
            Next::Refused(error) => Some(error.to_string()),
            Next::Wait => Some("wait".to_owned()),
        });
        let mut found: Vec<String> =
            asked.into_iter().chain(places.into_iter().map(told)).collect();
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
fn a_put_borrows_its_dot() {
    play_put(
        "an owner lends it, and all owners are sent the write: ask abc",
        ("x", 2, Sloppy, ""),
        &[
            ("start", "ask a"),
            ("lent", "send a; send b; send c"),
            ("lent", ""),
            ("ack b", ""),
            ("ack a", "ok 2 acked 0 hinted"),
            ("ack c", "finished"),
        ],
    );
    play_put(
        "a silent owner costs one time-out, and what it lends late is as good as another's: ask abc",
        ("x", 2, Sloppy, ""),
        &[
            ("at 499", "ask a"),
            ("at 500", "ask b"),
            ("lent", "send a; send b; send c"),
            ("lent", ""),
            ("ack b", ""),
            ("ack c", "ok 2 acked 0 hinted"),
            ("at 1000", "hint y for a"),
            ("ack y", "finished"),
        ],
    );
    play_put(
        "an owner that refuses is passed over; if all do that is the answer: ask ab",
        ("x", 2, Sloppy, ""),
        &[
            ("untouched full", "ask b"),
            ("untouched full", "the store of the coordinating node did not take the write: full"),
        ],
    );
    play_put(
        "with all silent a stranger mints a hint for all: ask a",
        ("x", 1, Sloppy, ""),
        &[
            ("at 500", "mint here"),
            ("lent", ""),
            ("mint", "send a; send b; send c; ok 1 acked 1 hinted"),
        ],
    );
    play_put(
        "not so if only owners count, and then nothing has happened: ask a",
        ("x", 1, Strict, ""),
        &[("at 500", "wait"), ("at 1999", ""), ("at 2000", "0 of 1, effect None; finished")],
    );
    play_put(
        "an owner whose turn it is not asks the first, then mints: ask abc",
        ("b", 2, Sloppy, ""),
        &[("at 500", "mint here"), ("lent", ""), ("mint", "send a; send c")],
    );
    play_put(
        "an owner that borrows keeps the write too: ask abc",
        ("b", 2, Sloppy, ""),
        &[
            ("lent", "ask a; send a; send b; send c"),
            ("ack b", ""),
            ("ack a", "ok 2 acked 0 hinted"),
            ("fail c", "hint x for c"),
            ("ack x", "finished"),
        ],
    );
    play_put(
        "who has nothing of it keeps the hint all the same: ask abc",
        ("x", 2, Sloppy, ""),
        &[
            ("lent", "ask a; send a; send b; send c"),
            ("ack b", ""),
            ("ack a", "ok 2 acked 0 hinted"),
            ("fail c", "hint y for c"),
            ("fail y", "keep for c"),
            ("stored c", "finished"),
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
        let put = put_at(&cast, me, (1, 1, kind), "", is_reachable);
        assert_eq!(put.possible(is_reachable), expected, "{me} {kind:?} without {down}");
        assert_eq!(put.is_owner(), me == "a");
    }
}

#[test]
fn a_put_that_must_reach_two_quorums_is_answered_when_both_are() {
    // Of the owners a, b and c two are needed, and of a one: n is on its way from 1 to 3, or back.
    let table: [(&str, &str, &[&str], bool); 5] = [
        ("a", "", &["b"], true),
        ("b", "", &["c"], false),
        ("b", "", &["c", "a"], true),
        // x stands in for a.
        ("b", "a", &["c", "x"], true),
        ("x", "ab", &["c", "y"], true),
    ];
    for (me, down, acks, is_answered) in table {
        let cast = Cast::new(2);
        let is_reachable = |node| !cast.is_in(down, node);
        let put = put_at(&cast, me, (DEADLINE_MS, 2, Sloppy), me, is_reachable);
        let mut put = put.reaching_also([cast.node("a")].into_iter(), 1);
        assert!(!put.is_out_of_reach(is_reachable));
        let (dot, siblings) = written(1);
        put.minted(dot, siblings);
        put.spread(is_reachable, REPLICA_TIMEOUT_MS);
        acks.iter().for_each(|ack| put.acknowledged(cast.node(ack)));
        let answer = put.take_answer(0, 1);
        assert_eq!(answer.is_some(), is_answered, "{me} without {down:?}: {acks:?}, {answer:?}");
        assert!(answer.is_none_or(|answer| answer.is_ok()));
    }
    let cast = Cast::new(2);
    let is_reachable = |node| !cast.is_in("a", node);
    let put = put_at(&cast, "b", (DEADLINE_MS, 2, Strict), "b", is_reachable);
    assert!(!put.is_out_of_reach(is_reachable));
    assert!(put.reaching_also([cast.node("a")].into_iter(), 1).is_out_of_reach(is_reachable));
}

#[test]
fn only_a_sole_version_comes_with_a_context() {
    let cast = Cast::new(0);
    for (puts, siblings_remaining) in [(1, 0), (3, 2)] {
        let (dot, siblings) = written(puts);
        let mut put = put_at(&cast, "a", (9, 1, Sloppy), "a", |_| true);
        put.minted(dot, siblings.clone());
        put.spread(|_| true, 5);
        let receipt = put.take_answer(0, 1).unwrap().unwrap();
        assert_eq!(receipt.siblings_remaining, siblings_remaining);
        let context = (siblings_remaining == 0).then(|| Context::of(&siblings));
        assert_eq!(receipt.context, context);
    }
}
