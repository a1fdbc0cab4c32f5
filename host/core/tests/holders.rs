//! Who is served as a member, among processes that all say they are it.

use stator_core::holder::{Found, Holder, Holders, PATIENCE_MS, SILENCE_MS, Standing};
use stator_core::id::{Incarnation, NodeId};

const NODE: NodeId = NodeId(7);

fn process(incarnation: u64, address: &str) -> Holder {
    let incarnation = Incarnation(incarnation);
    Holder { incarnation, peer_address: address.to_owned(), ..Holder::default() }
}

/// One that knows process 1 at `home`.
fn holders() -> Holders {
    let mut holders = Holders::default();
    holders.learn(0, NODE, 3, process(1, "home"));
    holders
}

#[test]
fn who_is_restarted_where_it_was_is_the_node_at_once() {
    let mut holders = holders();
    assert_eq!(holders.asks(10, NODE, &process(2, "home"), false), Standing::Asking);
    let found = Found::Process(process(2, "home"));
    assert_eq!(holders.answered(11, NODE, found), Some(process(2, "home")));
    assert_eq!(holders.asks(12, NODE, &process(2, "home"), false), Standing::Held);
    assert!(!holders.is_holder(NODE, Incarnation(1)), "the process of before is not any more");
    // A catalogue from before it was written there changes nothing; a later one does.
    holders.learn(13, NODE, 3, process(1, "home"));
    assert!(holders.is_holder(NODE, Incarnation(2)));
    holders.learn(14, NODE, 5, process(3, "else"));
    assert!(holders.is_holder(NODE, Incarnation(3)));
}

#[test]
fn of_two_holders_that_are_decided_at_once_the_catalogues_stands_with_all() {
    let mut holders = holders();
    let found = Found::Process(process(2, "home"));
    assert_eq!(holders.answered(10, NODE, found), Some(process(2, "home")));
    // As before that, and with it.
    holders.learn(11, NODE, 3, process(1, "home"));
    holders.learn(12, NODE, 4, process(2, "home"));
    assert!(holders.is_holder(NODE, Incarnation(2)));
    // Another member has written another one, in the same version, and gossip's join keeps that.
    holders.learn(13, NODE, 4, process(3, "away"));
    assert!(holders.is_holder(NODE, Incarnation(3)) && !holders.is_holder(NODE, Incarnation(2)));
}

#[test]
fn a_copy_is_refused_and_named_while_the_incumbent_lives() {
    let mut holders = holders();
    let copy = process(2, "away");
    for now_ms in (0..60_000).step_by(1_000) {
        let standing = holders.asks(now_ms, NODE, &copy, true);
        assert_eq!(standing, Standing::Refused(process(1, "home")));
        assert_eq!(holders.to_dial(now_ms, NODE, true), None);
        assert_eq!(holders.intruders(now_ms)[0].process, copy);
    }
    assert!(holders.intruders(80_000).is_empty(), "it has gone");
}

#[test]
fn who_comes_from_elsewhere_waits_until_the_incumbent_is_gone_and_is_found_there() {
    for (silence, patience_ms) in [(Found::Nobody, PATIENCE_MS), (Found::Silence, SILENCE_MS)] {
        let mut holders = holders();
        let moved = process(2, "away");
        let mut taken_ms = None;
        for now_ms in (0..SILENCE_MS + 3_000).step_by(500) {
            if holders.asks(now_ms, NODE, &moved, false) == Standing::Held {
                break;
            }
            if now_ms >= 2_000 {
                assert_eq!(holders.answered(now_ms, NODE, silence.clone()), None);
            }
            // Others hear of it for a while.
            if let Some(asked) = holders.to_dial(now_ms, NODE, now_ms < 4_000) {
                let found = Found::Process(asked.clone());
                assert_eq!(holders.found(now_ms, NODE, &asked, found), Some(moved.clone()));
                taken_ms = Some(now_ms);
            }
        }
        assert_eq!(taken_ms, Some(2_000 + patience_ms));
        assert!(!holders.is_holder(NODE, Incarnation(1)), "the old one is refused now");
    }
}

#[test]
fn an_incumbent_that_is_back_in_time_keeps_its_place() {
    let mut holders = holders();
    let copy = process(2, "away");
    for now_ms in (0..5_000).step_by(500) {
        holders.asks(now_ms, NODE, &copy, false);
        assert_eq!(holders.answered(now_ms, NODE, Found::Nobody), None);
    }
    // It was started anew, at home.
    let back = process(3, "home");
    assert_eq!(holders.answered(5_000, NODE, Found::Process(back.clone())), Some(back.clone()));
    for now_ms in (5_000..30_000).step_by(500) {
        assert_eq!(holders.asks(now_ms, NODE, &copy, true), Standing::Refused(back.clone()));
        assert_eq!(holders.to_dial(now_ms, NODE, false), None);
    }
}

#[test]
fn a_copy_that_says_it_is_where_the_original_was_gets_nowhere() {
    let mut holders = holders();
    let copy = process(2, "home");
    for now_ms in (0..60_000).step_by(500) {
        assert_eq!(holders.asks(now_ms, NODE, &copy, false), Standing::Asking);
        assert_eq!(holders.answered(now_ms, NODE, Found::Nobody), None);
        if let Some(asked) = holders.to_dial(now_ms, NODE, false) {
            assert_eq!(holders.found(now_ms, NODE, &asked, Found::Nobody), None);
        }
    }
    assert!(holders.is_holder(NODE, Incarnation(1)));
}
