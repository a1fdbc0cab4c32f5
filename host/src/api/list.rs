//! `List`: the keys of a keyspace, as a stream that can be resumed.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use stator_core::causality::{Context, Siblings};
use stator_core::listing::after_prefix;
use stator_core::reconcile::{self, View};
use stator_proto::v1;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Duration, Instant};
use tonic::{Code, Request, Status};

use super::journals::Listed;
use super::kv::{KvService, Named, merged_view};
use super::limits::timeout_ms;
use super::{errors, versions};
use crate::conflicts::Cause;
use crate::node::{Keys, Node, Place, WalkError};

/// The most walks through keyspaces on a node.
const WALKS_MAX: usize = 8;
/// How long the merge of a listed key may take.
const MERGE_TIME: Duration = Duration::from_secs(5);
/// Where a client says how long it waits.
const GRPC_TIMEOUT: &str = "grpc-timeout";
static WALKS: Semaphore = Semaphore::const_new(WALKS_MAX);

/// A place for a walk, for as long as it is held.
pub(super) fn walk_place() -> Result<SemaphorePermit<'static>, Status> {
    WALKS.try_acquire().map_err(|_| errors::overloaded("listings and exports", WALKS_MAX))
}

/// The place that a token names.
pub(super) fn place(token: &str) -> Result<Place, Status> {
    Place::parse(token).ok_or_else(|| {
        errors::bad_field("page_token", "BAD_PAGE_TOKEN", "give one of an answer, or none")
    })
}

/// All keys that begin with `prefix`.
pub(super) fn with_prefix(prefix: Bytes) -> Keys {
    let until = if prefix.is_empty() { None } else { after_prefix(&prefix).map(Into::into) };
    Keys { from: prefix, until }
}

pub(super) fn walk_failed(error: &WalkError) -> Status {
    match error {
        WalkError::Request(error) => errors::request(error),
        WalkError::Stopped(stopped) => errors::stopped(*stopped),
    }
}

/// When the client of a stream stops waiting, if it said so.
pub(super) fn stream_deadline<T>(request: &Request<T>) -> Option<Instant> {
    let has_deadline = request.metadata().contains_key(GRPC_TIMEOUT);
    let waits = has_deadline.then(|| timeout_ms(request.metadata(), 0))?;
    Some(Instant::now() + Duration::from_millis(waits))
}

pub(super) fn in_time(deadline: Option<Instant>) -> Result<(), Status> {
    match deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        false => Ok(()),
        true => {
            let message = "the client's deadline came before the end; go on with the last \
                           page_token, or give more time";
            let facts = [("effect", "NONE".to_owned())];
            Err(errors::status(Code::DeadlineExceeded, "NOT_COMPLETE", message, &facts))
        }
    }
}

fn keys(request: &v1::ListRequest) -> Result<Keys, Status> {
    let has_range = !request.from.is_empty() || !request.until.is_empty();
    if !request.prefix.is_empty() && has_range {
        let message = "give a prefix, or a range by `from` and `until`";
        return Err(errors::bad_field("prefix", "PREFIX_AND_RANGE", message));
    }
    if !has_range {
        return Ok(with_prefix(request.prefix.clone()));
    }
    let until = Some(request.until.clone()).filter(|until| !until.is_empty());
    Ok(Keys { from: request.from.clone(), until })
}

impl KvService {
    /// The keys of a keyspace.
    pub(super) fn list_keys(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Listed<v1::ListResponse>, Status> {
        let deadline = stream_deadline(&request);
        let request = request.into_inner();
        let view = v1::View::try_from(request.view)
            .map_err(|_| errors::unimplemented(&format!("view {}", request.view)))?;
        if request.deleted && view == v1::View::Merged {
            let message = "a merged view has no deleted keys: ask for metadata or siblings";
            return Err(errors::bad_field("deleted", "DELETED_AND_MERGED", message));
        }
        let keys = keys(&request)?;
        let place = place(&request.page_token)?;
        let named = self.named(&request.keyspace, Bytes::from_static(b"-"))?;
        let (deleted, tell_seen) = (request.deleted, request.tell_seen);
        let walk = Walk { node: self.node.clone(), named, view, deleted, tell_seen };
        let ring = &self.node.catalogue().ok_or_else(errors::no_cluster)?.ring;
        let of = (walk.named.keyspace.id, ring.partitions());
        let pages = self.node.walk(of, keys, request.r, place);
        let permit = walk_place()?;
        let mut left = if request.limit == 0 { u64::MAX } else { request.limit };
        Ok(Box::pin(async_stream::try_stream! {
            let _permit = permit;
            let mut pages = std::pin::pin!(pages);
            while let Some(page) = pages.next().await {
                in_time(deadline)?;
                let page = page.map_err(|error| walk_failed(&error))?;
                let mut next = page.next.map(|next| next.print()).unwrap_or_default();
                let mut listed = Vec::new();
                for (key, siblings) in page.objects {
                    if left == 0 {
                        // To go on with this very key.
                        next = Place { partition: page.partition, from: key }.print();
                        break;
                    }
                    if let Some(found) = walk.listed(key, &siblings).await {
                        listed.push(found);
                        left -= 1;
                    }
                }
                let is_over = left == 0;
                yield v1::ListResponse { keys: listed, page_token: next, permille: page.permille };
                if is_over {
                    break;
                }
            }
        }))
    }
}

struct Walk {
    node: Arc<Node>,
    named: Named,
    view: v1::View,
    deleted: bool,
    tell_seen: bool,
}

impl Walk {
    /// A key as it is told of, if it is.
    async fn listed(&self, key: Bytes, siblings: &Siblings) -> Option<v1::ListedKey> {
        let named = Named { key, ..self.named.clone() };
        let context = || named.sealed(&Context::of(siblings));
        let seen = if self.tell_seen { versions::seen(siblings.vector()) } else { Vec::new() };
        if self.view == v1::View::Merged {
            let until = (Cause::Read, Instant::now() + MERGE_TIME);
            let now_ms = self.node.clock.now().wall_ms;
            let count = reconcile::versions(siblings, now_ms).len() as u32;
            let reading = self.node.read(&named.keyspace, &named.key, siblings, until).await;
            let (versions, info) = merged_view(reading, count);
            let context = context();
            return (!versions.is_empty()).then_some(v1::ListedKey {
                key: named.key,
                versions,
                context,
                merge: Some(info),
                seen,
            });
        }
        let now_ms = self.node.clock.now().wall_ms;
        let has_value = reconcile::view(siblings, now_ms) != View::Absent;
        let is_wanted = self.deleted && siblings.live_count() > 0;
        if !(has_value || is_wanted) {
            return None;
        }
        let is_metadata = self.view != v1::View::Siblings;
        let all = siblings.versions();
        let versions = all.iter().map(|live| versions::version(live, is_metadata)).collect();
        let context = context();
        Some(v1::ListedKey { key: named.key, versions, context, merge: None, seen })
    }
}
