//! Objects out of a keyspace and into one, as they are stored: `ExportObjects`, `ImportObjects`.
//!
//! An object that is taken in keeps its dots, and is joined with what there is. So an import can be
//! repeated, and what has replaced or deleted a version stays, as long as its tombstone is there.
//! Tombstones are forgotten in time. In the keyspace that the objects are of, what the cluster holds
//! nothing of was deleted since, and comes back only if that is wanted; another keyspace has never
//! seen them, and takes all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use stator_core::catalogue::Keyspace;
use stator_core::causality::{Context, Siblings};
use stator_core::request::{GetRequest, ImportRequest, PutRequest, QuorumKind};
use stator_core::version::Payload;
use stator_core::write::{Draft, SiblingLimits};
use stator_proto::v1;
use stator_proto::v1::import_objects_request::Part;
use tonic::{Request, Status, Streaming};

use super::errors;
use super::journals::Listed;
use super::list::{in_time, place, stream_deadline, walk_failed, walk_place, with_prefix};
use crate::node::Node;

/// A part of an object that does not fit one message.
const CHUNK_BYTES: usize = 512 << 10;
/// Objects that are taken in side by side.
const SIDE_BY_SIDE: usize = 64;
/// The largest object.
const OBJECT_BYTES_MAX: usize = 64 << 20;
/// How long an upload may pause.
const PART_WAIT: Duration = Duration::from_secs(30);
/// How long one object may take.
const OBJECT_TIME: Duration = Duration::from_secs(10);

/// The objects of a keyspace.
pub(super) fn export(
    node: &Arc<Node>,
    request: Request<v1::ExportObjectsRequest>,
) -> Result<Listed<v1::ExportObjectsResponse>, Status> {
    let deadline = stream_deadline(&request);
    let request = request.into_inner();
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = catalogue.keyspace(&request.keyspace);
    let keyspace = keyspace.ok_or_else(|| errors::no_keyspace(&request.keyspace))?;
    let of = (keyspace.id, catalogue.ring.partitions());
    let (place, keys) = (place(&request.page_token)?, with_prefix(request.prefix));
    let permit = walk_place()?;
    let pages = node.walk(of, keys, request.r, place);
    Ok(Box::pin(async_stream::try_stream! {
        let _permit = permit;
        let mut pages = std::pin::pin!(pages);
        while let Some(page) = pages.next().await {
            in_time(deadline)?;
            let page = page.map_err(|error| walk_failed(&error))?;
            let (partition, permille, is_end) = (page.partition, page.permille, page.next.is_none());
            let page_token = page.next.map(|next| next.print()).unwrap_or_default();
            let empty = || v1::ExportObjectsResponse { permille, partition, ..Default::default() };
            let (mut message, mut bytes) = (empty(), 0);
            for (key, siblings) in page.objects {
                for part in parts(key, &siblings) {
                    bytes += part.key.len() + part.chunk.len();
                    message.parts.push(part);
                    if bytes >= CHUNK_BYTES {
                        yield std::mem::replace(&mut message, empty());
                        bytes = 0;
                    }
                }
            }
            yield v1::ExportObjectsResponse { page_token, is_end, ..message };
        }
    }))
}

/// An object in as many parts as it needs.
fn parts(key: Bytes, siblings: &Siblings) -> Vec<v1::ObjectPart> {
    let mut encoded = Vec::new();
    siblings.encode(&mut encoded);
    let mut rest = Bytes::from(encoded);
    let mut parts = Vec::new();
    let mut key = Some(key);
    loop {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        let more = !rest.is_empty();
        parts.push(v1::ObjectPart { key: key.take().unwrap_or_default(), chunk, more });
        if !more {
            return parts;
        }
    }
}

/// What became of one object.
enum Imported {
    Taken,
    Known,
    Deleted,
    Revived,
    Empty,
}

/// Takes objects in.
pub(super) async fn import(
    node: &Arc<Node>,
    mut parts: Streaming<v1::ImportObjectsRequest>,
) -> Result<v1::ImportObjectsResponse, Status> {
    let header = match next(&mut parts).await?.and_then(|first| first.part) {
        Some(Part::Header(header)) => header,
        _ => return Err(errors::bad_field("header", "HEADER_MISSING", "it comes first")),
    };
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = catalogue.keyspace(&header.keyspace);
    let keyspace = keyspace.ok_or_else(|| errors::no_keyspace(&header.keyspace))?.clone();
    let is_origin = header.origin_cluster_id == catalogue.cluster.to_string()
        && header.origin_keyspace_id == keyspace.id.to_string();
    let importer =
        Importer { node: node.clone(), keyspace, is_origin, w: header.w, revive: header.revive };
    let objects = futures::stream::try_unfold(parts, |mut parts| async move {
        Ok(object(&mut parts).await?.map(|object| (object, parts)))
    });
    let importer = &importer;
    let taken = objects.map_ok(|(key, held)| async move { importer.take(key, held).await });
    let mut taken = std::pin::pin!(taken.try_buffer_unordered(SIDE_BY_SIDE));
    let mut response = v1::ImportObjectsResponse::default();
    while let Some(one) = taken.try_next().await? {
        *match one {
            Imported::Taken => &mut response.taken,
            Imported::Known => &mut response.known,
            Imported::Deleted => &mut response.deleted,
            Imported::Revived => &mut response.revived,
            Imported::Empty => &mut response.empty,
        } += 1;
    }
    Ok(response)
}

async fn next(
    parts: &mut Streaming<v1::ImportObjectsRequest>,
) -> Result<Option<v1::ImportObjectsRequest>, Status> {
    tokio::time::timeout(PART_WAIT, parts.message()).await.unwrap_or_else(|_| {
        let message = format!(
            "no part for {} s; what came before may be taken: send it again",
            PART_WAIT.as_secs()
        );
        Err(errors::status(tonic::Code::DeadlineExceeded, "UPLOAD_STALLED", message, &[]))
    })
}

/// The next object of an upload.
async fn object(
    parts: &mut Streaming<v1::ImportObjectsRequest>,
) -> Result<Option<(Bytes, Siblings)>, Status> {
    let (mut key, mut bytes) = (None, BytesMut::new());
    loop {
        let part = match (next(parts).await?.map(|message| message.part), &key) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                let message = "the upload ends within an object";
                return Err(errors::bad_field("object", "OBJECT_CUT", message));
            }
            (Some(Some(Part::Object(part))), _) => part,
            (Some(_), _) => {
                return Err(errors::bad_field("part", "HEADER_TWICE", "objects follow the header"));
            }
        };
        if bytes.len() + part.chunk.len() > OBJECT_BYTES_MAX {
            let message = format!("an object has at most {OBJECT_BYTES_MAX} bytes");
            return Err(errors::bad_field("object", "OBJECT_TOO_LARGE", message));
        }
        bytes.extend_from_slice(&part.chunk);
        let key = key.get_or_insert(part.key);
        if !part.more {
            let held = Siblings::decode(bytes.freeze());
            let bad = |_| {
                let message = "it is no object in its stored encoding";
                errors::bad_field("object", "BAD_OBJECT", message)
            };
            return Ok(Some((key.clone(), held.map_err(bad)?)));
        }
    }
}

struct Importer {
    node: Arc<Node>,
    keyspace: Keyspace,
    is_origin: bool,
    w: Option<u32>,
    revive: bool,
}

impl Importer {
    async fn take(&self, key: Bytes, held: Siblings) -> Result<Imported, Status> {
        let max = self.node.config.limits.key_bytes_max;
        if key.is_empty() || key.len() > max {
            let message =
                format!("it has {} bytes; possible are 1 to key_bytes_max = {max}", key.len());
            return Err(errors::bad_field("object.key", "KEY_TOO_LARGE", message));
        }
        if held.live_count() == 0 {
            return Ok(Imported::Empty);
        }
        if !self.is_origin {
            return self.join(key, held).await.map(|()| Imported::Taken);
        }
        let known = self.known(&key).await?;
        if known.vector().covers(held.vector()) {
            let has_value = |object: &Siblings| {
                object.versions().iter().any(|live| live.version.payload != Payload::Tombstone)
            };
            return match self.revive && !has_value(&known) && has_value(&held) {
                true => self.write_anew(key, &held, &known).await.map(|()| Imported::Revived),
                false => Ok(Imported::Known),
            };
        }
        match (known.vector().is_empty(), self.revive) {
            (true, false) => Ok(Imported::Deleted),
            (true, true) => self.join(key, held).await.map(|()| Imported::Revived),
            (false, _) => self.join(key, held).await.map(|()| Imported::Taken),
        }
    }

    async fn known(&self, key: &Bytes) -> Result<Arc<Siblings>, Status> {
        let request = GetRequest {
            keyspace: self.keyspace.id,
            key: key.clone(),
            r: None,
            quorum: QuorumKind::Strict,
            timeout_ms: 0,
        };
        let deadline = Instant::now() + OBJECT_TIME;
        let answer = self.node.driver.get(request, deadline, Arc::new(())).await;
        let answer = answer.map_err(errors::stopped)?;
        answer.map(|receipt| receipt.siblings).map_err(|error| errors::request(&error))
    }

    async fn join(&self, key: Bytes, held: Siblings) -> Result<(), Status> {
        let (keyspace, siblings) = (self.keyspace.id, Arc::new(held));
        let request = ImportRequest { keyspace, key, siblings, w: self.w, timeout_ms: 0 };
        let deadline = Instant::now() + OBJECT_TIME;
        let answer = self.node.driver.import(request, deadline, Arc::new(())).await;
        let answer = answer.map_err(errors::stopped)?;
        answer.map(drop).map_err(|error| errors::request(&error))
    }

    /// Its tombstone covers it: its values are written as new ones in the tombstone's place.
    async fn write_anew(
        &self,
        key: Bytes,
        held: &Siblings,
        known: &Siblings,
    ) -> Result<(), Status> {
        let limits = &self.node.config.limits;
        for live in held.versions() {
            let version = &live.version;
            let Payload::Value(_) = version.payload else { continue };
            let request = PutRequest {
                keyspace: self.keyspace.id,
                key: key.clone(),
                context: Context::of(known),
                draft: Draft {
                    payload: version.payload.clone(),
                    schema: version.schema,
                    ttl_ms: None,
                    labels: version.labels.clone(),
                    request: None,
                },
                w: self.w,
                quorum: QuorumKind::Sloppy,
                durability: None,
                limits: SiblingLimits {
                    siblings_max: limits.siblings_max,
                    siblings_bytes_max: limits.siblings_bytes_max,
                },
                timeout_ms: 0,
            };
            let deadline = Instant::now() + OBJECT_TIME;
            let answer = self.node.driver.put(request, deadline, Arc::new(())).await;
            answer.map_err(errors::stopped)?.map_err(|error| errors::request(&error))?;
        }
        Ok(())
    }
}
