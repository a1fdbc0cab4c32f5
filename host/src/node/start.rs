//! Putting a node together.
//!
//! The order is fixed by what must never be: the data directory is locked before anything is
//! read, the stores have drawn their incarnation before anyone hears of this node, and the
//! catalogue is loaded before a peer can send one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use stator_core::agreement::Acceptor;
use stator_core::catalogue::{Catalogue, Decision, Member};
use stator_core::event::{Backlog, Epochs, Event};
use stator_core::founding::Promise;
use stator_core::holder::Holder;
use stator_core::id::{Incarnation, ModuleDigest, NodeId};
use stator_core::message::Message;
use stator_core::node::{Node as Protocol, Settings};
use stator_core::ring::MadeMoves;

use super::acquaint;
use super::audit::Call;
use super::cluster::{Desk, kept_promise, single};
use super::contact::Contact;
use super::{ModuleFiles, ModuleKeeper, Node, conflicts};
use crate::address::HostPort;
use crate::budget::ByteBudget;
use crate::config::{Bootstrap, Config, EngineKind};
use crate::conflicts::{Conflicts, TrialOver};
use crate::driver::{
    self, BALLOT_FILE, CATALOGUE_FILE, Clock, EPOCHS_FILE, Effects, FILL_FILE, Inbox, MOVES_FILE,
    Mailbox, Shared,
};
use crate::journal::Journal;
use crate::listen::DoorLimits;
use crate::merge::{MergeHost, MergeHostConfig, MergeHostError};
use crate::storage::{self, Area, Home, HomeError, OPEN_STORE, OpenError, StoreOptions, Stores};
use crate::telemetry::traces::Place;
use crate::transport::{BoundTransport, PeerIdentity, PeerSink, Room, TransportConfig};
use tokio::sync::{Notify, mpsc};

/// Where a node is reached, as others are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// By peers.
    pub peer: String,
    /// By clients.
    pub client: String,
    /// By operators.
    pub admin: String,
}

/// Why a node did not start. Its data is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The stores.
    #[error(transparent)]
    Stores(#[from] OpenError),
    /// The merge host.
    #[error(transparent)]
    Merges(#[from] MergeHostError),
    /// A file or folder of the data directory.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The catalogue on disk cannot be read.
    #[error(
        "the catalogue in {path} cannot be read: {why}; the data is untouched; restore the file \
         `{CATALOGUE_FILE}` from another member's data directory"
    )]
    Catalogue {
        /// The data directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The data directory is another cluster's.
    #[error(
        "the data directory {path} belongs to the cluster {found:?}, and this node is to belong \
         to {expected:?}: use another directory, or the cluster's right name"
    )]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// The cluster's name there.
        found: String,
        /// The configured one.
        expected: String,
    },
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers: {0}")]
    Randomness(getrandom::Error),
    /// The sockets for peers.
    #[error("the sockets for peers cannot be used: {0}")]
    Sockets(std::io::Error),
    /// A thread ended in a panic.
    #[error("a part of the node ended unexpectedly while starting: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What is on disk, opened.
struct Opened {
    home: Arc<Home>,
    stores: Arc<Stores>,
    files: ModuleFiles,
    catalogue: Option<Catalogue>,
    /// What is left to be copied from other owners, if the data store was lost.
    backlog: Option<Backlog>,
    /// What the node has promised for the next ring, or why that is not known.
    ballot: Result<Ballot, String>,
    /// Under which the node sends, and what it refuses.
    epochs: Epochs,
    /// When it last had contact with others.
    contact: BTreeMap<NodeId, Option<u64>>,
    /// What the node has promised to who makes a cluster.
    promise: Option<Promise>,
}

type Ballot = Acceptor<Arc<Decision>>;

impl Node {
    /// Starts a node on a bound transport with this door. `client` and `admin` are where its other
    /// listeners are bound.
    pub async fn start(
        config: Config,
        bound: BoundTransport,
        door: DoorLimits,
        (client, admin): (SocketAddr, SocketAddr),
    ) -> Result<Arc<Node>, StartError> {
        let addresses = advertised(&config, bound.local_addr(), client, admin);
        let to_open = config.clone();
        let reads = ByteBudget::new(config.limits.reads_bytes_max);
        let of_stores = reads.clone();
        let opened = tokio::task::spawn_blocking(move || open(&to_open, of_stores)).await??;
        let Opened { home, stores, files, catalogue, backlog, ballot, epochs, promise, contact } =
            opened;
        check_cluster(&config, catalogue.as_ref())?;
        let member = Member { incarnation: stores.incarnation(), ..member(&config, &addresses) };
        let catalogue = own_catalogue(&config, &home, catalogue, &member).await?;
        let merges = merge_host(&config)?;

        let clock = Clock::start();
        let now = clock.now();
        let mailbox = Mailbox::new();
        let desk = Arc::new(Desk { node: OnceLock::new() });
        let shared = Shared::new(catalogue.clone());
        let lost = Arc::new(Notify::new());
        let contact = Arc::new(Contact::start(home.clone(), contact, clock));
        let sink = Arc::new(Sink {
            inbox: mailbox.inbox(),
            files: files.clone(),
            shared: shared.clone(),
            contact: contact.clone(),
            lost: lost.clone(),
        });
        let me = PeerIdentity { node: home.node(), incarnation: stores.incarnation() };
        let mut transport = TransportConfig::new(me, config.peer_secret());
        transport.advertised = member.holder();
        transport.previous_secrets = config.previous_peer_secrets();
        transport.door = door;
        transport.reads = reads;
        transport.enable_faults = config.enable_faults;
        transport.setup_desk = Some(desk.clone());
        let transport = bound.start(transport, sink).map_err(StartError::Sockets)?;

        let (merging, over) = open_conflicts(&config, merges.clone(), clock, &shared).await?;
        let effects = Effects::new(
            home.clone(),
            stores.clone(),
            (transport.clone(), merging.clone()),
            (mailbox.inbox(), clock),
            shared.clone(),
        );
        let settings = Settings {
            replica_timeout_ms: config.timings.replica_timeout_ms,
            collect_period_ms: config.timings.collect_period_ms,
            exchange_cover_ms: config.timings.exchange_cover_ms,
            ..Settings::default()
        };
        let seed = getrandom::u64().map_err(StartError::Randomness)?;
        let mut protocol = Protocol::new(home.node(), settings, catalogue, seed, now);
        match ballot {
            Ok(ballot) => protocol.remember_ballot(ballot),
            Err(why) => {
                tracing::error!(
                    %why,
                    "what this node promised for the next ring is lost: it takes no part in \
                     committing it"
                );
                protocol.forget_ballot();
            }
        }
        protocol.keep_epochs(epochs);
        protocol.live_as(stores.incarnation());
        if let Some(backlog) = backlog {
            protocol.fill(backlog);
        }
        if stores.is_after_unclean_stop() {
            protocol.recover();
        }
        let audit = open_audit(&config).await?;
        let (driver, task) = driver::start(mailbox, protocol, clock, effects);
        let keeper = ModuleKeeper::new(files, merges.clone(), transport.clone(), home.node());
        let modules = Arc::new(keeper);
        tokio::spawn(modules.clone().run(shared));

        let node = Arc::new(Node {
            id: home.node(),
            incarnation: stores.incarnation(),
            config,
            addresses,
            started_at_ms: now.wall_ms,
            driver,
            stores,
            merges,
            modules,
            conflicts: merging,
            transport,
            clock,
            home,
            derived: super::secrets::Derived::default(),
            initialising: tokio::sync::Mutex::new(()),
            making: std::sync::Mutex::default(),
            promised: std::sync::Mutex::new(promise),
            contact,
            audit,
            driver_task: std::sync::Mutex::new(Some(task)),
        });
        let weak: Weak<Node> = Arc::downgrade(&node);
        // Set once, here.
        let _ = desk.node.set(weak.clone());
        if let Some(catalogue) = node.catalogue() {
            node.follow_history(&catalogue);
        }
        node.greet().await;
        tokio::spawn(conflicts::run(weak.clone(), over));
        tokio::spawn(acquaint::run(weak, lost));
        Ok(node)
    }

    /// This node as a member.
    pub(super) fn member(&self) -> Member {
        let incarnation = self.incarnation;
        Member { incarnation, ..member(&self.config, &self.addresses) }
    }
}

async fn open_audit(config: &Config) -> Result<Option<Journal<Call>>, StartError> {
    let (path, bytes_max) = (config.data_dir.join("audit"), config.limits.audit_bytes_max);
    if bytes_max == 0 {
        return Ok(None);
    }
    let folder = path.clone();
    let opened = tokio::task::spawn_blocking(move || Journal::open(("audit", &folder), bytes_max));
    opened.await?.map(Some).map_err(|error| StartError::File { path, error })
}

async fn open_conflicts(
    config: &Config,
    merges: MergeHost,
    clock: Clock,
    shared: &Arc<Shared>,
) -> Result<(Conflicts, mpsc::Receiver<TrialOver>), StartError> {
    let (path, limits) = (config.data_dir.clone(), &config.limits);
    let bytes_max = [limits.conflicts_bytes_max, limits.recordings_bytes_max];
    let (folder, shared) = (path.clone(), shared.clone());
    let opened = tokio::task::spawn_blocking(move || {
        Conflicts::open(&folder, bytes_max, merges, (clock, shared))
    });
    opened.await?.map_err(|error| StartError::File { path, error })
}

/// The catalogue with the moves that were made since it was saved; it is saved with them, so that
/// their file begins anew.
fn with_moves(home: &Home, mut catalogue: Catalogue) -> Result<Catalogue, StartError> {
    if MadeMoves::replay(&home.appended(MOVES_FILE)?, &mut catalogue.ring) {
        home.save(CATALOGUE_FILE, &catalogue.encode())?;
    }
    home.remove(MOVES_FILE)?;
    Ok(catalogue)
}

fn open(config: &Config, reads: ByteBudget) -> Result<Opened, StartError> {
    let home = Arc::new(Home::open(&config.data_dir)?);
    let catalogue = match home.load(CATALOGUE_FILE)? {
        None => None,
        Some(bytes) => Some(
            Catalogue::decode(&bytes)
                .map_err(|why| StartError::Catalogue { path: config.data_dir.clone(), why })?,
        ),
    };
    let catalogue = match catalogue {
        Some(catalogue) => Some(with_moves(&home, catalogue)?),
        None => None,
    };
    // Before the stores: a directory of another cluster is not touched.
    check_cluster(config, catalogue.as_ref())?;
    let options = StoreOptions {
        engine: match config.engine {
            EngineKind::Sled => storage::EngineKind::Sled,
            EngineKind::Fjall => storage::EngineKind::Fjall,
            EngineKind::Memory => storage::EngineKind::Memory,
        },
        hints_bytes_max: usize::try_from(config.limits.hints_bytes_max).unwrap_or(usize::MAX),
        history_bytes_max: config.limits.history_bytes_max,
        open_within: Duration::from_millis(config.timings.store_open_timeout_ms),
        trial: std::env::current_exe().ok().map(|program| vec![program.into(), OPEN_STORE.into()]),
        ..StoreOptions::default()
    };
    let stores = Arc::new(Stores::open(home.clone(), &options)?.charging(reads));
    let path = config.data_dir.join("modules");
    let files =
        ModuleFiles::open(path.clone()).map_err(|error| StartError::File { path, error })?;
    let backlog = backlog(&home, &stores, catalogue.as_ref())?;
    let ballot = ballot(&home)?;
    let epochs = epochs(&home)?;
    let promise = kept_promise(&home)?;
    let contact = Contact::load(&home)?;
    Ok(Opened { home, stores, files, catalogue, backlog, ballot, epochs, promise, contact })
}

fn ballot(home: &Home) -> Result<Result<Ballot, String>, HomeError> {
    match home.load(BALLOT_FILE) {
        Ok(None) => Ok(Ok(Ballot::default())),
        Ok(Some(bytes)) => Ok(Ballot::decode(&bytes)
            .ok_or_else(|| format!("the file `{BALLOT_FILE}` holds something else"))),
        Err(error @ HomeError::Damaged { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

fn epochs(home: &Home) -> Result<Epochs, HomeError> {
    let kept = match home.load(EPOCHS_FILE) {
        Ok(content) => content,
        // Peers tell this node its own. What they had sent under closed epochs is of connections
        // that have ended.
        Err(HomeError::Damaged { .. }) => None,
        Err(error) => return Err(error),
    };
    let kept = kept.and_then(|content| Epochs::decode(std::str::from_utf8(&content).ok()?));
    Ok(kept.unwrap_or_default())
}

/// What the other owners are to fill, if the data store was ever lost and is not filled yet.
fn backlog(
    home: &Home,
    stores: &Stores,
    catalogue: Option<&Catalogue>,
) -> Result<Option<Backlog>, HomeError> {
    let is_aside = |area| stores.set_aside().iter().any(|aside| aside.area == area);
    if is_aside(Area::Hints) {
        tracing::error!(
            "hints were lost: owners that missed these writes lack them until their keys are read"
        );
        stores.refilled(Area::Hints)?;
    }
    let loss = home.loss()?.or(is_aside(Area::Data).then_some(0));
    if let (None, Some(loss)) = (catalogue, loss) {
        // Lost before it belonged to a cluster: it owned nothing.
        home.save(FILL_FILE, Backlog::nothing(loss).encode().as_bytes())?;
        stores.refilled(Area::Data)?;
        return Ok(None);
    }
    // If it cannot be read everything is copied again: nobody knows what this node cannot count on.
    let all = || Backlog::all(loss.unwrap_or(0));
    let decode = |content: Bytes| Backlog::decode(std::str::from_utf8(&content).ok()?);
    let kept = match home.load(FILL_FILE) {
        Ok(content) => content.map(|content| decode(content).unwrap_or_else(all)),
        Err(HomeError::Damaged { .. }) => Some(all()),
        Err(error) => return Err(error),
    };
    Ok(Backlog::after(loss, kept).map(|backlog| {
        match backlog == Backlog::nothing(backlog.loss) && is_aside(Area::Data) {
            true => Backlog::all(backlog.loss),
            false => backlog,
        }
    }))
}

fn check_cluster(config: &Config, catalogue: Option<&Catalogue>) -> Result<(), StartError> {
    match (catalogue, &config.cluster) {
        (Some(catalogue), Some(expected)) if catalogue.cluster_name != *expected => {
            Err(StartError::OtherCluster {
                path: config.data_dir.clone(),
                found: catalogue.cluster_name.clone(),
                expected: expected.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// The catalogue to start with: the stored one, of a cluster of one with its present addresses; or, of a
/// fresh directory that waits for nobody, that of a cluster of one.
async fn own_catalogue(
    config: &Config,
    home: &Arc<Home>,
    stored: Option<Catalogue>,
    member: &Member,
) -> Result<Option<Arc<Catalogue>>, StartError> {
    let mut is_changed = false;
    let catalogue = match stored {
        Some(mut catalogue) => {
            let is_alone = catalogue.members.len() == 1;
            if let Some(known) = catalogue.members.get_mut(&home.node()) {
                // The ring was made for these: they are changed as the ring is.
                let labels = known.value.clone();
                let (region, zone, weight) = (labels.region, labels.zone, labels.weight);
                if (&region, &zone, weight) != (&member.region, &member.zone, member.weight) {
                    tracing::warn!(
                        region,
                        zone,
                        weight,
                        "the configuration names another region, zone or weight than the cluster \
                         knows for this node, and the cluster's stand: `stator cluster weight` \
                         changes them"
                    );
                }
                // Who is served as the node, and where, other members say if there are any: this
                // may be a copy.
                if is_alone {
                    let present = Member { region, zone, weight, ..member.clone() };
                    is_changed = known.value != present;
                    known.set(present);
                }
            }
            Some(catalogue)
        }
        None if config.bootstrap == Bootstrap::Single => {
            is_changed = true;
            Some(single(config, home.node(), member).map_err(StartError::Randomness)?)
        }
        None => None,
    };
    let catalogue = catalogue.map(Arc::new);
    if let (true, Some(catalogue)) = (is_changed, catalogue.clone()) {
        let home = home.clone();
        let save = move || home.save(CATALOGUE_FILE, &catalogue.encode());
        tokio::task::spawn_blocking(save).await??;
    }
    Ok(catalogue)
}

fn advertised(
    config: &Config,
    peer: SocketAddr,
    client: SocketAddr,
    admin: SocketAddr,
) -> Addresses {
    let told = |configured: &Option<HostPort>, bound: SocketAddr| {
        configured.as_ref().map_or_else(|| bound.to_string(), HostPort::to_string)
    };
    Addresses {
        peer: told(&config.advertise_peer, peer),
        client: told(&config.advertise_client, client),
        admin: told(&config.advertise_admin, admin),
    }
}

fn member(config: &Config, addresses: &Addresses) -> Member {
    Member {
        peer_address: addresses.peer.clone(),
        client_address: addresses.client.clone(),
        admin_address: addresses.admin.clone(),
        region: config.region.clone(),
        zone: config.zone.clone(),
        weight: config.weight,
        incarnation: Incarnation::default(),
    }
}

fn merge_host(config: &Config) -> Result<MergeHost, StartError> {
    let cache = config.data_dir.join("compiled");
    let mut merges =
        MergeHostConfig::new(&cache).map_err(|error| StartError::File { path: cache, error })?;
    merges.limits.value_bytes_max = config.limits.value_bytes_max;
    merges.large_limits.value_bytes_max = config.limits.value_bytes_max;
    Ok(MergeHost::new(merges)?)
}

/// What peers send, handed on.
struct Sink {
    inbox: Inbox,
    files: ModuleFiles,
    shared: Arc<Shared>,
    contact: Arc<Contact>,
    /// Told when a session or an attempt at one fails.
    lost: Arc<Notify>,
}

impl PeerSink for Sink {
    fn room(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Option<Room>> + Send + '_>> {
        Box::pin(self.inbox.room(bytes))
    }

    fn received(&self, from: NodeId, message: Message, room: Option<&Room>, trace: Option<Place>) {
        self.inbox.received(from, message, room.cloned(), trace);
    }

    fn probed(&self, bytes: Bytes) {
        self.inbox.probed(bytes);
    }

    fn holder_found(&self, node: NodeId, holder: Holder) {
        self.inbox.deliver(Event::HolderFound(node, holder));
    }

    fn held_by(&self, holder: Holder) {
        self.inbox.deliver(Event::ToldOf(Some(Box::new(holder))));
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.shared.is_alive(node)
    }

    fn connected(&self, node: NodeId) {
        tracing::info!(%node, "connected");
        self.inbox.deliver(Event::ToldOf(None));
        self.contact.began(node);
    }

    fn disconnected(&self, node: NodeId) {
        tracing::info!(%node, "disconnected");
        self.contact.ended(node);
        self.lost.notify_one();
    }

    fn refused(&self, _: Option<NodeId>, _: &str) {
        self.lost.notify_one();
    }

    fn undelivered(&self, to: NodeId, request: u64) {
        self.inbox.undelivered(to, request);
    }

    fn module(&self, digest: &ModuleDigest) -> Option<Bytes> {
        self.files.load(digest)
    }
}
