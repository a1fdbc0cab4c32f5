//! What nodes say to one another without a session: introductions, promises, first catalogues.
//!
//! A node that waits for a cluster belongs to none, and one that was removed no longer does, so
//! neither can have a session. Each such call is a connection of its own: both sides prove that
//! they know the cluster secret (`handshake/`), then the caller says what is `Wanted`, and hears
//! the `Reply`. Nothing of it is sent or read before both have proved themselves.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use stator_core::catalogue::{Catalogue, Member};
use stator_core::founding::Promise;
use stator_core::id::{ClusterId, NodeId};
use stator_core::{wire_enums, wire_structs};
use tokio::time::timeout;

use super::config::HANDSHAKE_DEADLINE;
use super::frame::{Frame, Link};
use super::handshake::{self, HandshakeError, Refusal};
use super::{Shared, Transport, dial};

/// Callers that are heard at a time: what they want may hold a catalogue.
pub(super) const CALLS_MAX: usize = 4;
/// A node must answer by then.
const DEADLINE: Duration = Duration::from_secs(5);
/// A cluster must be made by then: its founder asks every node in turn.
const FOUND_DEADLINE: Duration = Duration::from_secs(60);
/// What is wanted must have arrived by then.
const WANTED_DEADLINE: Duration = Duration::from_secs(30);

/// What a node tells of itself before it belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Its id.
    pub node: NodeId,
    /// Its addresses and labels.
    pub member: Member,
    /// The cluster it belongs to already.
    pub cluster: Option<ClusterId>,
    /// The name of the only cluster it may belong to; empty if any.
    pub cluster_name: String,
    /// The cluster that it is making, and that may still come to nothing.
    pub founding: Option<ClusterId>,
}

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// Who it is.
    pub who: Introduction,
    /// What it tells a node that was removed from its cluster.
    pub removal: Option<Catalogue>,
}

/// A cluster that is to be made by who has the smallest id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRequest {
    /// The members with their peer addresses, the founder included.
    pub nodes: BTreeMap<NodeId, String>,
    /// Its name.
    pub cluster_name: String,
    /// Q.
    pub partitions: u32,
    /// The most owners per partition.
    pub replicas_max: u16,
}

/// Why a founder made no cluster, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFounded {
    /// It, or one of the others, belongs to one already.
    Exists(String),
    /// No ring is possible.
    BadRing(String),
    /// Someone was not ready.
    NotReady(String),
}

/// Why a node could not be introduced or did not adopt. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Nobody answered, or no Stator node.
    #[error("{address} does not answer as a waiting node: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What was seen.
        why: String,
    },
    /// It answered without knowing the secret.
    #[error("{address} does not know this cluster's secret")]
    WrongSecret {
        /// Where.
        address: String,
    },
    /// It belongs to a cluster already, or one of those it asked does.
    #[error("{address} refuses: {why}")]
    Exists {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
    /// It was asked for a ring that cannot be.
    #[error("{address} refuses: {why}")]
    BadRing {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
    /// It said no.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
}

/// What the slow calls of a [`SetupDesk`] give.
pub type Done<'a, T, E = String> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// What a node does when it is asked.
pub trait SetupDesk: Send + Sync + 'static {
    /// Who this node is, to a `caller` that proved the secret; `None` while it is still starting.
    fn introduce(&self, caller: Option<&Introduction>) -> Option<Introduced>;

    /// Joins the catalogue to what the node knows, durably.
    fn adopt(&self, catalogue: Catalogue) -> Done<'_, ()>;

    /// Makes a cluster, if this node is to.
    fn found(&self, request: FoundRequest) -> Done<'_, Catalogue, NotFounded>;

    /// Promises, durably, to join that cluster and no other.
    fn promise(&self, promise: Promise) -> Done<'_, ()>;
}

/// What a caller wants. Who is called by its id does nothing if it is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Who are you? Whoever was removed from your cluster hears that, and a member that has not
    /// learnt that it is one is told.
    Introduce(Introduction),
    /// Become a member of this cluster, or take the catalogue in.
    Adopt(NodeId, Catalogue),
    /// Make a cluster: you have the smallest id of these nodes. Answered once it is made.
    Found(NodeId, FoundRequest),
    /// Promise to become a member of this cluster and of no other, durably. The promise ends when
    /// the founder no longer knows of that cluster.
    Promise(NodeId, Promise),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Introduced(Box<Introduced>),
    Done,
    Founded(Box<Catalogue>),
    Failed(Failure, String),
}

/// Why what was wanted was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not now.
    Unavailable,
    /// One belongs to a cluster already.
    Exists,
    /// No ring is possible.
    BadRing,
    /// It said no.
    Refused,
}

impl Failure {
    fn told(self, address: String, why: String) -> SetupError {
        match self {
            Failure::Unavailable => SetupError::Unreachable { address, why },
            Failure::Exists => SetupError::Exists { address, why },
            Failure::BadRing => SetupError::BadRing { address, why },
            Failure::Refused => SetupError::Refused { address, why },
        }
    }
}

wire_enums! {
    Wanted { 1 => Introduce(caller), 2 => Adopt(node, catalogue), 3 => Found(node, request), 4 => Promise(node, promise) }
    Reply { 1 => Introduced(introduced), 2 => Done, 3 => Founded(catalogue), 4 => Failed(failure, why) }
    Failure { 1 => Unavailable, 2 => Exists, 3 => BadRing, 4 => Refused }
}

wire_structs! {
    Introduction { node, member, cluster, cluster_name, founding }
    Introduced { who, removal }
    FoundRequest { nodes, cluster_name, partitions, replicas_max }
}

/// Answers who has called and proved itself.
pub(super) async fn answer(shared: &Shared, link: &mut Link) {
    let heard = match shared.calls.acquire().await {
        Ok(_turn) => timeout(WANTED_DEADLINE, handshake::next(shared, link)).await,
        Err(_) => return,
    };
    let wanted = match heard.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(Frame::Wanted(wanted)) => *wanted,
        Ok(_) => return tracing::debug!("a caller wanted nothing that is known"),
        Err(error) => return tracing::debug!(%error, "a call came to nothing"),
    };
    let reply = match &shared.config.setup_desk {
        Some(desk) => carry_out(&**desk, wanted).await,
        None => Reply::Failed(Failure::Unavailable, "the node makes no cluster".to_owned()),
    };
    if !shared.is_isolated() && link.writer.send(&Frame::Reply(reply)).await.is_ok() {
        link.writer.end().await;
    }
}

async fn carry_out(desk: &dyn SetupDesk, wanted: Wanted) -> Reply {
    let meant = match &wanted {
        Wanted::Introduce(_) => None,
        Wanted::Adopt(node, _) | Wanted::Found(node, _) | Wanted::Promise(node, _) => Some(*node),
    };
    if let Some(meant) = meant
        && desk.introduce(None).is_none_or(|me| me.who.node != meant)
    {
        return Reply::Failed(Failure::Refused, "another node is meant".to_owned());
    }
    let done = |done: Result<(), String>| match done {
        Ok(()) => Reply::Done,
        Err(why) => Reply::Failed(Failure::Refused, why),
    };
    match wanted {
        Wanted::Introduce(caller) => match desk.introduce(Some(&caller)) {
            Some(introduced) => Reply::Introduced(Box::new(introduced)),
            None => Reply::Failed(Failure::Unavailable, "the node is starting".to_owned()),
        },
        Wanted::Adopt(_, catalogue) => done(desk.adopt(catalogue).await),
        Wanted::Promise(_, promise) => done(desk.promise(promise).await),
        Wanted::Found(_, request) => match desk.found(request).await {
            Ok(catalogue) => Reply::Founded(Box::new(catalogue)),
            Err(NotFounded::Exists(why)) => Reply::Failed(Failure::Exists, why),
            Err(NotFounded::BadRing(why)) => Reply::Failed(Failure::BadRing, why),
            Err(NotFounded::NotReady(why)) => Reply::Failed(Failure::Refused, why),
        },
    }
}

impl Transport {
    /// Asks the node at `address` (`host:port` of its peer listener) who it is, and tells it who
    /// asks.
    ///
    /// # Errors
    /// It does not answer, or not as a node that knows the secret. Nothing was changed.
    pub async fn introduce(
        &self,
        address: &str,
        caller: &Introduction,
    ) -> Result<Introduced, SetupError> {
        match self.call(address, Wanted::Introduce(caller.clone()), DEADLINE).await? {
            Reply::Introduced(introduced) => Ok(*introduced),
            _ => Err(unexpected(address)),
        }
    }

    /// Makes the node at `address` take `catalogue` in.
    ///
    /// # Errors
    /// It does not answer, or refuses; whether it took the catalogue is known only in the latter
    /// case. To do it again does no harm.
    pub async fn adopt(
        &self,
        (address, node): (&str, NodeId),
        catalogue: &Catalogue,
    ) -> Result<(), SetupError> {
        match self.call(address, Wanted::Adopt(node, catalogue.clone()), DEADLINE).await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected(address)),
        }
    }

    /// Has the node at `address` make a cluster.
    ///
    /// # Errors
    /// It made none, or none that this node has heard of: to ask again tells.
    pub async fn found(
        &self,
        (address, node): (&str, NodeId),
        request: FoundRequest,
    ) -> Result<Catalogue, SetupError> {
        match self.call(address, Wanted::Found(node, request), FOUND_DEADLINE).await? {
            Reply::Founded(catalogue) => Ok(*catalogue),
            _ => Err(unexpected(address)),
        }
    }

    /// Has the node at `address` promise to join a cluster and no other.
    ///
    /// # Errors
    /// It does not answer, or refuses; whether it promised is known only in the latter case.
    pub async fn promise(
        &self,
        (address, node): (&str, NodeId),
        promise: &Promise,
    ) -> Result<(), SetupError> {
        match self.call(address, Wanted::Promise(node, promise.clone()), DEADLINE).await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected(address)),
        }
    }

    /// What the node at `address` answers, unless that it failed.
    async fn call(
        &self,
        address: &str,
        wanted: Wanted,
        deadline: Duration,
    ) -> Result<Reply, SetupError> {
        if self.is_isolated() {
            return Err(unreachable(address, "this node is cut off"));
        }
        let asked = timeout(deadline, ask(&self.shared, address, wanted)).await;
        let owned = address.to_owned();
        match asked.unwrap_or(Err(HandshakeError::TooSlow)) {
            Ok(Reply::Failed(failure, why)) => Err(failure.told(owned, why)),
            Ok(reply) => Ok(reply),
            Err(HandshakeError::Refused(Refusal::OtherSecret)) => {
                Err(SetupError::WrongSecret { address: owned })
            }
            Err(error) => Err(unreachable(address, &error.to_string())),
        }
    }
}

async fn ask(shared: &Shared, address: &str, wanted: Wanted) -> Result<Reply, HandshakeError> {
    let connected = dial::connect(shared, address, DEADLINE).await;
    let mut link = connected.map_err(HandshakeError::Unreachable)?;
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::call(shared, &mut link)).await;
    shaken.unwrap_or(Err(HandshakeError::TooSlow))?;
    link.writer.send(&Frame::Wanted(Box::new(wanted))).await?;
    match handshake::next(shared, &mut link).await? {
        Frame::Reply(reply) => Ok(reply),
        _ => Err(HandshakeError::Missing("an answer")),
    }
}

fn unreachable(address: &str, why: &str) -> SetupError {
    SetupError::Unreachable { address: address.to_owned(), why: why.to_owned() }
}

fn unexpected(address: &str) -> SetupError {
    unreachable(address, "its answer is to another question")
}
