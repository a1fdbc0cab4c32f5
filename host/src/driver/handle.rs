//! What the rest of the node holds of the driver: a way in, and what it publishes.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use stator_core::catalogue::{Catalogue, CatalogueChange};
use stator_core::event::{
    ChangeFailure, CommitError, CommitRequest, Event, FillFigures, NotBroughtHome, RepairError,
    RepairFigures, RepairId, RepairRequest, ResizeFigures, Ticket, TransferFigures,
};
use stator_core::holder::Standing;
use stator_core::homecoming::Homecoming;
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::listing::{ListPage, ListRequest};
use stator_core::node::CollectFigures;
use stator_core::request::{
    GetReceipt, GetRequest, ImportRequest, PutReceipt, PutRequest, ReplicaReceipt, ReplicaRefused,
    ReplicaRequest, RequestError,
};
use stator_core::usage::Estimate;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::figures::{ExchangeTotals, KeyspaceFigures, PeerFigures};
use crate::telemetry::traces::{self, Place, Span};

/// The node is stopping; the request's outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct DriverStopped;

/// The room of what a peer sent.
pub(super) type Room = Option<Arc<OwnedSemaphorePermit>>;

/// Something for the event loop.
pub(super) enum Input {
    Event(Event),
    /// What a peer sent, with its room in the queue, and the span that it is a part of.
    Received(Event, #[expect(dead_code, reason = "held, not read")] Room, Option<Place>),
    /// With the span that its work is below, if it is traced.
    Request(Request, Answer, Option<Place>),
    Stop,
}

pub(super) enum Request {
    /// With the time at which their clients stop waiting.
    Get(GetRequest, Instant),
    GetReplica(ReplicaRequest, Instant),
    Put(Box<PutRequest>, Instant),
    Import(ImportRequest, Instant),
    List(ListRequest, Instant),
    Change(CatalogueChange),
    Commit(CommitRequest),
    Repair(RepairRequest),
    BringHome(Box<Homecoming>),
}

impl Request {
    /// The name of the span of its work.
    fn name(&self) -> &'static str {
        match self {
            Request::Get(..) => "quorum of a get",
            Request::GetReplica(..) => "own copy",
            Request::Put(..) => "quorum of a put",
            Request::Import(..) => "quorum of an import",
            Request::List(..) => "page of a list",
            Request::Change(_)
            | Request::Commit(_)
            | Request::Repair(_)
            | Request::BringHome(_) => "change",
        }
    }

    /// As the loop comes to it: what it has waited until now is gone.
    pub(super) fn into_event(self, ticket: Ticket) -> Event {
        let left_ms = |deadline: Instant| {
            deadline.saturating_duration_since(Instant::now()).as_millis() as u64
        };
        match self {
            Request::Get(get, deadline) => {
                Event::Get(ticket, GetRequest { timeout_ms: left_ms(deadline), ..get })
            }
            Request::GetReplica(request, deadline) => {
                let timeout_ms = left_ms(deadline);
                Event::GetReplica(ticket, ReplicaRequest { timeout_ms, ..request })
            }
            Request::Put(put, deadline) => {
                Event::Put(ticket, PutRequest { timeout_ms: left_ms(deadline), ..*put })
            }
            Request::Import(import, deadline) => {
                Event::Import(ticket, ImportRequest { timeout_ms: left_ms(deadline), ..import })
            }
            Request::List(list, deadline) => {
                Event::List(ticket, ListRequest { timeout_ms: left_ms(deadline), ..list })
            }
            Request::Change(change) => Event::Change(ticket, change),
            Request::Commit(request) => Event::CommitRing(ticket, request),
            Request::Repair(request) => Event::Repair(ticket, request),
            Request::BringHome(home) => Event::BringHome(ticket, home),
        }
    }
}

/// What a request of a client takes of the node's room: let go when its work is done, whether its
/// client is still there or not.
pub type Held = Arc<dyn Any + Send + Sync>;

/// Who waits for a request.
pub(super) enum Answer {
    Get(oneshot::Sender<Result<GetReceipt, RequestError>>, Held),
    Replica(oneshot::Sender<Result<ReplicaReceipt, ReplicaRefused>>, Held),
    Put(oneshot::Sender<Result<PutReceipt, RequestError>>, Held),
    List(oneshot::Sender<Result<ListPage, RequestError>>),
    Change(oneshot::Sender<Result<Arc<Catalogue>, ChangeFailure>>),
    Commit(oneshot::Sender<Result<Arc<Catalogue>, CommitError>>),
    Repair(oneshot::Sender<Result<RepairId, RepairError>>),
    BringHome(oneshot::Sender<Result<(), NotBroughtHome>>),
}

/// What the loop publishes. Readers hold the locks for a copy at most.
pub struct Shared {
    pub(super) catalogue: watch::Sender<Option<Arc<Catalogue>>>,
    pub(super) down: RwLock<Vec<NodeId>>,
    alive: Mutex<BTreeSet<NodeId>>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) fill: RwLock<Option<FillFigures>>,
    pub(super) collect: RwLock<CollectFigures>,
    pub(super) keyspaces: Mutex<BTreeMap<KeyspaceId, KeyspaceFigures>>,
    pub(super) peers: Mutex<BTreeMap<NodeId, PeerFigures>>,
    usage: RwLock<Arc<BTreeMap<KeyspaceId, Estimate>>>,
    // Anti-entropy.
    pub(super) exchanges: Mutex<ExchangeTotals>,
    pub(super) transfers: Mutex<Vec<TransferFigures>>,
    pub(super) resizes: Mutex<Vec<ResizeFigures>>,
    pub(super) repairs: Mutex<BTreeMap<RepairId, RepairFigures>>,
}

/// How many repairs are remembered.
const REPAIRS_KEPT: usize = 16;

impl Shared {
    /// How far the transfers to this node are.
    pub fn transfers(&self) -> Vec<TransferFigures> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far this node is with copying for changes of n.
    pub fn resizes(&self) -> Vec<ResizeFigures> {
        self.resizes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing is known yet, but perhaps the catalogue.
    pub fn new(catalogue: Option<Arc<Catalogue>>) -> Arc<Self> {
        Arc::new(Shared {
            catalogue: watch::Sender::new(catalogue),
            down: RwLock::default(),
            alive: Mutex::default(),
            standing: watch::Sender::new(Standing::Asking),
            fill: RwLock::default(),
            collect: RwLock::default(),
            keyspaces: Mutex::default(),
            peers: Mutex::default(),
            usage: RwLock::default(),
            exchanges: Mutex::default(),
            transfers: Mutex::default(),
            resizes: Mutex::default(),
            repairs: Mutex::default(),
        })
    }

    /// The catalogue now, if the node belongs to a cluster.
    pub fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.catalogue.borrow().clone()
    }

    /// Tells of every change of the catalogue.
    pub fn watch_catalogue(&self) -> watch::Receiver<Option<Arc<Catalogue>>> {
        self.catalogue.subscribe()
    }

    /// Whether this process is served as the node.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Tells of every change of that.
    pub fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Waits until members have decided about this start, or for so long.
    pub async fn settle(&self, within: Duration) {
        let mut standing = self.standing.subscribe();
        let decided = standing.wait_for(|standing| *standing != Standing::Asking);
        let _ = tokio::time::timeout(within, decided).await;
    }

    /// Whether the failure detector hears of the node.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }

    pub(super) fn alive(&self, change: impl FnOnce(&mut BTreeSet<NodeId>)) {
        change(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The members that are taken as unreachable.
    pub fn unreachable(&self) -> Vec<NodeId> {
        self.down.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the refilling of a lost data store is, while it goes on.
    pub fn fill_figures(&self) -> Option<FillFigures> {
        *self.fill.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How collection goes.
    pub fn collect_figures(&self) -> CollectFigures {
        self.collect.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn show_collect(&self, figures: &CollectFigures) {
        let mut shown = self.collect.write().unwrap_or_else(PoisonError::into_inner);
        if *shown != *figures {
            shown.clone_from(figures);
        }
    }

    /// What was compared with other owners since the start.
    pub fn exchange_totals(&self) -> ExchangeTotals {
        *self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a repair is, or was at its end.
    pub fn repair(&self, id: RepairId) -> Option<RepairFigures> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The repairs that are remembered, by their ids.
    pub fn repairs(&self) -> BTreeMap<RepairId, RepairFigures> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn show_repair(&self, id: RepairId, figures: RepairFigures) {
        let mut repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        repairs.insert(id, figures);
        // Ids grow, and few run at a time.
        while repairs.len() > REPAIRS_KEPT {
            repairs.pop_first();
        }
    }

    /// Counters of a keyspace since the start.
    pub fn keyspace_figures(&self, keyspace: KeyspaceId) -> KeyspaceFigures {
        let figures = self.keyspaces.lock().unwrap_or_else(PoisonError::into_inner);
        figures.get(&keyspace).copied().unwrap_or_default()
    }

    /// What there is of a keyspace in the cluster, as far as this node has heard.
    pub fn usage(&self, keyspace: KeyspaceId) -> Estimate {
        let usage = self.usage.read().unwrap_or_else(PoisonError::into_inner);
        usage.get(&keyspace).copied().unwrap_or_default()
    }

    pub(super) fn show_usage(&self, estimates: Arc<BTreeMap<KeyspaceId, Estimate>>) {
        *self.usage.write().unwrap_or_else(PoisonError::into_inner) = estimates;
    }

    /// Counters of a peer since the start.
    pub fn peer_figures(&self, peer: NodeId) -> PeerFigures {
        let figures = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        figures.get(&peer).copied().unwrap_or_default()
    }

    /// Counts something of a keyspace.
    pub fn count(&self, keyspace: KeyspaceId, count: impl FnOnce(&mut KeyspaceFigures)) {
        let mut figures = self.keyspaces.lock().unwrap_or_else(PoisonError::into_inner);
        count(figures.entry(keyspace).or_default());
    }

    pub(super) fn count_peer(&self, peer: NodeId, count: impl FnOnce(&mut PeerFigures)) {
        let mut figures = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        count(figures.entry(peer).or_default());
    }
}

/// The way into the event loop. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle {
    inputs: UnboundedSender<Input>,
    shared: Arc<Shared>,
}

impl DriverHandle {
    pub(super) fn new(inputs: UnboundedSender<Input>, shared: Arc<Shared>) -> Self {
        DriverHandle { inputs, shared }
    }

    /// What the loop publishes.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Coordinates a get that has until `deadline`, whatever its `timeout_ms`.
    pub async fn get(
        &self,
        request: GetRequest,
        deadline: Instant,
        held: Held,
    ) -> Result<Result<GetReceipt, RequestError>, DriverStopped> {
        let note = |receipt: &GetReceipt, span: &mut Span| {
            span.set("stator.answered", i64::from(receipt.answered));
            span.set("stator.versions", receipt.siblings.live().count() as i64);
        };
        let request = Request::Get(request, deadline);
        self.ask_noting(request, |sender| Answer::Get(sender, held), note).await
    }

    /// What this node itself holds of a key, as [`Self::get`].
    pub async fn replica(
        &self,
        request: ReplicaRequest,
        deadline: Instant,
        held: Held,
    ) -> Result<Result<ReplicaReceipt, ReplicaRefused>, DriverStopped> {
        let request = Request::GetReplica(request, deadline);
        self.ask(request, |sender| Answer::Replica(sender, held)).await
    }

    /// Coordinates a put, or hands it to who owns the key, as [`Self::get`].
    pub async fn put(
        &self,
        request: PutRequest,
        deadline: Instant,
        held: Held,
    ) -> Result<Result<PutReceipt, RequestError>, DriverStopped> {
        let note = |receipt: &PutReceipt, span: &mut Span| {
            span.set("stator.acked", i64::from(receipt.acked));
            span.set("stator.hinted", i64::from(receipt.hinted));
            span.set("stator.siblings_remaining", i64::from(receipt.siblings_remaining));
        };
        let request = Request::Put(Box::new(request), deadline);
        self.ask_noting(request, |sender| Answer::Put(sender, held), note).await
    }

    /// Takes an object in as it is, as [`Self::put`].
    pub async fn import(
        &self,
        request: ImportRequest,
        deadline: Instant,
        held: Held,
    ) -> Result<Result<PutReceipt, RequestError>, DriverStopped> {
        self.ask(Request::Import(request, deadline), |sender| Answer::Put(sender, held)).await
    }

    /// Reads a page of a keyspace that its reader waits for until `deadline`.
    pub async fn list(
        &self,
        request: ListRequest,
        deadline: Instant,
    ) -> Result<Result<ListPage, RequestError>, DriverStopped> {
        self.ask(Request::List(request, deadline), Answer::List).await
    }

    /// Changes the catalogue.
    pub async fn change(
        &self,
        change: CatalogueChange,
    ) -> Result<Result<Arc<Catalogue>, ChangeFailure>, DriverStopped> {
        self.ask(Request::Change(change), Answer::Change).await
    }

    /// Commits what is staged for the ring.
    pub async fn commit(
        &self,
        request: CommitRequest,
    ) -> Result<Result<Arc<Catalogue>, CommitError>, DriverStopped> {
        self.ask(Request::Commit(request), Answer::Commit).await
    }

    /// Has all owners compared and repaired.
    pub async fn repair(
        &self,
        request: RepairRequest,
    ) -> Result<Result<RepairId, RepairError>, DriverStopped> {
        self.ask(Request::Repair(request), Answer::Repair).await
    }

    /// Takes what a former member held; it is durable then, and on its way to its owners.
    pub async fn bring_home(
        &self,
        home: Homecoming,
    ) -> Result<Result<(), NotBroughtHome>, DriverStopped> {
        self.ask(Request::BringHome(Box::new(home)), Answer::BringHome).await
    }

    /// Makes the node part of a cluster whose catalogue it has persisted.
    pub fn adopt(&self, catalogue: Arc<Catalogue>) {
        // A loop that has ended needs no catalogue.
        let _ = self.inputs.send(Input::Event(Event::Adopted(catalogue)));
    }

    /// Ends the loop. Requests that are open get [`DriverStopped`].
    pub fn stop(&self) {
        let _ = self.inputs.send(Input::Stop);
    }

    async fn ask<T, E: Display>(
        &self,
        request: Request,
        answer: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Answer,
    ) -> Result<Result<T, E>, DriverStopped> {
        self.ask_noting(request, answer, |_, _| {}).await
    }

    /// As [`Self::ask`]; if the request is traced, `note` says of its span what was answered.
    async fn ask_noting<T, E: Display>(
        &self,
        request: Request,
        answer: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Answer,
        note: impl FnOnce(&T, &mut Span),
    ) -> Result<Result<T, E>, DriverStopped> {
        let span = traces::below(traces::here(), request.name());
        let place = span.as_ref().map(Span::place);
        let (sender, receiver) = oneshot::channel();
        let input = Input::Request(request, answer(sender), place);
        self.inputs.send(input).map_err(|_| DriverStopped)?;
        let answer = receiver.await.map_err(|_| DriverStopped)?;
        if let Some(mut span) = span {
            match &answer {
                Ok(answer) => note(answer, &mut span),
                Err(error) => span.fail(error),
            }
        }
        Ok(answer)
    }
}
