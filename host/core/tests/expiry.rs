//! Versions that end: what counts them, what lets them go, and that owners agree about it.

mod history;

use std::sync::Arc;

use history::{NO_LIMITS, draft};
use stator_core::causality::{Context, Siblings, Survivors, VersionVector};
use stator_core::collect::{DEAD_ACTORS_MIN, Listed};
use stator_core::id::{Actor, Dot, Incarnation, NodeId};
use stator_core::record::Record;
use stator_core::version::{Origin, Version};
use stator_core::write::{
    Change, Draft, EXPIRED_MAX, Minter, SiblingLimits, WriteRefused, Written, write,
};

const PUT_MS: u64 = 1_000;
const TTL_MS: u64 = 10;
const FEW: SiblingLimits = SiblingLimits { siblings_max: 3, siblings_bytes_max: 1_000 };

fn minter(node: u64) -> Minter {
    Minter::new(NodeId(node), Incarnation(1))
}

fn put(ttl_ms: Option<u64>, (now_ms, passed_ms): (u64, u64), limits: SiblingLimits) -> Change {
    let draft = Draft { ttl_ms, ..draft(Some(1)) };
    let (context, ancestors) = (Context::default(), Default::default());
    Change::Mint {
        context,
        draft,
        now_ms,
        passed_ms,
        limits,
        ancestors,
        until_ms: u64::MAX,
        is_lent: false,
        allowance: None,
    }
}

fn done(
    stored: Option<Record>,
    change: &Change,
    survivors: Survivors,
    minter: &mut Minter,
) -> Record {
    let Written { record, .. } = write(stored, change, &[], survivors, minter).unwrap();
    record
}

/// Blind puts that expire.
fn pile(count: usize, minter: &mut Minter) -> Option<Record> {
    let change = put(Some(TTL_MS), (PUT_MS, 0), NO_LIMITS);
    (0..count).fold(None, |stored, _| Some(done(stored, &change, Survivors::All, minter)))
}

fn expire(record: &Record, passed_ms: u64, survivors: Survivors) -> Record {
    let change = Change::Expire { passed_ms, due_ms: 0 };
    done(Some(record.clone()), &change, survivors, &mut minter(9))
}

#[test]
fn what_has_expired_counts_for_no_limit() {
    let mut minter = minter(1);
    let stored = pile(100, &mut minter);
    let late = |record: Option<Record>, now_ms, minter: &mut Minter| {
        write(record, &put(None, (now_ms, 0), FEW), &[], Survivors::All, minter)
    };
    let refused = late(stored.clone(), PUT_MS, &mut minter).unwrap_err();
    assert_eq!(refused, WriteRefused::TooManySiblings { found: 100, max: 3 });
    let mut record = stored;
    for _ in 0..3 {
        record = Some(late(record, 9_000, &mut minter).unwrap().record);
    }
    assert_eq!(record.as_ref().unwrap().siblings.live_count(), 103, "one clock takes nothing away");
    let refused = late(record, 9_000, &mut minter).unwrap_err();
    assert_eq!(refused, WriteRefused::TooManySiblings { found: 3, max: 3 });
}

#[test]
fn what_cannot_be_let_go_piles_up_to_a_limit_of_its_own() {
    let mut minter = minter(1);
    let mut stored = pile(1, &mut minter).unwrap();
    let version = Version::clone(stored.siblings.live().next().unwrap().1);
    let actor = Actor { node: NodeId(2), incarnation: Incarnation(1), epoch: 0 };
    for counter in 1..EXPIRED_MAX as u64 {
        let (dot, seen) = (Dot { actor, counter }, VersionVector::new());
        let version = Version { origin: Origin::Client(dot), ..version.clone() };
        stored.siblings_mut().put(&seen, dot, Arc::new(version));
    }
    let put_at = |passed_ms| put(None, (9_000, passed_ms), FEW);
    let put_to = |stored: &Record, passed_ms, minter: &mut Minter| {
        write(Some(stored.clone()), &put_at(passed_ms), &[], Survivors::All, minter)
    };
    let refused = put_to(&stored, 0, &mut minter).unwrap_err();
    assert!(
        matches!(refused, WriteRefused::TooManyExpired { found: EXPIRED_MAX, .. }),
        "{refused}"
    );
    let record = put_to(&stored, 9_000, &mut minter).unwrap().record;
    assert_eq!(record.siblings.live_count(), 1, "all clocks are past it");
}

#[test]
fn owners_that_let_it_go_at_different_times_agree() {
    let mut minters = [minter(1), minter(2)];
    let short = put(Some(TTL_MS), (PUT_MS, 0), NO_LIMITS);
    let long = put(Some(5_000), (PUT_MS, 0), NO_LIMITS);
    let lasting = put(None, (PUT_MS, 0), NO_LIMITS);
    for survivors in [Survivors::All, Survivors::LastWrite] {
        let mut record = None;
        for (at, change) in [&lasting, &short, &long].into_iter().enumerate() {
            record = Some(done(record, change, survivors, &mut minters[at % 2]));
        }
        let whole = record.unwrap();
        let states: Vec<Record> =
            [0, 1_500, 7_000].iter().map(|at| expire(&whole, *at, survivors)).collect();
        for a in &states {
            for b in &states {
                let sync = |a: &Record, b: &Record| {
                    let change = Change::Sync(b.siblings.clone());
                    done(Some(a.clone()), &change, survivors, &mut minter(9)).siblings
                };
                assert_eq!(sync(a, b), sync(b, a), "{survivors:?}");
                let later = states.iter().rposition(|s| s == a || s == b).unwrap();
                assert_eq!(sync(a, b), states[later].siblings, "the later state stands");
            }
        }
        let left = |record: &Record| record.siblings.live().map(|(dot, _)| dot).collect::<Vec<_>>();
        match survivors {
            Survivors::All => {
                assert_eq!(states.iter().map(|s| left(s).len()).collect::<Vec<_>>(), [3, 2, 1]);
            }
            Survivors::LastWrite => {
                assert_eq!(left(&states[0]), left(&states[2]), "its tombstone still wins");
                assert!(!states[1].siblings.is_deleted() && states[2].siblings.is_deleted());
            }
        }
    }
}

#[test]
fn an_older_write_still_loses_against_a_last_write_that_has_expired() {
    let mut minters = [minter(1), minter(2)];
    let older =
        done(None, &put(None, (PUT_MS, 0), NO_LIMITS), Survivors::LastWrite, &mut minters[0]);
    let last = put(Some(TTL_MS), (2_000, 0), NO_LIMITS);
    let last = done(None, &last, Survivors::LastWrite, &mut minters[1]);
    let ended = expire(&last, 9_000, Survivors::LastWrite);
    for (mut a, b) in [(older.clone(), &ended), (ended.clone(), &older)] {
        Arc::make_mut(&mut a.siblings).sync(&b.siblings);
        Arc::make_mut(&mut a.siblings).keep(Survivors::LastWrite);
        assert!(a.siblings.is_deleted(), "{a:?}");
    }
    let mut back = Siblings::clone(&last.siblings);
    back.sync(&ended.siblings);
    assert_eq!(back, *ended.siblings, "what arrives late does not come back");
}

#[test]
fn a_record_is_listed_for_what_becomes_of_it() {
    let listed = |record: &Record, passed_ms| Listed::of(record, passed_ms, DEAD_ACTORS_MIN);
    let mut minter = minter(1);
    let lasting = done(None, &put(None, (PUT_MS, 0), NO_LIMITS), Survivors::All, &mut minter);
    assert_eq!(listed(&lasting, 0), Listed::default());
    let mixed = put(Some(TTL_MS), (PUT_MS, 0), NO_LIMITS);
    let mixed = done(Some(lasting), &mixed, Survivors::All, &mut minter);
    let due_ms = mixed.siblings.first_end_ms();
    assert_eq!(listed(&mixed, 0), Listed { is_forgettable: false, due_ms });
    assert_eq!(listed(&expire(&mixed, 9_000, Survivors::All), 0), Listed::default());
    let ended = expire(&pile(2, &mut minter).unwrap(), 9_000, Survivors::All);
    assert_eq!(listed(&ended, 0), Listed { is_forgettable: true, due_ms: None });
    assert!(ended.siblings.is_deleted() && !ended.siblings.vector().is_empty());
    let change = Change::Expire { passed_ms: 9_000, due_ms: 0 };
    let nothing = write(None, &change, &[], Survivors::All, &mut minter).unwrap();
    assert!(!nothing.is_changed, "nothing is stored for a key that is not held");
}
