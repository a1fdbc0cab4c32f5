//! A node's protocol as one value: [`Node::on_event`] takes what happened and gives what is to
//! be done.
//!
//! The parts, each in a file of its own:
//! - `client`, `get`, `put`: the requests that this node coordinates;
//! - `replica`: what it does for other coordinators;
//! - `direct`: and for clients that coordinate gets themselves;
//! - `list`: pages of a keyspace in key order;
//! - `regions`: quorums of a region;
//! - `fold`: replacing siblings by what a module makes of them;
//! - `handoff`: delivering the hints it keeps;
//! - `exchange`: comparing hash trees with other owners, and copying what differs;
//! - `catchup`: when enough other owners were read;
//! - `fill`: refilling a store that was lost from the other owners;
//! - `collect`: forgetting what was deleted;
//! - `transfer`: partitions on their way to their next owners;
//! - `gossip`: the catalogue;
//! - `holding`: whether this process is the node, among copies of its data directory;
//! - `agreement`: committing the next ring;
//! - `removed`: what becomes of nodes that were removed;
//! - `outgoing`: who waits for the answer to what was asked;
//! - `writes`: what stores are to write, here and elsewhere;
//! - `resize`: a keyspace's n on its way to another one;
//! - `saves`: what must be durable before what;
//! - `surroundings`: what those parts that are values see of the node;
//! - `timers`: what is due when;
//! - `usage`: how much there is of each keyspace.
//!
//! The node has no clock, no randomness but the seed it is given, and no knowledge of how its
//! actions are carried out. It keeps no data of keys beyond the requests in flight.
//!

mod agreement;
mod catchup;
mod client;
mod collect;
mod direct;
mod exchange;
mod fill;
mod fold;
mod get;
mod gossip;
mod handoff;
mod holding;
mod list;
mod outgoing;
mod put;
mod regions;
mod removed;
mod replica;
mod resize;
mod saves;
mod surroundings;
mod timers;
mod transfer;
mod usage;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::admission::Admission;
use crate::agreement::Answer;
use crate::catalogue::{Catalogue, CatalogueDigest, Decision, Keyspace};
use crate::event::{Action, Area, Event, Notice, Now, Ticket, Token};
use crate::failure::{Detector, DetectorTimer, ROSTER_PERIOD_MS, Wishes};
use crate::hedge::Hedges;
use crate::held_by_all::HeldByAll;
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::listing::{KeyRange, Listings};
use crate::message::{Message, ReplicaError, RequestId};
use crate::region::Regions;
use crate::request::get::Get;
use crate::request::put::Put;
use crate::request::{ReplicaRequest, RequestError};
use crate::ring::MadeMoves;
pub use collect::{CANDIDATES_MAX, CollectFigures};
pub use exchange::REPAIRS_RUNNING_MAX;

use collect::{CollectEffect, Collection};
use exchange::{ExchangeId, Exchanges, Told};

use agreement::Agreement;
use fill::Fill;
use fold::{FoldJob, Folds};
use handoff::Handoff;
use holding::Holding;
use outgoing::{Asker, Outgoing};
use resize::Resizing;
use saves::Saves;
use surroundings::Surroundings;
use timers::{Timer, Timers};
use transfer::Transfers;
use usage::Counting;

/// What an operator may tune; the defaults suit a local network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long one replica may take before another is asked in its place, in milliseconds.
    pub replica_timeout_ms: u64,
    /// How often the catalogue's digest is sent to a random member, in milliseconds.
    pub gossip_period_ms: u64,
    /// How often undelivered hints are tried again, in milliseconds.
    pub handoff_period_ms: u64,
    /// How many hints are on their way to one target at a time.
    pub handoff_window: usize,
    /// How long a fill waits for owners that do not answer before those that did may suffice,
    /// in milliseconds. Longer than any put takes.
    pub fill_patience_ms: u64,
    /// In what time all partitions of this node are compared with all their other owners, in
    /// milliseconds; 0 for never.
    pub exchange_cover_ms: u64,
    /// How often a few pages of keys are looked through for what may be forgotten, in
    /// milliseconds; 0 for never.
    pub collect_period_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            replica_timeout_ms: 500,
            gossip_period_ms: 1_000,
            handoff_period_ms: 1_000,
            handoff_window: 64,
            fill_patience_ms: 10_000,
            exchange_cover_ms: 600_000,
            collect_period_ms: 1_000,
        }
    }
}

/// A request in flight.
enum InFlight {
    Get(Box<Get>),
    Put(Box<Put>),
}

/// Why a replica is not counted on any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It did not do it, or was not asked.
    Refused,
    /// It did not do it because its copy is damaged.
    Damaged,
    /// It, or this node for its answer, had no room for the value among so many bytes.
    NoRoom(u64),
    /// It has not answered. It may yet.
    Late,
}

impl Failure {
    fn of(error: &ReplicaError) -> Self {
        match error {
            // Both are repaired by the get that met them.
            ReplicaError::Damaged | ReplicaError::Filling => Failure::Damaged,
            ReplicaError::NoRoom { bytes_max } => Failure::NoRoom(*bytes_max),
            _ => Failure::Refused,
        }
    }
}

/// What the result of an effect is for.
#[derive(Debug, Clone)]
enum Purpose {
    /// The coordinator's own read.
    OwnRead(RequestId),
    /// The coordinator's mint.
    Mint(RequestId),
    /// What a coordinator that owns the key keeps of a write that another owner minted.
    OwnWrite(RequestId),
    /// The object with a dot for another node's put.
    Lend(NodeId, RequestId),
    /// A hint that the coordinator keeps itself.
    OwnHint(RequestId, NodeId, KeyspaceId),
    /// A peer's read.
    PeerRead(NodeId, RequestId),
    /// The read of a client that coordinates its get itself.
    ClientRead(Ticket, Box<ReplicaRequest>),
    /// What is held of a range, for who asked by this ring.
    Scan(NodeId, RequestId, u64, KeyRange),
    /// A peer's write, whether no client waits for it, and the owners it is a hint for.
    PeerWrite((NodeId, RequestId, bool), KeyspaceId, Vec<NodeId>),
    /// Read repair of the coordinator's own copy.
    OwnRepair,
    // Anti-entropy.
    /// A part of the own hash trees, for an exchange.
    OwnTree(ExchangeId),
    /// A part of the own hash trees, for a peer.
    PeerTree(NodeId, RequestId, PartitionId),
    /// The own object of a key that an exchange repairs.
    ExchangeObject(ExchangeId, Bytes),
    /// A step of collection.
    Collect(CollectEffect),
    /// An operator's change.
    Change(Ticket),
    /// A catalogue that gossip brought.
    Gossip,
    /// A merge that is to become a fold.
    Fold(Box<FoldJob>),
    // Transfers.
    /// What is left of a fill.
    Backlog,
    /// Moves that this node made or was told of.
    Moves(MadeMoves),
    /// The roots of a partition that is not this node's any more.
    LeftTree(PartitionId),
    /// What is left of such a partition.
    DropPartition(PartitionId),
    /// A hint for an owner that is none any more, in this node's data store at this attempt.
    MovedHint(NodeId, u64),
    // Ring changes.
    /// What is to be answered once it is persisted.
    Ballot(NodeId, u64, Box<Answer<Arc<Decision>>>),
    /// A committed ring.
    Commit(Ticket),
    /// What a former member held, kept for its owners as a hint for that member.
    BringHome(Ticket, NodeId, KeyspaceId),
}

impl Purpose {
    /// Whether a client, or another coordinator, waits for the store.
    fn is_foreground(&self) -> bool {
        use Purpose::{ClientRead, Lend, Mint, OwnRead, OwnWrite, PeerRead, PeerWrite};
        match self {
            OwnRead(_) | Mint(_) | OwnWrite(_) | Lend(..) | PeerRead(..) | ClientRead(..) => true,
            PeerWrite((_, _, is_background), ..) => !is_background,
            _ => false,
        }
    }
}

/// One node's protocol state.
pub struct Node {
    id: NodeId,
    settings: Settings,
    catalogue: Option<Arc<Catalogue>>,
    /// Of the catalogue; kept because it is compared often, and its parts because a move changes
    /// little of them.
    digest: [u8; 32],
    parts: CatalogueDigest,
    /// Of the catalogue; kept because every request looks one up.
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    deleted: BTreeSet<KeyspaceId>,
    /// Where there is more than one.
    regions: Option<Arc<Regions>>,
    detector: Detector,
    requests: BTreeMap<RequestId, InFlight>,
    listings: Listings,
    outgoing: Outgoing,
    effects: BTreeMap<Token, Purpose>,
    admission: Admission,
    handoffs: BTreeMap<NodeId, Handoff>,
    /// There while the data store is being refilled.
    fill: Option<Box<Fill>>,
    /// The last loss of the data store; 0 without one.
    last_loss: u64,
    saves: Saves,
    resizing: Resizing,
    exchanges: Exchanges,
    collection: Collection,
    transfers: Transfers,
    folds: Folds,
    held_by_all: HeldByAll,
    hedges: Hedges,
    agreement: Agreement,
    holding: Holding,
    counting: Counting,
    timers: Timers,
    detector_timers: BTreeMap<u64, DetectorTimer>,
    is_stopping: bool,
    last_number: u64,
    rng: ChaCha8Rng,
    now: Now,
    out: Vec<Action>,
}

impl Node {
    /// The node `id`, with the catalogue it persisted, if it belongs to a cluster. `seed` is
    /// all the randomness it will use, and must differ at every start.
    pub fn new(
        id: NodeId,
        settings: Settings,
        catalogue: Option<Arc<Catalogue>>,
        seed: u64,
        now: Now,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Replies to an earlier life must not meet a request of this one.
        let last_number = rand_chacha::rand_core::Rng::next_u64(&mut rng) >> 16;
        let detector_rng = ChaCha8Rng::from_rng(&mut rng);
        let life = rand_chacha::rand_core::Rng::next_u64(&mut rng);
        let mut node = Node {
            id,
            settings,
            catalogue: None,
            digest: [0; 32],
            parts: CatalogueDigest::default(),
            keyspaces: BTreeMap::new(),
            deleted: BTreeSet::new(),
            regions: None,
            detector: Detector::new(id, now.wall_ms, detector_rng),
            requests: BTreeMap::new(),
            listings: Listings::default(),
            effects: BTreeMap::new(),
            admission: Admission::default(),
            handoffs: BTreeMap::new(),
            outgoing: Outgoing::default(),
            fill: None,
            last_loss: 0,
            saves: Saves::default(),
            resizing: Resizing::default(),
            exchanges: Exchanges::default(),
            collection: Collection::new(life),
            transfers: Transfers::default(),
            folds: Folds::default(),
            held_by_all: HeldByAll::default(),
            hedges: Hedges::default(),
            agreement: Agreement::default(),
            holding: Holding::default(),
            counting: Counting::default(),
            timers: Timers::default(),
            detector_timers: BTreeMap::new(),
            is_stopping: false,
            last_number,
            rng,
            now,
            out: Vec::new(),
        };
        if let Some(catalogue) = catalogue {
            node.adopt(catalogue);
        }
        node
    }

    /// Takes an event in. The actions are to be carried out in their order.
    pub fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Get(ticket, get) if get.timeout_ms == 0 => {
                self.act(Action::GetDone(ticket, Err(RequestError::Expired)));
            }
            Event::Put(ticket, put) if put.timeout_ms == 0 => {
                self.act(Action::PutDone(ticket, Err(RequestError::Expired)));
            }
            Event::GetReplica(ticket, request) if request.timeout_ms == 0 => {
                self.act(Action::ReplicaDone(ticket, Err(RequestError::Expired.into())));
            }
            Event::Import(ticket, import) if import.timeout_ms == 0 => {
                self.act(Action::PutDone(ticket, Err(RequestError::Expired)));
            }
            Event::List(ticket, list) if list.timeout_ms == 0 => {
                self.act(Action::ListDone(ticket, Err(RequestError::Expired)));
            }
            Event::Get(ticket, get) => self.start_get(ticket, get),
            Event::GetReplica(ticket, request) => self.start_direct(ticket, request),
            Event::Put(ticket, put) => self.start_put(ticket, put),
            Event::Import(ticket, import) => self.start_import(ticket, import),
            Event::List(ticket, list) => self.start_list(ticket, list),
            Event::Change(ticket, change) => self.change(ticket, &change),
            Event::Adopted(catalogue) => self.adopt(catalogue),
            Event::HolderFound(node, holder) => self.hold(node, &holder),
            Event::ToldOf(holder) => self.told_by_member(holder.map(|holder| *holder)),
            Event::Received(from, message) => self.received(from, message),
            Event::Undelivered(to, request) => self.replica_failed(to, request, Failure::Refused),
            Event::Probed(bytes) => {
                let wishes = self.detector.probed(&bytes);
                self.grant(wishes);
            }
            Event::Loaded(token, result) => {
                self.admission.ended(token, now.monotonic_ms);
                self.loaded(token, result);
            }
            Event::Scanned(token, result) => self.scanned(token, result),
            Event::Applied(token, stored) => self.applied(token, stored),
            Event::Written(token, result) => {
                self.admission.ended(token, now.monotonic_ms);
                self.collection.write_ended(token);
                self.written(token, result);
                self.write_ended(token);
            }
            Event::HintsListed(target, hints) => self.hints_listed(target, hints),
            Event::HintSettled(target, keyspace, is_settled) => {
                self.hint_settled(target, keyspace, is_settled);
            }
            Event::Persisted(token, result) => self.persisted(token, result),
            Event::FoundAny(token, result) => self.found_any(token, result),
            Event::IndexRead(token, result) => self.index_read(token, result),
            Event::Repair(ticket, request) => self.exchanging(|exchanges, around| {
                exchanges.start_repair(around, ticket, request);
            }),
            Event::TreeRead(token, result) => self.tree_read(token, result),
            Event::UsageRead(report) => self.usage_read(report),
            Event::Dropped(token, result) => {
                if let Some(Purpose::DropPartition(partition)) = self.effects.remove(&token) {
                    self.partition_dropped(partition, result);
                }
            }
            Event::Merged(token, result) => self.merged(token, result),
            Event::CommitRing(ticket, request) => self.commit(ticket, request),
            Event::BallotPersisted(token, result) => self.ballot_persisted(token, result),
            Event::BringHome(ticket, home) => self.bring_home(ticket, *home),
            Event::Stopping => self.stop(),
            Event::Paused { ms } => self.paused(ms),
            Event::Tick => self.tick(),
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Tick`] is due next, by the monotonic clock.
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.timers.next_ms()
    }

    /// The catalogue, if the node belongs to a cluster.
    pub fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.catalogue.as_ref()
    }

    /// Whether `node` is taken as reachable.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        node == self.id || self.detector.is_reachable(node)
    }

    /// Whether a write is being minted, or an owner is still owed one, for which neither an acknowledgement nor a durable
    /// hint is there yet.
    pub fn is_in_debt(&self) -> bool {
        let is_owing =
            |request: &InFlight| matches!(request, InFlight::Put(put) if put.is_in_debt());
        self.requests.values().any(is_owing)
    }

    /// How much of the machine background work may take, for metrics.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// How many requests are in flight, for metrics.
    pub fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn effect(&mut self, purpose: Purpose) -> Token {
        let token = self.number();
        if purpose.is_foreground() {
            self.admission.started(token, self.now.monotonic_ms);
        }
        self.effects.insert(token, purpose);
        token
    }

    fn act(&mut self, action: Action) {
        let Some(action) = self.hold_back(action) else { return };
        self.collection.watch(&action);
        if let Action::Write { token, area: Area::Data, key, .. } = &action {
            let (token, partition, keyspace) = (*token, key.partition, key.keyspace);
            self.write_begins(token, partition, keyspace);
        }
        self.out.push(action);
    }

    fn notice(&mut self, notice: Notice) {
        self.act(Action::Notice(notice));
    }

    fn send(&mut self, to: NodeId, message: Message) {
        let message = match message {
            Message::Catalogue { catalogue, is_reply_wanted } => {
                let catalogue = self.tellable(catalogue);
                Message::Catalogue { catalogue, is_reply_wanted }
            }
            other => other,
        };
        self.act(Action::Send(to, message));
    }

    fn in_ms(&self, delay_ms: u64) -> u64 {
        self.now.monotonic_ms.saturating_add(delay_ms)
    }

    fn keyspace(&self, id: KeyspaceId) -> Result<(&Catalogue, &Keyspace), RequestError> {
        let catalogue = self.catalogue.as_ref().ok_or(RequestError::NoCluster)?;
        if let Some(removed) = catalogue.removed.get(&self.id) {
            return Err(RequestError::Removed { ring_version: removed.ring_version });
        }
        match self.keyspaces.get(&id) {
            Some(keyspace) => Ok((catalogue, keyspace)),
            None => Err(RequestError::UnknownKeyspace(id)),
        }
    }

    /// Whether the keyspace was deleted; one that is not known may be new.
    fn is_deleted(&self, id: KeyspaceId) -> bool {
        self.deleted.contains(&id)
    }

    /// Whether this node is one of the owners of `partition`, for some keyspace at least.
    fn owns(&self, partition: PartitionId) -> bool {
        self.catalogue.as_ref().is_some_and(|c| c.ring.is_owner(partition, self.id))
    }

    fn ring_version(&self) -> u64 {
        self.catalogue.as_ref().map_or(0, |catalogue| catalogue.ring.version())
    }

    fn received(&mut self, from: NodeId, message: Message) {
        if self.is_removed(from) {
            return self.tell_removed(from, &message);
        }
        let is_gossip =
            matches!(message, Message::Catalogue { .. } | Message::CatalogueDigest { .. });
        if self.was_removed() && !is_gossip {
            return;
        }
        match message {
            Message::Read { request, keyspace, key, ring_version, is_fallback } => {
                self.peer_reads(from, request, (keyspace, key), ring_version, is_fallback);
            }
            Message::Write(write) => self.peer_writes(from, write),
            Message::Forward { request, put } => self.lend(from, request, put),
            Message::ReadReply { request, result } => match self.noting(from, result) {
                Ok(held) => self.replica_read(from, request, held),
                Err(error) => {
                    self.replica_failed(from, request, Failure::of(&error));
                }
            },
            Message::WriteReply { request, result } => match self.noting(from, result) {
                Ok(()) => self.replica_wrote(from, request),
                Err(error) if self.epoch_refused(from, request, &error) => {}
                Err(error) => self.replica_failed(from, request, Failure::of(&error)),
            },
            Message::ForwardReply { request, result } => self.borrowed(from, request, result),
            Message::TransferAsk { request, ring_version, partition, step } => {
                self.transfer_asked_by(from, request, ring_version, (partition, step));
            }
            Message::TransferAnswer { request, result } => {
                let is_asker = |asker: &Asker| matches!(asker, Asker::Transfer(_));
                if let Some(Asker::Transfer(partition)) = self.answered(from, request, is_asker) {
                    self.transfer_answered(partition, request, result);
                }
            }
            Message::List { request, ring_version, range } => {
                self.peer_lists(from, request, (ring_version, range));
            }
            Message::ListReply { request, result } => self.list_answered(from, request, result),
            Message::Moved(made) => self.moved(from, &made),
            Message::TreeRead { request, ring_version, is_fill, read } => {
                self.peer_reads_tree(from, request, (ring_version, is_fill), read);
            }
            Message::TreeReply { request, result } => {
                let is_asker = |asker: &Asker| matches!(asker, Asker::Exchange(_));
                if let Some(Asker::Exchange(id)) = self.answered(from, request, is_asker) {
                    self.tell_exchange(id, Told::Theirs(result));
                }
            }
            Message::Collect { request, partition, scope, ask } => {
                self.collecting(|collection, around| {
                    collection.asked(around, (from, request), (partition, scope), ask);
                });
            }
            Message::CollectReply { request, result } => {
                let is_asker = |asker: &Asker| matches!(asker, Asker::Collection);
                if self.answered(from, request, is_asker).is_some() {
                    self.collecting(|collection, around| {
                        collection.answered(around, (from, request), result);
                    });
                }
            }
            Message::Clocks(told) if self.is_member(from) => self.collection.clocks_heard(&told),
            Message::Clocks(_) => {}
            Message::Usage(report) => self.usage_told(from, report),
            Message::Compare { request, partition, peer, keyspace } => {
                self.exchanging(|exchanges, around| {
                    exchanges.compare(around, (from, request), (partition, peer), keyspace);
                });
            }
            Message::CompareReply { request, result } => {
                self.compare_replied(from, request, result);
            }
            Message::CatalogueDigest { digest } => self.digest_received(from, digest),
            Message::Catalogue { catalogue, is_reply_wanted } => {
                self.catalogue_received(from, &catalogue, is_reply_wanted);
            }
            Message::RingAsk { ring_version, ask } => self.ring_asked(from, ring_version, *ask),
            Message::RingAnswer { ring_version, answer } => {
                self.ring_answered(from, ring_version, *answer);
            }
        }
    }

    /// Notes what an answer tells of the ring: who is no owner by its own knows another one.
    fn noting<T>(
        &mut self,
        from: NodeId,
        result: Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        if let Err(ReplicaError::NotOwner { .. }) = &result {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        result
    }

    fn tick(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now.monotonic_ms) {
            match timer {
                Timer::Request(request) => self.request_due(request),
                Timer::Hedge => self.hedges_due(),
                Timer::Handoff => self.handoff_due(),
                Timer::Fill => self.fill_due(),
                Timer::Exchange => self.exchange_due(),
                Timer::Collect => self.collecting(Collection::due),
                Timer::Fence => self.collecting(Collection::fence_due),
                Timer::Transfer => self.transfer_due(),
                Timer::Gossip => self.gossip_due(),
                Timer::Roster => self.roster_due(),
                Timer::Saves => self.saves_due(),
                Timer::Commit => self.commit_due(),
                Timer::Detector(number) => {
                    if let Some(timer) = self.detector_timers.remove(&number) {
                        let wishes = self.detector.fired(timer);
                        self.grant(wishes);
                    }
                }
            }
        }
    }

    /// Nobody could answer this node's probes while it was stopped: their time begins again. All
    /// other timers are due as they are.
    fn paused(&mut self, ms: u64) {
        for (at_ms, timer) in self.timers.detector() {
            self.timers.drop(at_ms, timer);
            self.timers.set(at_ms.saturating_add(ms), timer);
        }
    }

    fn roster_due(&mut self) {
        let members: Vec<NodeId> = self.peers();
        let wishes = self.detector.announce(members.into_iter());
        self.grant(wishes);
        let at_ms = self.in_ms(ROSTER_PERIOD_MS);
        self.timers.set(at_ms, Timer::Roster);
    }

    /// The other members.
    fn peers(&self) -> Vec<NodeId> {
        let members = self.catalogue.iter().flat_map(|catalogue| catalogue.members.keys());
        members.copied().filter(|member| *member != self.id).collect()
    }

    fn grant(&mut self, wishes: Wishes) {
        for (to, bytes) in wishes.probes {
            self.act(Action::Probe(to, bytes));
        }
        for (delay_ms, timer) in wishes.timers {
            let number = self.number();
            self.detector_timers.insert(number, timer);
            let at_ms = self.in_ms(delay_ms);
            self.timers.set(at_ms, Timer::Detector(number));
        }
        for node in wishes.up {
            self.notice(Notice::MemberUp(node));
            // It may have missed what was told, or be new.
            self.counting.tell_all();
            self.start_handoff(node);
        }
        for node in wishes.down {
            self.notice(Notice::MemberDown(node));
        }
    }
}
