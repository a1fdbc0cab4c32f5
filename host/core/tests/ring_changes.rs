//! Changes of the ring in the catalogue: what can be staged, what a decision makes of it, and
//! that nobody who was removed comes back.

use std::sync::Arc;

use stator_core::catalogue::{
    Catalogue, CatalogueChange, ChangeError, Durability, KeyspaceSpec, Member, Merging, Quorums,
    Reconcile, RingChange, Secret, StageError, Versioned,
};
use stator_core::event::{Action, CommitError, CommitRequest, Event, Now};
use stator_core::id::{ClusterId, NodeId};
use stator_core::message::Message;
use stator_core::node::{Node, Settings};
use stator_core::ring::{PlanError, claim, plan};
use stator_core::tree::{TreeQuery, TreeRead};

fn member(number: u64) -> Member {
    Member {
        peer_address: format!("n{number}:7103"),
        client_address: format!("n{number}:7101"),
        admin_address: format!("n{number}:7102"),
        region: String::new(),
        zone: String::new(),
        weight: 1,
        incarnation: Default::default(),
    }
}

/// Three nodes with seats, and a fourth one without.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    for number in 1..=4 {
        catalogue.members.insert(NodeId(number), Versioned::new(member(number)));
    }
    let seats = catalogue.seats();
    catalogue.ring = claim(1, 16, 3, &seats[..3]).unwrap();
    catalogue
}

fn stage(catalogue: &mut Catalogue, change: RingChange) -> Result<(), StageError> {
    match CatalogueChange::StageRing(change).apply(catalogue) {
        Ok(()) => Ok(()),
        Err(ChangeError::Ring(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// What a commit of what is staged makes of the catalogue.
fn committed(catalogue: &Catalogue, nonce: u64) -> Catalogue {
    let decision = plan(catalogue).unwrap().decision(catalogue, 1_000, NodeId(1), nonce);
    let mut next = catalogue.clone();
    next.decide(&decision);
    next
}

const fn join(node: u64) -> RingChange {
    RingChange::Join { node: NodeId(node) }
}

const fn leave(node: u64) -> RingChange {
    RingChange::Leave { node: NodeId(node) }
}

const fn remove(node: u64) -> RingChange {
    RingChange::Remove { node: NodeId(node) }
}

fn weigh(node: u64, weight: u32) -> RingChange {
    RingChange::Set { node: NodeId(node), weight: Some(weight), zone: None, region: None }
}

#[test]
fn what_does_not_fit_is_not_staged() {
    let mut catalogue = catalogue();
    let before = catalogue.clone();
    let replace = |node, by| RingChange::Replace { node: NodeId(node), by: NodeId(by) };
    let long = RingChange::Set {
        node: NodeId(1),
        weight: None,
        zone: Some("z".repeat(129)),
        region: None,
    };
    let cases = [
        (join(1), StageError::HasSeat(NodeId(1))),
        (join(9), StageError::NoMember(NodeId(9))),
        (leave(4), StageError::NoSeat(NodeId(4))),
        (leave(9), StageError::NoMember(NodeId(9))),
        (replace(4, 1), StageError::NoSeat(NodeId(4))),
        (replace(1, 2), StageError::HasSeat(NodeId(2))),
        (replace(1, 9), StageError::NoMember(NodeId(9))),
        (weigh(9, 1), StageError::NoMember(NodeId(9))),
    ];
    for (change, error) in cases {
        assert_eq!(stage(&mut catalogue, change.clone()), Err(error), "{change:?}");
    }
    for change in [weigh(1, 0), weigh(1, 10_001), long, RingChange::Replicas { replicas_max: 0 }] {
        let refused = stage(&mut catalogue, change.clone());
        assert!(matches!(refused, Err(StageError::OutOfRange { .. })), "{change:?}: {refused:?}");
    }
    assert_eq!(catalogue, before);
    assert_eq!(plan(&catalogue), Err(PlanError::NothingStaged));

    stage(&mut catalogue, leave(1)).unwrap();
    stage(&mut catalogue, leave(2)).unwrap();
    assert_eq!(stage(&mut catalogue, remove(1)), Err(StageError::StagedAlready(NodeId(1))));
    assert_eq!(stage(&mut catalogue, leave(3)), Err(StageError::NobodyLeft));
    let twice = catalogue.clone();
    stage(&mut catalogue, leave(2)).unwrap();
    assert_eq!(catalogue, twice, "staging again changes nothing");
}

#[test]
fn a_keyspaces_n_bounds_the_owners_per_partition() {
    let mut catalogue = catalogue();
    let spec = KeyspaceSpec {
        name: "carts".to_owned(),
        quorums: Quorums { n: 3, r: 2, w: 2 },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
        read_repair_percent: 100,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    };
    CatalogueChange::CreateKeyspace(spec).apply(&mut catalogue).unwrap();
    let fewer = stage(&mut catalogue, RingChange::Replicas { replicas_max: 2 });
    assert_eq!(fewer, Err(StageError::NeedsReplicas { name: "carts".to_owned(), n: 3 }));
    stage(&mut catalogue, RingChange::Replicas { replicas_max: 4 }).unwrap();
    stage(&mut catalogue, join(4)).unwrap();
    let next = committed(&catalogue, 1);
    assert_eq!((next.ring.replicas_max(), next.ring.replicas()), (4, 4));
}

#[test]
fn what_is_staged_holds_for_one_ring() {
    let mut left = catalogue();
    stage(&mut left, weigh(1, 2)).unwrap();
    let mut right = left.clone();
    stage(&mut right, join(4)).unwrap();
    let left = committed(&left, 1);
    // The other operator's change was for the ring of before.
    right.join(&left).unwrap();
    assert_eq!(right.ring, left.ring);
    assert_eq!(right.staged_changes(), []);
    assert_eq!(right.history[&2].nonce, 1);
}

#[test]
fn a_weight_stays_committed_whatever_a_node_tells_of_its_addresses() {
    let mut catalogue = catalogue();
    let mut moved = catalogue.clone();
    stage(&mut catalogue, weigh(1, 3)).unwrap();
    let weighed = committed(&catalogue, 1);
    // Without having heard of it the node came back at another address.
    let there = Member { peer_address: "elsewhere:7103".to_owned(), ..member(1) };
    moved.members.get_mut(&NodeId(1)).unwrap().change(there);
    let (mut one, mut other) = (weighed.clone(), moved.clone());
    one.join(&moved).unwrap();
    other.join(&weighed).unwrap();
    assert_eq!(one, other);
    let known = &one.members[&NodeId(1)].value;
    assert_eq!((known.weight, known.peer_address.as_str()), (3, "elsewhere:7103"));
    let owned =
        |c: &Catalogue, n| c.ring.planned().iter().filter(|l| l.contains(&NodeId(n))).count();
    assert!(owned(&weighed, 1) >= owned(&weighed, 2));
}

#[test]
fn who_was_removed_never_comes_back() {
    let before = catalogue();
    let mut catalogue = before.clone();
    stage(&mut catalogue, RingChange::Replace { node: NodeId(2), by: NodeId(4) }).unwrap();
    let mut next = committed(&catalogue, 1);
    assert!(!next.members.contains_key(&NodeId(2)) && next.ring.has_seat(NodeId(4)));
    assert_eq!(next.removed[&NodeId(2)].peer_address, "n2:7103");
    // It serves still, until its successor holds what it held.
    assert!(next.ring.moves().iter().all(|m| (m.from, m.to) == (Some(NodeId(2)), Some(NodeId(4)))));

    let mut old = before;
    old.members.get_mut(&NodeId(2)).unwrap().change(member(2));
    next.join(&old).unwrap();
    old.join(&next).unwrap();
    assert_eq!(next, old);
    assert!(!next.members.contains_key(&NodeId(2)));
    let again =
        CatalogueChange::Admit { node: NodeId(2), member: Box::new(member(2)), change: join(2) };
    let refused = again.apply(&mut next).unwrap_err();
    let removed = StageError::Removed { node: NodeId(2), ring_version: 2 };
    assert_eq!(refused, ChangeError::Ring(removed));
}

#[test]
fn another_node_at_a_members_address_may_replace_it_only() {
    let mut catalogue = catalogue();
    let admit =
        |change| CatalogueChange::Admit { node: NodeId(7), member: Box::new(member(2)), change };
    let before = catalogue.clone();
    let taken = admit(join(7)).apply(&mut catalogue.clone()).unwrap_err();
    assert!(matches!(taken, ChangeError::Ring(StageError::AddressTaken { .. })), "{taken}");
    assert_eq!(catalogue, before);
    admit(RingChange::Replace { node: NodeId(2), by: NodeId(7) }).apply(&mut catalogue).unwrap();
    let next = committed(&catalogue, 1);
    assert!(next.ring.has_seat(NodeId(7)) && !next.members.contains_key(&NodeId(2)));
}

#[test]
fn who_leaves_is_a_member_until_it_has_nothing_left() {
    let mut catalogue = catalogue();
    stage(&mut catalogue, join(4)).unwrap();
    stage(&mut catalogue, leave(1)).unwrap();
    let mut next = committed(&catalogue, 1);
    assert!(next.is_leaving(NodeId(1)) && !next.is_leaving(NodeId(4)));
    let retire = CatalogueChange::Retire { node: NodeId(1), at_ms: 5 };
    let early = retire.apply(&mut next.clone()).unwrap_err();
    assert_eq!(early, ChangeError::Ring(StageError::StillOwns(NodeId(1))));
    for made in next.ring.moves().to_vec() {
        assert!(next.ring.hand_over(&made));
    }
    retire.apply(&mut next).unwrap();
    assert!(!next.members.contains_key(&NodeId(1)) && next.removed.contains_key(&NodeId(1)));
    // The acceptors of the next ring are those that it was claimed for, whatever has moved.
    assert_eq!(next.ring.seats(), [NodeId(2), NodeId(3), NodeId(4)]);
}

#[test]
fn who_leaves_takes_no_seat_until_it_is_gone() {
    let mut catalogue = catalogue();
    stage(&mut catalogue, join(4)).unwrap();
    stage(&mut catalogue, leave(1)).unwrap();
    let mut next = committed(&catalogue, 1);
    assert_eq!(stage(&mut next, join(1)), Err(StageError::IsLeaving(NodeId(1))));
    let replace = RingChange::Replace { node: NodeId(2), by: NodeId(1) };
    assert_eq!(stage(&mut next, replace), Err(StageError::IsLeaving(NodeId(1))));
}

#[test]
fn a_plan_counts_what_moves() {
    let mut catalogue = catalogue();
    stage(&mut catalogue, join(4)).unwrap();
    let plan = plan(&catalogue).unwrap();
    // Three of four nodes own each of 16 partitions: 12 each.
    assert_eq!((plan.slots_moved(), plan.slots_ideal, plan.firsts_moved), (12, 12, 4));
    assert_eq!(plan.bytes_moved(|_| 100), 1_200);
    let fourth = plan.nodes[&NodeId(4)];
    assert_eq!((fourth.slots_before, fourth.slots_after, fourth.slots_gained), (0, 12, 12));
    let lost: u32 = plan.nodes.values().map(|share| share.slots_lost).sum();
    assert_eq!((lost, plan.zones_shared), (12, (16, 16)), "all are of one zone");
}

#[test]
fn a_catalogue_of_before_has_nothing_staged_and_nobody_removed() {
    let catalogue = catalogue();
    let text = String::from_utf8(catalogue.encode()).unwrap();
    let old = text
        .replace(r#","staged":{"version":0,"value":{"base_ring_version":0,"changes":[]}}"#, "")
        .replace(r#","removed":{},"history":{}"#, "")
        .replace(r#","seats":["0000000000000001","0000000000000002","0000000000000003"]"#, "");
    assert!(old.len() < text.len() - 100, "{old}");
    let read = Catalogue::decode(old.as_bytes()).unwrap();
    assert_eq!(read.staged_changes(), []);
    assert!(read.removed.is_empty() && read.history.is_empty());
    assert_eq!(read.ring.seats(), catalogue.ring.seats());
}

/// A node of a cluster of one, which agrees with itself.
fn alone(catalogue: Catalogue) -> Node {
    Node::new(NodeId(1), Settings::default(), Some(Arc::new(catalogue)), 1, Now::default())
}

/// Hands in events and carries out what has to be persisted, until a commit is answered.
fn answer(node: &mut Node, event: Event) -> Option<Result<Arc<Catalogue>, CommitError>> {
    let mut events = vec![event];
    while let Some(event) = events.pop() {
        for action in node.on_event(Now::default(), event) {
            match action {
                Action::PersistBallot(token, _) => {
                    events.push(Event::BallotPersisted(token, Ok(())));
                }
                Action::Persist(token, _) => events.push(Event::Persisted(token, Ok(()))),
                Action::CommitDone(_, result) => return Some(result),
                _ => {}
            }
        }
    }
    None
}

fn of_one() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    catalogue.members.insert(NodeId(1), Versioned::new(member(1)));
    catalogue.ring = claim(1, 16, 3, &catalogue.seats()).unwrap();
    catalogue
}

fn request(expected_ring_version: u64) -> CommitRequest {
    CommitRequest { expected_ring_version, expected_plan: None, without_majority: false }
}

#[test]
fn a_cluster_of_one_commits_by_itself() {
    let mut catalogue = of_one();
    stage(&mut catalogue, weigh(1, 2)).unwrap();
    let mut node = alone(catalogue.clone());
    let other = answer(&mut node, Event::CommitRing(1, request(7)));
    assert_eq!(other, Some(Err(CommitError::OtherRing { expected: 7, found: 1 })));
    let expected_plan = Some(catalogue.plan_id() + 1);
    let other = CommitRequest { expected_plan, ..request(1) };
    let other = answer(&mut node, Event::CommitRing(2, other));
    assert_eq!(other, Some(Err(CommitError::OtherPlan)));
    let made = answer(&mut node, Event::CommitRing(3, request(1))).unwrap().unwrap();
    assert_eq!((made.ring.version(), made.members[&NodeId(1)].value.weight), (2, 2));
    let nothing = answer(&mut node, Event::CommitRing(4, request(2)));
    assert_eq!(nothing, Some(Err(CommitError::Plan(PlanError::NothingStaged))));
}

#[test]
fn a_node_whose_promises_are_lost_takes_no_part_in_the_next_ring() {
    let mut catalogue = of_one();
    stage(&mut catalogue, weigh(1, 2)).unwrap();
    let mut node = alone(catalogue);
    node.forget_ballot();
    assert_eq!(answer(&mut node, Event::CommitRing(1, request(1))), None);
    // In the end it says so.
    let late = Now { monotonic_ms: 60_000, wall_ms: 0 };
    let done = node.on_event(late, Event::Tick).into_iter().find_map(|action| match action {
        Action::CommitDone(1, result) => Some(result),
        _ => None,
    });
    let Some(Err(CommitError::NoMajority { answered: 0, needed: 1, .. })) = done else {
        panic!("{done:?}");
    };
}

#[test]
fn what_a_removed_node_sends_is_answered_with_its_removal_only() {
    let mut catalogue = catalogue();
    stage(&mut catalogue, remove(2)).unwrap();
    let mut node = alone(committed(&catalogue, 1));
    node.on_event(Now::default(), Event::Persisted(0, Ok(())));
    let digest = Message::CatalogueDigest { digest: [0; 32] };
    let told = node.on_event(Now::default(), Event::Received(NodeId(2), digest));
    let [Action::Send(NodeId(2), Message::Catalogue { catalogue: said, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(said.removed.contains_key(&NodeId(2)));
    assert!(said.members.is_empty() && said.context_secrets.value.is_empty());
    let partition = stator_core::id::PartitionId(0);
    let read = TreeRead { partition, query: TreeQuery::Roots };
    let read = Message::TreeRead { request: 1, ring_version: 1, is_fill: true, read };
    let told = node.on_event(Now::default(), Event::Received(NodeId(2), read));
    assert!(told.is_empty(), "{told:?}");
}
