//! Questions about hash trees, and their answers, as protobuf and back.

use bytes::Bytes;
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::message::{Comparison, ExchangeFigures, Message, ReplicaError};
use stator_core::tree::{
    BUCKETS, Buckets, Held, KeyHash, ObjectHash, Part, Roots, Sum, TreeAnswer, TreeNode, TreePage,
    TreeQuery, TreeRead,
};
use stator_proto::peer::v1 as proto;

use super::message::{PLAIN_BYTES, decode, encode, replica_error_from_wire, replica_error_to_wire};
use super::{WireError, fixed, required};
use proto::{compare_reply, tree_read, tree_reply};

/// About how many bytes the question takes.
pub(super) fn read_bytes(read: &TreeRead) -> usize {
    match &read.query {
        TreeQuery::Roots => 0,
        TreeQuery::Sums(_, nodes) => nodes.len() * 4,
        TreeQuery::Keys(part) => {
            let key = |key: &Option<Bytes>| key.as_ref().map_or(0, Bytes::len);
            part.buckets.len() * 2 + key(&part.after) + key(&part.until)
        }
        TreeQuery::Objects(_, keys) => keys.iter().map(|key| key.len() + 4).sum(),
    }
}

/// About how many bytes the answer takes.
pub(super) fn answer_bytes(answer: &TreeAnswer) -> usize {
    match answer {
        TreeAnswer::NotReady => 0,
        TreeAnswer::Roots(roots) => roots.sums.len() * 40,
        TreeAnswer::Sums(sums) => sums.len() * 28,
        TreeAnswer::Keys(page) => {
            let keys = page.keys.iter().map(|known| known.key.len() + PLAIN_BYTES / 4);
            keys.sum::<usize>() + page.next.as_ref().map_or(0, Bytes::len)
        }
        TreeAnswer::Objects(objects) => {
            let bytes = |held: &Held| match held {
                Held::Whole(siblings) => siblings.weight_bytes() + PLAIN_BYTES,
                Held::Nothing | Held::Damaged => 4,
            };
            objects.iter().map(bytes).sum()
        }
    }
}

pub(super) fn read_to_wire(
    request: u64,
    (ring_version, is_fill): (u64, bool),
    read: TreeRead,
) -> proto::TreeRead {
    use tree_read::Query;
    let query = match read.query {
        TreeQuery::Roots => Query::Roots(proto::Nothing {}),
        TreeQuery::Sums(keyspace, nodes) => Query::Sums(proto::TreeNodes {
            keyspace: keyspace.0,
            nodes: nodes.iter().map(node_to_wire).collect(),
        }),
        TreeQuery::Keys(Part { keyspace, buckets, after, until }) => Query::Keys(proto::TreePart {
            keyspace: keyspace.0,
            buckets: buckets.into_iter().map(u32::from).collect(),
            after,
            until,
        }),
        TreeQuery::Objects(keyspace, keys) => {
            Query::Objects(proto::TreeObjects { keyspace: keyspace.0, keys })
        }
    };
    let partition = read.partition.0.into();
    proto::TreeRead { request, ring_version, partition, query: Some(query), is_fill }
}

pub(super) fn read_from_wire(read: proto::TreeRead) -> Result<Message, WireError> {
    use tree_read::Query;
    let query = match required(read.query, "a question about hash trees")? {
        Query::Roots(_) => TreeQuery::Roots,
        Query::Sums(proto::TreeNodes { keyspace, nodes }) => {
            if nodes.len() > TreeQuery::SUMS_MAX {
                return Err(WireError::OutOfRange("a number of hash tree nodes"));
            }
            let nodes = nodes.into_iter().map(node_from_wire).collect::<Result<_, _>>()?;
            TreeQuery::Sums(KeyspaceId(keyspace), nodes)
        }
        Query::Keys(proto::TreePart { keyspace, buckets, after, until }) => {
            let bucket = |bucket: u32| {
                let bucket = u16::try_from(bucket).ok().filter(|bucket| *bucket < BUCKETS);
                bucket.ok_or(WireError::OutOfRange("a hash tree bucket"))
            };
            let buckets = buckets.into_iter().map(bucket).collect::<Result<Buckets, _>>()?;
            TreeQuery::Keys(Part { keyspace: KeyspaceId(keyspace), buckets, after, until })
        }
        Query::Objects(proto::TreeObjects { keyspace, keys }) => {
            if keys.len() > TreeQuery::OBJECTS_MAX {
                return Err(WireError::OutOfRange("a number of keys"));
            }
            TreeQuery::Objects(KeyspaceId(keyspace), keys)
        }
    };
    let partition = partition_from_wire(read.partition)?;
    let proto::TreeRead { request, ring_version, is_fill, .. } = read;
    Ok(Message::TreeRead { request, ring_version, is_fill, read: TreeRead { partition, query } })
}

pub(super) fn reply_to_wire(
    request: u64,
    result: Result<TreeAnswer, ReplicaError>,
) -> proto::TreeReply {
    use tree_reply::Result as Wire;
    let result = match result {
        Ok(TreeAnswer::NotReady) => Wire::NotReady(proto::Nothing {}),
        Ok(TreeAnswer::Roots(Roots { sums, damaged })) => Wire::Roots(proto::TreeRoots {
            damaged,
            roots: sums
                .into_iter()
                .map(|(keyspace, sum)| proto::TreeRoot {
                    keyspace: keyspace.0,
                    sum: Some(sum_to_wire(sum)),
                })
                .collect(),
        }),
        Ok(TreeAnswer::Sums(sums)) => {
            Wire::Sums(proto::TreeSums { sums: sums.into_iter().map(sum_to_wire).collect() })
        }
        Ok(TreeAnswer::Keys(TreePage { keys, next })) => {
            Wire::Keys(proto::TreePage { keys: keys.into_iter().map(key_to_wire).collect(), next })
        }
        Ok(TreeAnswer::Objects(objects)) => {
            let objects = objects.into_iter().map(held_to_wire).collect();
            Wire::Objects(proto::HeldObjects { objects })
        }
        Err(error) => Wire::Error(replica_error_to_wire(error)),
    };
    proto::TreeReply { request, result: Some(result) }
}

pub(super) fn reply_from_wire(reply: proto::TreeReply) -> Result<Message, WireError> {
    use tree_reply::Result as Wire;
    let result = match required(reply.result, "an answer about hash trees")? {
        Wire::NotReady(_) => Ok(TreeAnswer::NotReady),
        Wire::Roots(proto::TreeRoots { roots, damaged }) => {
            let root = |root: proto::TreeRoot| {
                let sum = required(root.sum, "a hash tree's root")?;
                Ok((KeyspaceId(root.keyspace), sum_from_wire(sum)))
            };
            let sums = roots.into_iter().map(root).collect::<Result<_, WireError>>()?;
            Ok(TreeAnswer::Roots(Roots { sums, damaged }))
        }
        Wire::Sums(proto::TreeSums { sums }) => {
            Ok(TreeAnswer::Sums(sums.into_iter().map(sum_from_wire).collect()))
        }
        Wire::Keys(proto::TreePage { keys, next }) => {
            let keys = keys.into_iter().map(key_from_wire).collect::<Result<_, _>>()?;
            Ok(TreeAnswer::Keys(TreePage { keys, next }))
        }
        Wire::Objects(proto::HeldObjects { objects }) => {
            let objects = objects.into_iter().map(held_from_wire).collect::<Result<_, _>>()?;
            Ok(TreeAnswer::Objects(objects))
        }
        Wire::Error(error) => Err(replica_error_from_wire(error)?),
    };
    Ok(Message::TreeReply { request: reply.request, result })
}

fn partition_from_wire(partition: u32) -> Result<PartitionId, WireError> {
    let partition = u16::try_from(partition).map(PartitionId);
    partition.map_err(|_| WireError::OutOfRange("a partition"))
}

/// About how many bytes the comparison takes.
pub(super) fn comparison_bytes(comparison: &Comparison) -> usize {
    comparison.failure.as_ref().map_or(0, String::len)
}

pub(super) fn compare_from_wire(compare: proto::Compare) -> Result<Message, WireError> {
    let proto::Compare { request, peer, partition, keyspace } = compare;
    let (partition, keyspace) = (partition_from_wire(partition)?, keyspace.map(KeyspaceId));
    Ok(Message::Compare { request, partition, peer: NodeId(peer), keyspace })
}

pub(super) fn compare_reply_to_wire(
    request: u64,
    result: Result<Comparison, ReplicaError>,
) -> proto::CompareReply {
    use compare_reply::Result as Wire;
    let result = match result {
        Ok(Comparison { found, is_over, failure }) => Wire::Report(proto::Comparison {
            questions: found.questions,
            keys_compared: found.keys_compared,
            keys_differed: found.keys_differed,
            keys_repaired: found.keys_repaired,
            keys_damaged: found.keys_damaged,
            is_over,
            failure,
        }),
        Err(error) => Wire::Error(replica_error_to_wire(error)),
    };
    proto::CompareReply { request, result: Some(result) }
}

pub(super) fn compare_reply_from_wire(reply: proto::CompareReply) -> Result<Message, WireError> {
    use compare_reply::Result as Wire;
    let result = match required(reply.result, "a comparison")? {
        Wire::Report(report) => {
            let found = ExchangeFigures {
                questions: report.questions,
                keys_compared: report.keys_compared,
                keys_differed: report.keys_differed,
                keys_repaired: report.keys_repaired,
                keys_damaged: report.keys_damaged,
            };
            Ok(Comparison { found, is_over: report.is_over, failure: report.failure })
        }
        Wire::Error(error) => Err(replica_error_from_wire(error)?),
    };
    Ok(Message::CompareReply { request: reply.request, result })
}

fn held_to_wire(held: Held) -> proto::HeldObject {
    use proto::held_object::Held as Wire;
    let held = match held {
        Held::Nothing => Wire::Nothing(proto::Nothing {}),
        Held::Damaged => Wire::Damaged(proto::Nothing {}),
        Held::Whole(siblings) => Wire::Siblings(encode(&siblings)),
    };
    proto::HeldObject { held: Some(held) }
}

fn held_from_wire(object: proto::HeldObject) -> Result<Held, WireError> {
    use proto::held_object::Held as Wire;
    Ok(match required(object.held, "what is held")? {
        Wire::Nothing(_) => Held::Nothing,
        Wire::Damaged(_) => Held::Damaged,
        Wire::Siblings(siblings) => Held::Whole(decode(siblings)?),
    })
}

fn node_to_wire(node: &TreeNode) -> u32 {
    u32::from(node.level()) << 16 | u32::from(node.index())
}

fn node_from_wire(node: u32) -> Result<TreeNode, WireError> {
    let level = u8::try_from(node >> 16).ok();
    let node = level.and_then(|level| TreeNode::new(level, node as u16));
    node.ok_or(WireError::OutOfRange("a hash tree node"))
}

fn sum_to_wire(Sum { hash, count }: Sum) -> proto::TreeSum {
    proto::TreeSum { high: (hash >> 64) as u64, low: hash as u64, count }
}

fn sum_from_wire(sum: proto::TreeSum) -> Sum {
    Sum { hash: u128::from(sum.high) << 64 | u128::from(sum.low), count: sum.count }
}

fn key_to_wire(KeyHash { key, hash }: KeyHash) -> proto::TreeKey {
    let hash = hash.map(|hash| Bytes::copy_from_slice(&hash.0.to_be_bytes()));
    proto::TreeKey { key, hash }
}

fn key_from_wire(known: proto::TreeKey) -> Result<KeyHash, WireError> {
    let hash = known.hash.map(|hash| fixed(&hash, "an object's hash")).transpose()?;
    Ok(KeyHash { key: known.key, hash: hash.map(|hash| ObjectHash(u128::from_be_bytes(hash))) })
}
