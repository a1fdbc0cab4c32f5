//! What a process holds that is no member, and how it comes back to the members.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use prost::Message;
use stator_core::catalogue::{Catalogue, Member, Versioned};
use stator_core::causality::Siblings;
use stator_core::event::NotBroughtHome;
use stator_core::holder::Standing as Served;
use stator_core::homecoming::{self, Homecoming, Standing};
use stator_core::id::{Actor, Incarnation, KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::listing::after_prefix;
use stator_core::request::{GetRequest, QuorumKind};
use stator_proto::v1;
use stator_proto::v1::bring_home_request::Part;
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};

use super::errors;
use crate::node::Node;
use crate::storage::{HeldHint, ListHintsJob, LoadJob, ScanJob, StoreError};

/// The most objects of a page.
const OBJECTS_MAX: usize = 256;
/// A page ends with the object that goes beyond this.
const PAGE_BYTES: usize = 1 << 20;
/// The most bytes of a page: one object of the largest size and what surrounds it.
const PAGE_BYTES_MAX: usize = 66 << 20;
/// The most partitions, or targets of hints, that are looked at for one page.
const STEPS_MAX: usize = 64;
/// The objects of a page that are looked up at a time.
const LOOKUPS: usize = 16;
/// How long the owners of an object may take.
const LOOKUP_MS: u64 = 5_000;
/// How long an upload may pause.
const PART_WAIT: Duration = Duration::from_secs(30);

/// Where a walk is: the data store by partition, then the hints by whom they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Data(u32, Option<StoreKey>),
    Hints(NodeId, Option<StoreKey>),
    End,
}

impl Place {
    fn print(&self) -> String {
        let after = |key: &Option<StoreKey>| {
            key.as_ref().map_or_else(String::new, |key| hex::encode(key.encode()))
        };
        match self {
            Place::Data(partition, key) => format!("d.{partition}.{}", after(key)),
            Place::Hints(target, key) => format!("h.{target}.{}", after(key)),
            Place::End => String::new(),
        }
    }

    fn parse(token: &str) -> Option<Place> {
        if token.is_empty() {
            return Some(Place::Data(0, None));
        }
        let mut parts = token.split('.');
        let (kind, at, after) = (parts.next()?, parts.next()?, parts.next()?);
        let after = match after {
            "" => None,
            text => Some(StoreKey::decode(&hex::decode(text).ok()?)?),
        };
        match kind {
            "d" => Some(Place::Data(at.parse().ok()?, after)),
            "h" => Some(Place::Hints(at.parse().ok()?, after)),
            _ => None,
        }
    }
}

/// A page of what this node holds, which must have been removed, or refused as a second holder.
pub(super) async fn list_held(
    node: &Arc<Node>,
    request: &v1::ListHeldRequest,
) -> Result<v1::ListHeldResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let was_removed = catalogue.removed.contains_key(&node.id);
    let is_refused = matches!(node.driver.shared().standing(), Served::Refused(_));
    if !was_removed && !is_refused {
        let message = "this node is a member: what it holds is with the cluster already";
        return Err(errors::status(Code::FailedPrecondition, "NOT_REMOVED", message, &[]));
    }
    let mut place = Place::parse(&request.page_token).ok_or_else(|| {
        errors::bad_field("page_token", "BAD_PAGE_TOKEN", "give one of an answer, or none")
    })?;
    let (mut objects, mut bytes, mut damaged) = (Vec::new(), 0, 0);
    for _ in 0..STEPS_MAX {
        if place == Place::End || objects.len() >= OBJECTS_MAX || bytes >= PAGE_BYTES {
            break;
        }
        let room = (OBJECTS_MAX - objects.len(), PAGE_BYTES - bytes);
        let (found, bad, next) = read(node, &catalogue, &place, room).await.map_err(unreadable)?;
        damaged += bad as u32;
        for (key, siblings) in found {
            let mut encoded = Vec::new();
            siblings.encode(&mut encoded);
            bytes += key.key.len() + encoded.len();
            let (keyspace, key) = (key.keyspace.0, key.key);
            objects.push(v1::HeldObject { keyspace, key, siblings: encoded.into() });
        }
        place = next;
    }
    let count = objects.len() as u32;
    let page = v1::HeldPage {
        node_id: node.id.to_string(),
        alone_since_ms: node.alone_since_ms(&catalogue),
        objects,
        refused_incarnation: if was_removed { 0 } else { node.incarnation.0 },
    };
    let page = Bytes::from(page.encode_to_vec());
    let permille = match &place {
        Place::Data(at, _) => {
            u64::from(*at) * 1_000 / u64::from(catalogue.ring.partitions().max(1))
        }
        Place::Hints(..) | Place::End => 1_000,
    };
    Ok(v1::ListHeldResponse {
        proof: Bytes::copy_from_slice(&node.prove_page(&page)),
        page,
        next_page_token: place.print(),
        objects: count,
        damaged,
        permille: permille as u32,
    })
}

type Found = Vec<(StoreKey, Arc<Siblings>)>;

/// What is at `place`, how much of it is damaged, and where to go on.
async fn read(
    node: &Node,
    catalogue: &Catalogue,
    place: &Place,
    (objects_max, bytes_max): (usize, usize),
) -> Result<(Found, usize, Place), StoreError> {
    let hints_after = |last: Option<NodeId>| {
        let mut targets = node.stores.hint_figures().waiting.into_keys();
        let next = targets.find(|target| last.is_none_or(|last| *target > last));
        next.map_or(Place::End, |target| Place::Hints(target, None))
    };
    match place {
        Place::Data(at, after) => {
            let Ok(partition) = u16::try_from(*at).map(PartitionId) else {
                return Ok((Vec::new(), 0, hints_after(None)));
            };
            let first = partition.0.to_be_bytes();
            let from = match after {
                Some(after) => [&after.encode()[..], &[0]].concat(),
                None => first.to_vec(),
            };
            let until = after_prefix(&first);
            let (done, answer) = oneshot::channel();
            let done = Box::new(move |page| drop(done.send(page)));
            node.stores.scan(ScanJob { from, until, objects_max, bytes_max, since: 0, done });
            let page = answer.await.unwrap_or(Err(StoreError::Closed { store: "data" }))?;
            let next = match page.next {
                Some(key) => Place::Data(*at, Some(key)),
                None if at + 1 < catalogue.ring.partitions() => Place::Data(at + 1, None),
                None => hints_after(None),
            };
            Ok((page.objects, page.damaged, next))
        }
        Place::Hints(target, after) => {
            let (target, after, hints_max) = (*target, after.clone(), objects_max);
            let (done, answer) = oneshot::channel();
            let done = Box::new(move |hints| drop(done.send(hints)));
            node.stores.list_hints(ListHintsJob { target, after, hints_max, bytes_max, done });
            let hints = answer.await.unwrap_or(Err(StoreError::Closed { store: "hints" }))?;
            let next = match hints.last() {
                Some(last) => Place::Hints(target, Some(last.key.clone())),
                None => hints_after(Some(target)),
            };
            let mut found = Vec::new();
            for HeldHint { key, siblings, .. } in hints {
                // What the node owned itself was listed with its data.
                if !is_in_data(node, &key, &siblings).await? {
                    found.push((key, siblings));
                }
            }
            Ok((found, 0, next))
        }
        Place::End => Ok((Vec::new(), 0, Place::End)),
    }
}

async fn is_in_data(node: &Node, key: &StoreKey, hint: &Siblings) -> Result<bool, StoreError> {
    let (done, answer) = oneshot::channel();
    let done = Box::new(move |object| drop(done.send(object)));
    node.stores.load(LoadJob { key: key.clone(), from_hints_too: false, done });
    match answer.await.unwrap_or(Err(StoreError::Closed { store: "data" })) {
        Ok(data) => Ok(data.is_some_and(|data| data.vector().covers(hint.vector()))),
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unreadable(error: StoreError) -> Status {
    let facts = [("effect", "NONE".to_owned())];
    errors::status(Code::Unavailable, "NOT_READ", error.to_string(), &facts)
}

/// Takes a page of a former member, or of a second holder, in.
pub(super) async fn bring_home(
    node: &Arc<Node>,
    mut parts: Streaming<v1::BringHomeRequest>,
) -> Result<v1::BringHomeResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let header = match next(&mut parts).await?.and_then(|first| first.part) {
        Some(Part::Header(header)) => header,
        _ => return Err(errors::bad_field("header", "HEADER_MISSING", "it comes first")),
    };
    let mut page = BytesMut::new();
    while let Some(message) = next(&mut parts).await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            return Err(errors::bad_field("part", "HEADER_TWICE", "chunks follow the header"));
        };
        if page.len() + chunk.len() > PAGE_BYTES_MAX {
            let message = format!("a page has at most {PAGE_BYTES_MAX} bytes");
            return Err(errors::bad_field("chunk", "PAGE_TOO_LARGE", message));
        }
        page.extend_from_slice(&chunk);
    }
    if !node.is_page_proven(&page, &header.proof) {
        let message = "the page was not made by a node that knows this cluster's secret";
        return Err(errors::bad_field("header.proof", "PAGE_FORGED", message));
    }
    let bad = || errors::bad_field("chunk", "BAD_PAGE", "that is no page of held objects");
    let page = v1::HeldPage::decode(page.freeze()).map_err(|_| bad())?;
    let from: NodeId = page.node_id.parse().map_err(|_| bad())?;
    let refused = Incarnation(page.refused_incarnation);
    let is_second = |member: &Versioned<Member>| {
        ![Incarnation::default(), member.value.incarnation].contains(&refused)
    };
    let is_refused = catalogue.members.get(&from).is_some_and(is_second);
    if !catalogue.removed.contains_key(&from) && !is_refused {
        let message = format!("node {from} was not removed from this cluster, nor is it a copy");
        return Err(errors::status(Code::FailedPrecondition, "NOT_REMOVED", message, &[]));
    }
    let alone_since_ms = page.alone_since_ms;
    let source = Source { from, refused: is_refused.then_some(refused), alone_since_ms, catalogue };
    let taken = page.objects.into_iter().map(|object| take(node, &source, &header, object));
    let mut taken = futures::stream::iter(taken).buffer_unordered(LOOKUPS);
    let mut response = v1::BringHomeResponse::default();
    while let Some(one) = taken.next().await {
        match one? {
            Taken::Deleted => response.deleted += 1,
            Taken::Known => response.known += 1,
            Taken::Unknown(unknown, is_brought) => {
                match is_brought {
                    true => response.brought += 1,
                    false => response.doubtful += 1,
                }
                response.unknown.push(unknown);
            }
        }
    }
    Ok(response)
}

async fn next(
    parts: &mut Streaming<v1::BringHomeRequest>,
) -> Result<Option<v1::BringHomeRequest>, Status> {
    tokio::time::timeout(PART_WAIT, parts.message()).await.unwrap_or_else(|_| {
        let message = format!("no part for {} s; nothing was changed", PART_WAIT.as_secs());
        Err(errors::status(Code::DeadlineExceeded, "UPLOAD_STALLED", message, &[]))
    })
}

struct Source {
    from: NodeId,
    /// Its start, if it is a second holder.
    refused: Option<Incarnation>,
    alone_since_ms: u64,
    catalogue: Arc<Catalogue>,
}

enum Taken {
    Deleted,
    Known,
    /// And whether it was, or would be, brought.
    Unknown(v1::Unknown, bool),
}

async fn take(
    node: &Node,
    source: &Source,
    header: &v1::BringHomeHeader,
    object: v1::HeldObject,
) -> Result<Taken, Status> {
    let catalogue = &source.catalogue;
    let id = KeyspaceId(object.keyspace);
    let Some(keyspace) = catalogue.keyspace_by_id(id) else { return Ok(Taken::Deleted) };
    let bad = |_| errors::bad_field("chunk", "BAD_PAGE", "an object of it cannot be read");
    let held = Siblings::decode(object.siblings).map_err(bad)?;
    let n = keyspace.reading().n as usize;
    let partition = catalogue.ring.partition(id, &object.key);
    let owners = catalogue.ring.preference_list(partition, n).primaries().len() as u32;
    // All owners: what one of them alone knows is known.
    let request = GetRequest {
        keyspace: id,
        key: object.key.clone(),
        r: Some(owners),
        quorum: QuorumKind::Strict,
        timeout_ms: LOOKUP_MS,
    };
    let deadline = Instant::now() + Duration::from_millis(LOOKUP_MS);
    let answer = node.driver.get(request, deadline, Arc::new(())).await.map_err(errors::stopped)?;
    let known = answer.map_err(|error| errors::request(&error))?.siblings;
    let is_own = |actor: Actor| match source.refused {
        Some(refused) => (actor.node, actor.incarnation) == (source.from, refused),
        None => catalogue.removed.contains_key(&actor.node),
    };
    let standing = homecoming::standing(&held, &known, source.alone_since_ms, is_own);
    if standing == Standing::Known {
        return Ok(Taken::Known);
    }
    let is_brought = standing == Standing::New || header.doubtful;
    let unknown = v1::Unknown {
        keyspace: keyspace.name.clone(),
        key: object.key.clone(),
        versions: homecoming::unseen(&held, &known).len() as u32,
        written_at_ms: held.latest_ms(),
        doubtful: standing == Standing::Doubtful,
    };
    if is_brought && !header.dry_run {
        let (from, key, siblings) = (source.from, object.key, Arc::new(held));
        let home = Homecoming { from, keyspace: id, key, siblings };
        let taken = node.driver.bring_home(home).await.map_err(errors::stopped)?;
        taken.map_err(|error| match error {
            NotBroughtHome::Request(error) => errors::request(&error),
            NotBroughtHome::Store(error) => {
                let message = format!("{error}: of this page some may be taken; send it again");
                let facts = [("effect", "MAYBE".to_owned())];
                errors::status(Code::Unavailable, "NOT_TAKEN", message, &facts)
            }
        })?;
    }
    Ok(Taken::Unknown(unknown, is_brought))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nonsense_does_not() {
        let key = StoreKey {
            partition: PartitionId(7),
            keyspace: KeyspaceId(8),
            key: Bytes::from_static(b"a.b"),
        };
        for place in [
            Place::Data(7, None),
            Place::Data(65_535, Some(key.clone())),
            Place::Hints(NodeId(9), Some(key)),
        ] {
            assert_eq!(Place::parse(&place.print()), Some(place));
        }
        assert_eq!(Place::parse(""), Some(Place::Data(0, None)));
        for nonsense in ["x", "d", "d.1", "d.x.", "h.0.00", "d.1.zz", "."] {
            assert_eq!(Place::parse(nonsense), None, "{nonsense}");
        }
    }
}
