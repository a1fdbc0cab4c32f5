//! Every message between nodes, and what it is made of, field by field; and what the transport says
//! of members.

use std::sync::Arc;

use super::Wire;
use crate::agreement::{Answer, Ask, Ballot};
use crate::catalogue::{Decision, Durability, Member};
use crate::codec::{DecodeError, Reader, Sink};
use crate::collect::{Candidate, CollectAnswer, CollectAsk};
use crate::holder::Holder;
use crate::listing::{KeyRange, Slice};
use crate::message::{
    Comparison, ExchangeFigures, Message, ReplicaError, ReplicaWrite, TransferStep,
};
use crate::request::{Effect, PutRequest, QuorumKind, RequestError};
use crate::ring::{MadeMoves, Move};
use crate::tree::{
    BUCKETS, Held, KeyHash, Part, Roots, Sum, TreeAnswer, TreeNode, TreePage, TreeQuery, TreeRead,
};
use crate::usage::{Usage, UsageReport};
use crate::version::{Payload, RequestName};
use crate::write::{Draft, SiblingLimits, WriteRefused};

wire_enums! {
    Message {
        1 => Read { request, keyspace, key, ring_version, is_fallback },
        2 => ReadReply { request, result },
        3 => Write(write),
        4 => WriteReply { request, result },
        5 => Forward { request, put },
        6 => ForwardReply { request, result },
        7 => TreeRead { request, ring_version, is_fill, read },
        8 => TreeReply { request, result },
        9 => Collect { request, partition, scope, ask },
        10 => CollectReply { request, result },
        11 => Compare { request, partition, peer, keyspace },
        12 => CompareReply { request, result },
        13 => TransferAsk { request, ring_version, partition, step },
        14 => TransferAnswer { request, result },
        15 => Moved(made),
        16 => Clocks(told),
        17 => CatalogueDigest { digest },
        18 => Catalogue { catalogue, is_reply_wanted },
        19 => RingAsk { ring_version, ask },
        20 => RingAnswer { ring_version, answer },
        21 => List { request, ring_version, range },
        22 => ListReply { request, result },
        23 => Usage(report),
    }
    ReplicaError {
        1 => UnknownKeyspace,
        2 => NotOwner { ring_version },
        3 => NotMember,
        4 => StaleEpoch { floor },
        5 => Damaged,
        6 => Filling,
        7 => Store(said),
        8 => NoRoom { bytes_max },
    }
    RequestError {
        1 => NoCluster,
        2 => Removed { ring_version },
        3 => NotAccepted,
        4 => SecondHolder { incarnation, address },
        5 => UnknownKeyspace(keyspace),
        6 => BadQuorum { name, found, n },
        7 => TooFewNodes { name, needed, owners },
        8 => QuorumNotReached { needed, answered, effect },
        9 => Expired,
        10 => Refused(why),
        11 => RequestReused(dot),
        12 => Store { reason, effect },
        13 => NoRoom { bytes_max },
        14 => TooFewNear { name, needed, owners },
    }
    WriteRefused {
        1 => TooManySiblings { found, max },
        2 => SiblingsTooLarge { found, max },
        3 => TooManyWrites { found, max },
        4 => TooManyExpired { found, bytes },
        5 => PartlyFolded { seen, inputs },
        6 => NotAsMarked,
        7 => RequestReused(dot),
        8 => OverKeys { found, max },
        9 => OverBytes { found, added, max },
    }
    Effect { 1 => None, 2 => Maybe }
    QuorumKind { 1 => Sloppy, 2 => Strict, 3 => Local }
    Durability { 1 => All, 2 => One, 3 => Buffered }
    Payload { 1 => Value(bytes), 2 => Tombstone }
    TreeQuery {
        1 => Roots,
        2 => Sums(keyspace, nodes),
        3 => Keys(part),
        4 => Objects(keyspace, keys),
    }
    TreeAnswer { 1 => NotReady, 2 => Roots(roots), 3 => Sums(sums), 4 => Keys(page), 5 => Objects(held) }
    Held { 1 => Nothing, 2 => Damaged, 3 => Whole(siblings) }
    CollectAsk {
        1 => Mark(candidates),
        2 => Clean,
        3 => Fence,
        4 => Seal { life, arrivals, floors, candidates },
        5 => Drop { life, candidates },
    }
    CollectAnswer {
        1 => Marked { life, agreed, absent },
        2 => Clean { life, arrivals },
        3 => Fenced { epoch },
        4 => Sealed { agreed },
        5 => Dropped { count },
    }
    TransferStep { 1 => Freeze, 2 => HandOver { freeze } }
    Ask<Arc<Decision>> { 1 => Prepare(ballot), 2 => Accept(ballot, decision) }
    Answer<Arc<Decision>> {
        1 => Promised { ballot, accepted },
        2 => Accepted { ballot },
        3 => Refused { ballot, promised },
    }
}

wire_structs! {
    ReplicaWrite {
        request, keyspace, key, ring_version, siblings, hint_for, is_sync, epoch, is_background,
    }
    PutRequest { keyspace, key, context, draft, w, quorum, durability, limits, timeout_ms }
    Draft { payload, schema, ttl_ms, labels, request }
    RequestName { id, fingerprint }
    SiblingLimits { siblings_max, siblings_bytes_max }
    KeyRange { partition, keyspace, from, until }
    Slice { objects, is_cut }
    Part { keyspace, buckets, after, until }
    Roots { sums, damaged }
    Sum { hash, count }
    TreePage { keys, next }
    KeyHash { key, hash }
    Candidate { keyspace, key, hash, is_deleted, was_absent }
    Comparison { found, is_over, failure }
    ExchangeFigures { questions, keys_compared, keys_differed, keys_repaired, keys_damaged }
    MadeMoves { ring_version, moves }
    Move { partition, from, to }
    Ballot { round, node, nonce }
    UsageReport { usages, is_all, is_complete, wants_all }
    Usage { keys, bytes }
    Holder { incarnation, peer_address, client_address, admin_address }
    Member { peer_address, client_address, admin_address, region, zone, weight, incarnation }
}

/// Whether the bytes of a message are a [`Message::ReadReply`].
pub fn is_read_reply(bytes: &[u8]) -> bool {
    bytes.first() == Some(&2)
}

/// The name of a quorum: core names them by `r` and `w` only.
impl Wire for &'static str {
    fn to_wire(&self, out: &mut impl Sink) {
        (*self == "r").to_wire(out);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(if bool::from_wire(from)? { "r" } else { "w" })
    }
}

/// A sum of hashes is as good as random.
impl Wire for u128 {
    fn to_wire(&self, out: &mut impl Sink) {
        Sink::put(out, &self.to_be_bytes());
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Wire::from_wire(from).map(u128::from_be_bytes)
    }
}

impl Wire for TreeRead {
    fn to_wire(&self, out: &mut impl Sink) {
        self.partition.to_wire(out);
        self.query.to_wire(out);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        let read = TreeRead { partition: Wire::from_wire(from)?, query: Wire::from_wire(from)? };
        let is_bounded = match &read.query {
            TreeQuery::Roots => true,
            TreeQuery::Sums(_, nodes) => nodes.len() <= TreeQuery::SUMS_MAX,
            TreeQuery::Keys(part) => part.buckets.last().is_none_or(|last| *last < BUCKETS),
            TreeQuery::Objects(_, keys) => keys.len() <= TreeQuery::OBJECTS_MAX,
        };
        if is_bounded { Ok(read) } else { Err(from.invalid("it asks for more than a tree has")) }
    }
}

impl Wire for TreeNode {
    fn to_wire(&self, out: &mut impl Sink) {
        Sink::put(out, &[self.level()]);
        self.index().to_wire(out);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        let (level, index) = (from.byte()?, u16::from_wire(from)?);
        TreeNode::new(level, index).ok_or_else(|| from.invalid("a hash tree has no such node"))
    }
}
