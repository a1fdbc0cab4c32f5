//! One node, driven by hand: what it wants done after what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, Durability, KeyspaceSpec, Member, Merging, Quorums, Reconcile,
    Secret, Versioned,
};
use stator_core::causality::Context;
use stator_core::event::{Action, Area, Event, HeldHint, Now, StoreFailure, Stored, Token};
use stator_core::id::{ClusterId, Incarnation, KeyspaceId, NodeId};
use stator_core::keys::StoreKey;
use stator_core::message::{Message, ReplicaError};
use stator_core::node::{Node, Settings};
use stator_core::request::{PutRequest, QuorumKind};
use stator_core::ring::claim;
use stator_core::version::Payload;
use stator_core::write::{Draft, Minter, SiblingLimits, write};

const CARTS: &str = "carts";

fn keyspace() -> KeyspaceId {
    KeyspaceId::of(CARTS, 1)
}

/// Four members, three owners for each key.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    for node in 1..=4 {
        let address = String::new;
        let member = Member {
            peer_address: address(),
            client_address: address(),
            admin_address: address(),
            region: String::new(),
            zone: String::new(),
            weight: 1,
            incarnation: Default::default(),
        };
        catalogue.members.insert(NodeId(node), Versioned::new(member));
    }
    catalogue.ring = claim(1, 16, 3, &catalogue.seats()).unwrap();
    let spec = KeyspaceSpec {
        name: CARTS.to_owned(),
        quorums: Quorums { n: 3, r: 1, w: 1 },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
        read_repair_percent: 100,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    };
    CatalogueChange::CreateKeyspace(spec).apply(&mut catalogue).unwrap();
    catalogue
}

struct Driven {
    node: Node,
    now: Now,
    minter: Minter,
}

impl Driven {
    fn new(id: NodeId) -> Self {
        let now = Now { monotonic_ms: 0, wall_ms: 1_000_000 };
        let catalogue = Some(Arc::new(catalogue()));
        let node = Node::new(id, Settings::default(), catalogue, 1, now);
        Driven { node, now, minter: Minter::new(id, Incarnation(1)) }
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.node.on_event(self.now, event)
    }

    /// Lets time pass with all its timers.
    fn wait(&mut self, for_ms: u64) -> Vec<Action> {
        self.now.monotonic_ms += for_ms;
        self.tell(Event::Tick)
    }

    /// What the store answers to a write on a key that it holds nothing of.
    fn store(&mut self, action: &Action) -> Event {
        let Action::Write { token, change, targets, survivors, .. } = action else {
            panic!("not a write: {action:?}");
        };
        let written = write(None, change, targets, *survivors, &mut self.minter).unwrap();
        let stored = Stored {
            siblings: written.record.siblings,
            dot: written.dot,
            gained_ms: written.gained_ms,
        };
        Event::Written(*token, Ok(stored))
    }
}

fn put(key: &Bytes) -> PutRequest {
    PutRequest {
        keyspace: keyspace(),
        key: key.clone(),
        context: Context::default(),
        draft: Draft {
            payload: Payload::Value("v".into()),
            schema: 0,
            ttl_ms: None,
            labels: BTreeMap::new(),
            request: None,
        },
        w: None,
        quorum: QuorumKind::Sloppy,
        durability: None,
        limits: SiblingLimits { siblings_max: 8, siblings_bytes_max: 1 << 20 },
        timeout_ms: 1_000,
    }
}

/// A key that `node` does not own.
fn foreign_key(node: NodeId) -> (Bytes, Vec<NodeId>) {
    let ring = catalogue().ring;
    let keys = (0..).map(|i| Bytes::from(format!("key {i}")));
    let owners = |key: &Bytes| ring.owners(ring.partition(keyspace(), key)).collect::<Vec<_>>();
    keys.map(|key| (key.clone(), owners(&key))).find(|(_, o)| !o.contains(&node)).unwrap()
}

fn the_write(actions: &[Action], in_area: Area) -> Action {
    let is_it = |action: &&Action| matches!(action, Action::Write { area, .. } if *area == in_area);
    actions.iter().find(is_it).expect("a write").clone()
}

fn token(action: &Action) -> Token {
    match action {
        Action::Write { token, .. } => *token,
        other => panic!("not a write: {other:?}"),
    }
}

/// Tells that no forward can be sent, until the node coordinates the put itself.
fn refuse_forwards(driven: &mut Driven, mut actions: Vec<Action>) -> Vec<Action> {
    loop {
        let forward = actions.iter().find_map(|action| match action {
            Action::Send(to, Message::Forward { request, .. }) => Some((*to, *request)),
            _ => None,
        });
        let Some((to, request)) = forward else { return actions };
        actions = driven.tell(Event::Undelivered(to, request));
    }
}

#[test]
fn a_hint_minted_by_a_stranger_is_delivered() {
    let mut driven = Driven::new(NodeId(4));
    let (key, owners) = foreign_key(NodeId(4));
    // With no hint in store every target is done after its first, empty list.
    let actions = driven.wait(0);
    for action in actions {
        if let Action::ListHints { target, .. } = action {
            driven.tell(Event::HintsListed(target, Ok(Vec::new())));
        }
    }
    let actions = driven.tell(Event::Put(7, put(&key)));
    let actions = refuse_forwards(&mut driven, actions);
    let mint = the_write(&actions, Area::Hints);
    let stored = driven.store(&mint);
    driven.tell(stored);
    let listed: Vec<NodeId> = driven
        .wait(1_000)
        .into_iter()
        .filter_map(|action| match action {
            Action::ListHints { target, .. } => Some(target),
            _ => None,
        })
        .collect();
    assert!(owners.iter().all(|owner| listed.contains(owner)), "{listed:?} of {owners:?}");
}

#[test]
fn a_put_is_answered_once_though_its_mint_fails_after_the_deadline() {
    let mut driven = Driven::new(NodeId(4));
    let (key, _) = foreign_key(NodeId(4));
    let actions = driven.tell(Event::Put(7, put(&key)));
    let actions = refuse_forwards(&mut driven, actions);
    let mint = the_write(&actions, Area::Hints);
    let answers = |actions: Vec<Action>| {
        actions.into_iter().filter(|action| matches!(action, Action::PutDone(7, _))).count()
    };
    assert_eq!(answers(driven.wait(1_000)), 1);
    let failed = StoreFailure::Unavailable("full".to_owned());
    assert_eq!(answers(driven.tell(Event::Written(token(&mint), Err(failed)))), 0);
    assert_eq!(driven.node.requests_in_flight(), 0);
}

#[test]
fn a_hint_that_is_refused_does_not_hold_up_the_next() {
    let mut driven = Driven::new(NodeId(4));
    let (key, owners) = foreign_key(NodeId(4));
    driven.wait(0);
    let partition = catalogue().ring.partition(keyspace(), &key);
    let key = StoreKey { partition, keyspace: keyspace(), key };
    let hint = HeldHint { key: key.clone(), siblings: Arc::default(), sequence: 1 };
    let sent = driven.tell(Event::HintsListed(owners[0], Ok(vec![hint])));
    let Some(Action::Send(_, Message::Write(write))) = sent.first() else {
        panic!("nothing is sent: {sent:?}");
    };
    let result = Err(ReplicaError::UnknownKeyspace);
    let refused = Message::WriteReply { request: write.request, result };
    assert!(driven.tell(Event::Received(owners[0], refused)).is_empty(), "it waits a period");
    let is_next = |action: &Action| {
        matches!(action, Action::ListHints { target, after, .. }
            if *target == owners[0] && after.as_ref() == Some(&key))
    };
    assert!(driven.wait(1_000).iter().any(is_next), "the hints behind it are listed");
    // At the end of the list it starts over.
    driven.tell(Event::HintsListed(owners[0], Ok(Vec::new())));
    let is_first = |action: &Action| matches!(action, Action::ListHints { target, after: None, .. } if *target == owners[0]);
    assert!(driven.wait(1_000).iter().any(is_first), "what was refused is tried again");
}

#[test]
fn a_hint_list_goes_on_behind_its_last_key() {
    let mut driven = Driven::new(NodeId(4));
    let (key, owners) = foreign_key(NodeId(4));
    driven.wait(0);
    let partition = catalogue().ring.partition(keyspace(), &key);
    let key = StoreKey { partition, keyspace: keyspace(), key };
    let hint = HeldHint { key: key.clone(), siblings: Arc::default(), sequence: 1 };
    let sent = driven.tell(Event::HintsListed(owners[0], Ok(vec![hint])));
    let Some(Action::Send(to, Message::Write(write))) = sent.first() else {
        panic!("nothing is sent: {sent:?}");
    };
    assert!(*to == owners[0] && write.is_sync && write.hint_for.is_empty());
    let request = write.request;
    let done = Message::WriteReply { request, result: Ok(()) };
    let settle = driven.tell(Event::Received(owners[0], done));
    assert!(matches!(&settle[..], [Action::SettleHint { sequence: 1, .. }]), "{settle:?}");
    let next = driven.tell(Event::HintSettled(owners[0], keyspace(), true));
    let is_next = |action: &Action| matches!(action, Action::ListHints { after, .. } if after.as_ref() == Some(&key));
    assert!(next.iter().any(is_next), "{next:?}");
}

/// What is sent to other owners, as node 1 of three puts with `w` = 1.
fn put_of_an_owner(durability: Durability) -> (Driven, Action, Event, Vec<Action>) {
    let mut driven = Driven::new(NodeId(1));
    let (key, _) = foreign_key(NodeId(4));
    let wanted = PutRequest { durability: Some(durability), ..put(&key) };
    let actions = driven.tell(Event::Put(7, wanted));
    let mint = the_write(&actions, Area::Data);
    let written = driven.store(&mint);
    let Event::Written(token, Ok(stored)) = &written else { panic!("it is written") };
    let applied = Event::Applied(*token, stored.clone());
    let actions = match mint {
        Action::Write { is_told: true, .. } => driven.tell(applied),
        _ => Vec::new(),
    };
    (driven, mint, written, actions)
}

fn writes(actions: &[Action]) -> usize {
    let is_write = |action: &&Action| matches!(action, Action::Send(_, Message::Write(_)));
    actions.iter().filter(is_write).count()
}

fn is_done(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::PutDone(7, Ok(_))))
}

#[test]
fn others_sync_a_write_while_its_coordinator_does_and_each_counts_for_itself() {
    let (mut driven, _, written, actions) = put_of_an_owner(Durability::All);
    assert_eq!(writes(&actions), 2, "{actions:?}");
    assert!(!is_done(&actions), "nobody has synced it");
    let ended = driven.tell(written);
    assert!(is_done(&ended) && writes(&ended) == 0, "{ended:?}");

    // Another owner is the first.
    let (mut driven, mint, _, actions) = put_of_an_owner(Durability::All);
    let sent = actions.iter().find_map(|action| match action {
        Action::Send(to, Message::Write(write)) => Some((*to, write.request)),
        _ => None,
    });
    let (to, request) = sent.expect("it is sent");
    let reply = Message::WriteReply { request, result: Ok(()) };
    assert!(is_done(&driven.tell(Event::Received(to, reply))));
    assert_eq!(driven.node.requests_in_flight(), 1, "two owners are owed it");
    let failed = StoreFailure::Failed("the disk".to_owned());
    let ended = driven.tell(Event::Written(token(&mint), Err(failed)));
    assert!(!ended.iter().any(|action| matches!(action, Action::PutDone(..))), "{ended:?}");
}

#[test]
fn where_one_sync_is_all_that_is_promised_it_comes_first() {
    for durability in [Durability::One, Durability::Buffered] {
        let (mut driven, mint, written, actions) = put_of_an_owner(durability);
        assert!(actions.is_empty() && matches!(mint, Action::Write { is_told: false, .. }));
        assert_eq!(writes(&driven.tell(written)), 2);
    }
}
