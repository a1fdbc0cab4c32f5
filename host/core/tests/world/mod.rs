//! A few nodes driven by hand: messages go at once, time goes only when a test says so.
//!
//! Stores are maps that run the real write path and never fail unless told to. Probes are
//! dropped until [`World::with_probes`], so that by default every node is taken as reachable.
#![allow(dead_code)] // Not every field is looked at by a test.

mod trees;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, Durability, KeyspaceSpec, Member, Merging, Module, ModuleClass,
    Quorums, Reconcile, Secret, Versioned,
};
use stator_core::causality::{Context, Siblings};
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::event::{
    Action, Area, Backlog, ChangeFailure, Event, HeldHint, NotBroughtHome, Notice, Now,
    RepairError, RepairId, StoreFailure, Stored, Ticket,
};
use stator_core::id::{ClusterId, Incarnation, KeyspaceId, ModuleDigest, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::message::Message;
use stator_core::node::{Node, Settings};
use stator_core::record::Record;
use stator_core::request::{
    GetReceipt, GetRequest, PutReceipt, PutRequest, QuorumKind, ReplicaReceipt, ReplicaRefused,
    ReplicaRequest, RequestError,
};
use stator_core::ring::{PreferenceList, claim};
use stator_core::tree::{Addend, Trees};
use stator_core::version::Payload;
use stator_core::write::{Change, Draft, Minter, Settled, SiblingLimits, settle, write};

/// A module that every world knows.
pub const MODULE: ModuleDigest = ModuleDigest([7; 32]);
pub const KEY: &[u8] = b"cart:17850";

/// What becomes of messages to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// They arrive.
    Up,
    /// They are lost, and nobody is told.
    Silent,
    /// They cannot be sent, and the sender is told.
    Refused,
}

pub struct Host {
    pub node: Node,
    pub link: Link,
    pub store: BTreeMap<(Area, StoreKey), Record>,
    /// If set, writes do not end until [`World::fail_writes`].
    pub is_store_stuck: bool,
    /// If set, hints cannot be listed.
    pub is_list_broken: bool,
    /// Keys whose records cannot be read.
    pub damaged: BTreeSet<Bytes>,
    /// The most objects of a page.
    pub page_max: usize,
    /// If set, moves are not saved until [`World::save_moves`].
    pub are_moves_stuck: bool,
    stuck_moves: Vec<stator_core::event::Token>,
    /// The version of the ring that was saved last.
    pub saved_ring: u64,
    /// If set, what is left of a fill cannot be saved.
    pub is_backlog_refused: bool,
    /// What is left of a fill, as persisted.
    pub backlog: Option<Backlog>,
    /// What [`Self::store`] adds up to; `None` after a test has changed it.
    pub trees: Option<Trees>,
    /// The partitions whose trees were to be rebuilt.
    pub rebuilt: Vec<PartitionId>,
    stuck: Vec<stator_core::event::Token>,
    minter: Minter,
    sequence: u64,
}

pub struct World {
    pub hosts: BTreeMap<NodeId, Host>,
    pub now: Now,
    pub with_probes: bool,
    /// Messages that are kept back while this says so.
    pub hold: fn(&Message) -> bool,
    pub held: Vec<(NodeId, NodeId, Message)>,
    /// Every message that was sent, for tests that look at what was said.
    pub sent: Vec<(NodeId, NodeId, Message)>,
    pub notices: Vec<(NodeId, Notice)>,
    pub gets: BTreeMap<Ticket, Result<GetReceipt, RequestError>>,
    pub replicas: BTreeMap<Ticket, Result<ReplicaReceipt, ReplicaRefused>>,
    pub puts: Vec<(Ticket, Result<PutReceipt, RequestError>)>,
    pub changes: BTreeMap<Ticket, Result<Arc<Catalogue>, ChangeFailure>>,
    pub repairs: BTreeMap<Ticket, Result<RepairId, RepairError>>,
    pub brought_home: BTreeMap<Ticket, Result<(), NotBroughtHome>>,
    /// What modules answer.
    pub merge: fn(&Divergence) -> Result<Arc<Resolution>, MergeFailure>,
    /// How often they were asked.
    pub merges: usize,
    /// How many events nodes have taken, and how long they took.
    pub events: u64,
    pub time_in_nodes: Duration,
    queue: VecDeque<(NodeId, Event)>,
    tickets: Ticket,
}

/// A keyspace of three replicas, of which two must answer.
pub fn carts() -> KeyspaceSpec {
    KeyspaceSpec {
        name: "carts".to_owned(),
        quorums: Quorums { n: 3, r: 2, w: 2 },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
        // What these tests look at is what a get repairs.
        read_repair_percent: 100,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    }
}

pub fn catalogue(members: u64) -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([7; 32]));
    for node in 1..=members {
        let member = Member {
            peer_address: format!("node-{node}:7000"),
            client_address: format!("node-{node}:7001"),
            admin_address: format!("node-{node}:7002"),
            region: String::new(),
            zone: String::new(),
            weight: 1,
            incarnation: Default::default(),
        };
        catalogue.members.insert(NodeId(node), Versioned::new(member));
    }
    catalogue.ring = claim(1, 8, 3, &catalogue.seats()).unwrap();
    catalogue
}

pub fn put_of(value: &str) -> PutRequest {
    PutRequest {
        keyspace: KeyspaceId::of("carts", 1),
        key: Bytes::from_static(KEY),
        context: Context::default(),
        draft: Draft {
            payload: Payload::Value(Bytes::copy_from_slice(value.as_bytes())),
            schema: 0,
            ttl_ms: None,
            labels: BTreeMap::new(),
            request: None,
        },
        w: None,
        quorum: QuorumKind::Sloppy,
        durability: None,
        limits: SiblingLimits { siblings_max: 100, siblings_bytes_max: 1 << 20 },
        timeout_ms: 2_000,
    }
}

impl World {
    /// `members` nodes of one cluster, with the keyspace [`carts`].
    pub fn new(members: u64) -> Self {
        Self::with(members, carts())
    }

    /// The same with this keyspace, which may name the module [`MODULE`].
    pub fn with(members: u64, keyspace: KeyspaceSpec) -> Self {
        // A test that wants exchanges asks for them.
        let settings = Settings { exchange_cover_ms: 0, ..Settings::default() };
        Self::with_settings(members, keyspace, settings)
    }

    /// The same with these settings of every node.
    pub fn with_settings(members: u64, keyspace: KeyspaceSpec, settings: Settings) -> Self {
        Self::knowing(members, catalogue(members), keyspace, settings)
    }

    /// The same with this catalogue, of the same members.
    pub fn knowing(
        members: u64,
        mut known: Catalogue,
        keyspace: KeyspaceSpec,
        settings: Settings,
    ) -> Self {
        let module = Module {
            pushed_at_ms: 0,
            name: "union".to_owned(),
            size_bytes: 0,
            class: ModuleClass::Small,
            generation: 0,
            is_deleted: false,
            laws: None,
            signatures: Default::default(),
        };
        CatalogueChange::AddModule { digest: MODULE, module }.apply(&mut known).unwrap();
        CatalogueChange::CreateKeyspace(keyspace).apply(&mut known).unwrap();
        let known = Arc::new(known);
        let now = Now { monotonic_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let host = |id: u64| {
            let node = NodeId(id);
            let host = Host {
                node: Node::new(node, settings, Some(known.clone()), id, now),
                link: Link::Up,
                store: BTreeMap::new(),
                is_store_stuck: false,
                is_list_broken: false,
                damaged: BTreeSet::new(),
                page_max: 2,
                are_moves_stuck: false,
                stuck_moves: Vec::new(),
                saved_ring: 0,
                is_backlog_refused: false,
                backlog: None,
                trees: None,
                rebuilt: Vec::new(),
                stuck: Vec::new(),
                minter: Minter::new(node, Incarnation(id)),
                sequence: 0,
            };
            (node, host)
        };
        World {
            hosts: (1..=members).map(host).collect(),
            now,
            with_probes: false,
            hold: |_| false,
            held: Vec::new(),
            sent: Vec::new(),
            notices: Vec::new(),
            gets: BTreeMap::new(),
            replicas: BTreeMap::new(),
            puts: Vec::new(),
            changes: BTreeMap::new(),
            repairs: BTreeMap::new(),
            brought_home: BTreeMap::new(),
            merge: union,
            merges: 0,
            events: 0,
            time_in_nodes: Duration::ZERO,
            queue: VecDeque::new(),
            tickets: 0,
        }
    }

    pub fn host(&mut self, id: NodeId) -> &mut Host {
        self.hosts.get_mut(&id).unwrap()
    }

    /// The preference list of [`KEY`].
    pub fn list(&self) -> PreferenceList {
        let catalogue = self.hosts.values().next().unwrap().node.catalogue().unwrap();
        let partition = catalogue.ring.partition(KeyspaceId::of("carts", 1), KEY);
        catalogue.ring.preference_list(partition, 3)
    }

    /// What `id` holds of [`KEY`] in `area`.
    pub fn record(&self, id: NodeId, area: Area) -> Option<&Record> {
        self.hosts[&id].store.iter().find(|((a, _), _)| *a == area).map(|(_, record)| record)
    }

    /// The values that `id` holds of [`KEY`] in `area`, in dot order.
    pub fn values(&self, id: NodeId, area: Area) -> Vec<String> {
        let siblings = self.record(id, area).map(|record| record.siblings.clone());
        values(&siblings.unwrap_or_default())
    }

    /// Starts a put and lets everything happen that needs no time.
    pub fn put(&mut self, at: NodeId, put: PutRequest) -> Ticket {
        self.tickets += 1;
        self.happen(at, Event::Put(self.tickets, put));
        self.tickets
    }

    /// A get of [`KEY`], likewise.
    pub fn get(&mut self, at: NodeId) -> Ticket {
        self.get_key(at, Bytes::from_static(KEY))
    }

    pub fn get_key(&mut self, at: NodeId, key: Bytes) -> Ticket {
        self.tickets += 1;
        let get = GetRequest {
            keyspace: KeyspaceId::of("carts", 1),
            key,
            r: None,
            quorum: QuorumKind::Sloppy,
            timeout_ms: 2_000,
        };
        self.happen(at, Event::Get(self.tickets, get));
        self.tickets
    }

    /// Any get.
    pub fn ask(&mut self, at: NodeId, get: GetRequest) -> Ticket {
        self.tickets += 1;
        self.happen(at, Event::Get(self.tickets, get));
        self.tickets
    }

    /// What `at` answers a client that asks it, by this ring, for what it holds of [`KEY`].
    pub fn replica(
        &mut self,
        at: NodeId,
        ring_version: u64,
    ) -> Result<ReplicaReceipt, ReplicaRefused> {
        self.tickets += 1;
        let (keyspace, key) = (KeyspaceId::of("carts", 1), Bytes::from_static(KEY));
        let request = ReplicaRequest { keyspace, key, ring_version, timeout_ms: 2_000 };
        self.happen(at, Event::GetReplica(self.tickets, request));
        self.replicas.remove(&self.tickets).expect("answered at once")
    }

    pub fn change(&mut self, at: NodeId, change: CatalogueChange) -> Ticket {
        self.tickets += 1;
        self.happen(at, Event::Change(self.tickets, change));
        self.tickets
    }

    /// The answers to a put: there must never be more than one.
    pub fn answers(&self, ticket: Ticket) -> Vec<&Result<PutReceipt, RequestError>> {
        self.puts.iter().filter(|(t, _)| *t == ticket).map(|(_, answer)| answer).collect()
    }

    /// The receipt of a put that must have succeeded.
    pub fn receipt(&self, ticket: Ticket) -> &PutReceipt {
        match self.answers(ticket)[..] {
            [Ok(receipt)] => receipt,
            ref other => panic!("one receipt was expected: {other:?}"),
        }
    }

    pub fn has_noticed(&self, node: NodeId, notice: &Notice) -> bool {
        self.notices.iter().any(|(n, found)| *n == node && found == notice)
    }

    /// Delivers what was kept back, and keeps back no more.
    pub fn release(&mut self) {
        self.hold = |_| false;
        for (from, to, message) in std::mem::take(&mut self.held) {
            self.queue.push_back((to, Event::Received(from, message)));
        }
        self.run();
    }

    /// Ends the writes that hang in the store of `id`.
    pub fn fail_writes(&mut self, id: NodeId) {
        for token in std::mem::take(&mut self.host(id).stuck) {
            let failure = StoreFailure::Unavailable("out of service".to_owned());
            self.happen(id, Event::Written(token, Err(failure)));
        }
    }

    /// Ends the saves of moves that hang at `id`, well or not.
    pub fn save_moves(&mut self, id: NodeId, result: &Result<(), String>) {
        for token in std::mem::take(&mut self.host(id).stuck_moves) {
            self.happen(id, Event::Persisted(token, result.clone()));
        }
    }

    /// Lets time pass.
    pub fn pass_ms(&mut self, ms: u64) {
        let until_ms = self.now.monotonic_ms + ms;
        loop {
            let due = |(id, host): (&NodeId, &Host)| Some((host.node.next_timer_ms()?, *id));
            match self.hosts.iter().filter_map(due).min() {
                Some((at_ms, id)) if at_ms <= until_ms => {
                    self.advance_to(at_ms);
                    self.happen(id, Event::Tick);
                }
                _ => return self.advance_to(until_ms),
            }
        }
    }

    fn advance_to(&mut self, monotonic_ms: u64) {
        let passed = monotonic_ms.saturating_sub(self.now.monotonic_ms);
        self.now.monotonic_ms += passed;
        self.now.wall_ms += passed;
    }

    pub fn happen(&mut self, at: NodeId, event: Event) {
        self.queue.push_back((at, event));
        self.run();
    }

    fn run(&mut self) {
        while let Some((at, event)) = self.queue.pop_front() {
            let now = self.now;
            let begun = Instant::now();
            let actions = self.host(at).node.on_event(now, event);
            self.time_in_nodes += begun.elapsed();
            self.events += 1;
            actions.into_iter().for_each(|action| self.carry_out(at, action));
        }
    }

    fn carry_out(&mut self, at: NodeId, action: Action) {
        match action {
            Action::GetDone(ticket, result) => drop(self.gets.insert(ticket, result)),
            Action::ReplicaDone(ticket, result) => drop(self.replicas.insert(ticket, result)),
            Action::PutDone(ticket, result) => self.puts.push((ticket, result)),
            Action::ChangeDone(ticket, result) => drop(self.changes.insert(ticket, result)),
            Action::Notice(notice) => self.notices.push((at, notice)),
            Action::BroughtHome(ticket, result) => drop(self.brought_home.insert(ticket, result)),
            Action::RepairStarted(ticket, result) => drop(self.repairs.insert(ticket, result)),
            Action::CatalogueChanged(_) | Action::ReadUsage => {}
            Action::PersistFill(token, backlog) => {
                let result = self.host(at).save(backlog);
                self.queue.push_back((at, Event::Persisted(token, result)));
            }
            Action::Merge { token, divergence, .. } => {
                self.merges += 1;
                let result = (self.merge)(&divergence);
                self.queue.push_back((at, Event::Merged(token, result)));
            }
            Action::PersistMoves(token, _) if self.hosts[&at].are_moves_stuck => {
                self.host(at).stuck_moves.push(token);
            }
            Action::Persist(token, catalogue) => {
                self.host(at).saved_ring = catalogue.ring.version();
                self.queue.push_back((at, Event::Persisted(token, Ok(()))));
            }
            Action::PersistMoves(token, _) | Action::PersistEpochs(token, _) => {
                self.queue.push_back((at, Event::Persisted(token, Ok(()))));
            }
            Action::Send(to, message) => self.send(at, to, message),
            Action::Probe(to, bytes) => {
                let ends = [at, to].map(|end| self.hosts[&end].link);
                if self.with_probes && ends == [Link::Up; 2] {
                    self.queue.push_back((to, Event::Probed(bytes)));
                }
            }
            stores => {
                let event = self.host(at).stores(stores);
                self.queue.extend(event.map(|event| (at, event)));
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.sent.push((from, to, message.clone()));
        match (self.hosts[&from].link, self.hosts[&to].link) {
            (Link::Up, Link::Up) if (self.hold)(&message) => self.held.push((from, to, message)),
            (Link::Up, Link::Up) => {
                self.queue.push_back((to, Event::Received(from, message)));
            }
            (_, Link::Refused) => {
                if let Some(request) = message.starts_request() {
                    self.queue.push_back((from, Event::Undelivered(to, request)));
                }
            }
            _ => {}
        }
    }
}

impl Host {
    fn save(&mut self, backlog: Backlog) -> Result<(), String> {
        if self.is_backlog_refused {
            return Err("the disk is full".to_owned());
        }
        self.backlog = Some(backlog);
        Ok(())
    }

    fn stores(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Load { token, key, .. } if self.damaged.contains(&key.key) => {
                Event::Loaded(token, Err(StoreFailure::Damaged))
            }
            Action::Load { token, key, with_hints } => {
                let mut areas = vec![Area::Data];
                areas.extend(with_hints.then_some(Area::Hints));
                let records: Vec<&Record> =
                    areas.iter().filter_map(|area| self.store.get(&(*area, key.clone()))).collect();
                let mut joined = Siblings::new();
                records.iter().for_each(|record| joined.sync(&record.siblings));
                Event::Loaded(token, Ok((!records.is_empty()).then(|| Arc::new(joined))))
            }
            Action::Write { token, .. } if self.is_store_stuck => {
                self.stuck.push(token);
                return None;
            }
            Action::ReadTree { token, read } => Event::TreeRead(token, Ok(self.read_tree(&read))),
            Action::RebuildTree(partition) => {
                self.rebuilt.push(partition);
                self.trees = None;
                return None;
            }
            Action::DropPartition { token, partition, keyspace } => {
                let goes = |key: &StoreKey| {
                    key.partition == partition && keyspace.is_none_or(|only| only == key.keyspace)
                };
                self.store.retain(|(area, key), _| *area != Area::Data || !goes(key));
                self.trees = None;
                Event::Dropped(token, Ok(()))
            }
            Action::ReadIndex { token, query, count_max } => {
                Event::IndexRead(token, Ok(self.read_index(&query, count_max)))
            }
            Action::FindAny { token, area, partition } => {
                let mut keys = self.store.keys();
                let found = keys.any(|(a, key)| *a == area && key.partition == partition);
                Event::FoundAny(token, Ok(found))
            }
            Action::Write {
                token,
                change: Change::Attest(_) | Change::Collect(_),
                ref key,
                ..
            } if self.damaged.contains(&key.key) => {
                Event::Written(token, Err(StoreFailure::Damaged))
            }
            Action::Write { token, area, key, change, targets, survivors, .. } => {
                let place = (area, key);
                let is_damaged = self.damaged.remove(&place.1.key);
                let stored = self.store.get(&place).filter(|_| !is_damaged).cloned();
                let old = stored.as_ref().map(|record| Addend::of(&place.1, &record.siblings));
                Event::Written(
                    token,
                    write(stored, &change, &targets, survivors, &mut self.minter)
                        .map(|written| {
                            let (dot, siblings) = (written.dot, written.record.siblings.clone());
                            let gained_ms = written.gained_ms;
                            if !written.is_changed {
                                return Stored { siblings, dot, gained_ms };
                            }
                            if written.is_removed {
                                let trees = self.trees.iter_mut();
                                trees.for_each(|trees| match is_damaged {
                                    true => trees.mended(&place.1, None),
                                    false => trees.changed(&place.1, old, None),
                                });
                                self.store.remove(&place);
                                return Stored { siblings, dot, gained_ms };
                            }
                            self.sequence += 1;
                            let record = Record { sequence: self.sequence, ..written.record };
                            let siblings = record.siblings.clone();
                            if let (Area::Data, Some(trees)) = (area, &mut self.trees) {
                                let new = Addend::of(&place.1, &siblings);
                                match is_damaged {
                                    true => trees.mended(&place.1, Some(new)),
                                    false => trees.changed(&place.1, old, Some(new)),
                                }
                            }
                            self.store.insert(place, record);
                            Stored { siblings, dot, gained_ms }
                        })
                        .map_err(StoreFailure::from),
                )
            }
            Action::ListHints { target, after, count_max } => {
                let is_listed = |key: &StoreKey| after.as_ref().is_none_or(|after| key > after);
                let hints = self.store.iter().filter(|((area, key), record)| {
                    *area == Area::Hints && record.targets.contains(&target) && is_listed(key)
                });
                let held = hints.map(|((_, key), record)| HeldHint {
                    key: key.clone(),
                    siblings: record.siblings.clone(),
                    sequence: record.sequence,
                });
                if self.is_list_broken {
                    let failure = StoreFailure::Unavailable("out of service".to_owned());
                    return Some(Event::HintsListed(target, Err(failure)));
                }
                Event::HintsListed(target, Ok(held.take(count_max).collect()))
            }
            Action::SettleHint { target, key, sequence } => {
                let keyspace = key.keyspace;
                let place = (Area::Hints, key);
                let settled = match self.store.get(&place) {
                    Some(record) => settle(record, target, sequence),
                    None => Settled::Stays,
                };
                let is_settled = settled != Settled::Stays;
                match settled {
                    Settled::Stays => {}
                    Settled::Remains(record) => drop(self.store.insert(place, record)),
                    Settled::Done => drop(self.store.remove(&place)),
                }
                Event::HintSettled(target, keyspace, is_settled)
            }
            other => panic!("not for a store: {other:?}"),
        })
    }
}

/// A join: the words of all values, each once.
pub fn union(divergence: &Divergence) -> Result<Arc<Resolution>, MergeFailure> {
    let values = divergence.siblings.iter().filter_map(|sibling| sibling.value.as_ref());
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let all: Vec<String> = values.map(text).collect();
    let words: BTreeSet<&str> = all.iter().flat_map(|value| value.split(' ')).collect();
    let outcome = match all.is_empty() {
        true => Outcome::Delete,
        false => Outcome::Value(words.into_iter().collect::<Vec<_>>().join(" ").into()),
    };
    Ok(Arc::new(Resolution { outcome, note: None, events: Vec::new(), fuel_used: 1 }))
}

/// The live values in dot order.
pub fn values(siblings: &Siblings) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let value = |payload: &Payload| payload.value().map_or("(deleted)".to_owned(), text);
    siblings.versions().iter().map(|live| value(&live.version.payload)).collect()
}

/// The targets of a hint.
pub fn targets(record: Option<&Record>) -> BTreeSet<NodeId> {
    record.map(|record| record.targets.clone()).unwrap_or_default()
}
