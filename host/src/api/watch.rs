//! `Watch`: the keys of a keyspace that are changed in this node's own store, as a stream that can be
//! resumed. Which of them, and what is promised, stands in [`crate::node`]'s `watch`; here a stream is
//! begun, put into messages, and ended: with its caller's leave, its keyspace, the node's service or
//! its deadline.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use stator_core::catalogue::Catalogue;
use stator_core::id::KeyspaceId;
use stator_proto::v1;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Request, Status};

use super::guard::Pass;
use super::journals::Listed;
use super::kv::KvService;
use super::list::{in_time, stream_deadline, with_prefix};
use super::{errors, versions};
use crate::node::{Begin, Keys, Node, Told, WatchError, WatchPlace};

/// The most streams of a node.
const WATCHES_MAX: usize = 256;
/// In the place of a position: all that the node holds.
const START: &str = "start";

static WATCHES: Semaphore = Semaphore::const_new(WATCHES_MAX);

fn keys(request: &v1::WatchRequest) -> Result<Keys, Status> {
    if request.key.is_empty() {
        return Ok(with_prefix(request.prefix.clone()));
    }
    if !request.prefix.is_empty() {
        let message = "give a key, or a prefix, or neither";
        return Err(errors::bad_field("prefix", "KEY_AND_PREFIX", message));
    }
    // Nothing is between a key and the smallest one above it.
    let above: Bytes = [&request.key[..], &[0]].concat().into();
    Ok(Keys { from: request.key.clone(), until: Some(above) })
}

fn begin(position: &str) -> Result<Begin, Status> {
    Ok(match position {
        "" => Begin::Now,
        START => Begin::Start,
        position => Begin::Place(
            position
                .parse::<WatchPlace>()
                .map_err(|bad| errors::bad_field("position", "BAD_POSITION", bad.to_string()))?,
        ),
    })
}

fn broken_off(error: &WatchError) -> Status {
    let message = format!("{error}; go on with the last position, or watch another node");
    errors::status(Code::Unavailable, "STORE_UNAVAILABLE", message, &no_effect())
}

fn no_effect() -> [(&'static str, String); 1] {
    [("effect", "NONE".to_owned())]
}

fn not_served() -> Status {
    let message = "the node stops, or is not served as a member; go on with the last position when \
                   it is back";
    errors::status(Code::Unavailable, "WATCH_ENDED", message, &no_effect())
}

/// What a stream goes on for.
struct Leave {
    node: Arc<Node>,
    pass: Pass,
    name: String,
    keyspace: KeyspaceId,
    catalogues: watch::Receiver<Option<Arc<Catalogue>>>,
    is_serving: Option<watch::Receiver<bool>>,
    deadline: Option<Instant>,
}

impl Leave {
    /// What is told next, unless the leave ends before.
    async fn next(
        &mut self,
        mut told: Pin<&mut impl Stream<Item = Result<Told, WatchError>>>,
    ) -> Result<Option<Told>, Status> {
        loop {
            tokio::select! {
                next = told.next() => {
                    return next.transpose().map_err(|error| broken_off(&error));
                }
                changed = self.catalogues.changed() => {
                    changed.map_err(|_| not_served())?;
                    self.check()?;
                }
                () = ended(self.is_serving.as_mut()) => return Err(not_served()),
                () = past(self.deadline) => in_time(self.deadline)?,
            }
        }
    }

    fn check(&self) -> Result<(), Status> {
        let catalogue = self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let found = catalogue.keyspace(&self.name).map(|keyspace| keyspace.id);
        if found != Some(self.keyspace) {
            return Err(errors::no_keyspace(&self.name));
        }
        self.pass.check(&catalogue.access)
    }

    fn message(&self, told: Told) -> v1::WatchResponse {
        let changes = told.changes.into_iter().map(|changed| v1::WatchedKey {
            key: changed.key,
            seen: versions::seen(&changed.seen),
            hash: Bytes::copy_from_slice(&changed.hash.0.to_be_bytes()),
        });
        let ring_version = self.node.catalogue().map_or(0, |found| found.ring.version());
        v1::WatchResponse {
            changes: changes.collect(),
            position: told.place.to_string(),
            gap: told.is_gap,
            node_id: self.node.id.to_string(),
            ring_version,
        }
    }
}

impl KvService {
    /// What is changed in this node's own store.
    pub(super) fn watch_keys(
        &self,
        request: Request<v1::WatchRequest>,
        pass: Pass,
    ) -> Result<Listed<v1::WatchResponse>, Status> {
        let deadline = stream_deadline(&request);
        let request = request.into_inner();
        let (keys, begin) = (keys(&request)?, begin(&request.position)?);
        let keyspace = self.named(&request.keyspace, Bytes::from_static(b"-"))?.keyspace.id;
        let catalogue = self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let permit = WATCHES.try_acquire();
        let permit = permit.map_err(|_| errors::overloaded("watches", WATCHES_MAX))?;
        let of = (keyspace, catalogue.ring.partitions());
        let told = self.node.watch(of, keys, begin);
        let mut leave = Leave {
            node: self.node.clone(),
            pass,
            name: request.keyspace,
            keyspace,
            catalogues: self.node.driver.shared().watch_catalogue(),
            is_serving: self.is_serving.clone(),
            deadline,
        };
        Ok(Box::pin(async_stream::try_stream! {
            let _permit = permit;
            let mut told = std::pin::pin!(told);
            while let Some(next) = leave.next(told.as_mut()).await? {
                yield leave.message(next);
            }
        }))
    }
}

/// Returns at the deadline, if there is one.
async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns once clients are not served.
async fn ended(is_serving: Option<&mut watch::Receiver<bool>>) {
    match is_serving {
        Some(is_serving) => drop(is_serving.wait_for(|is_serving| !is_serving).await),
        None => std::future::pending().await,
    }
}
