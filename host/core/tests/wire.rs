//! What travels: every message comes back as it went, equal messages have equal bytes, and no bytes
//! make reading panic or take memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use stator_core::agreement::{Answer, Ask, Ballot};
use stator_core::catalogue::{
    Catalogue, CatalogueChange, Decision, Durability, KeyspaceSpec, Member, Merging, Module,
    ModuleClass, Quorums, Reconcile, RingChange, Secret, Versioned,
};
use stator_core::causality::{Context, Siblings, VersionVector};
use stator_core::codec::{Pieces, Reader};
use stator_core::collect::{Candidate, CollectAnswer, CollectAsk};
use stator_core::id::{
    Actor, ClusterId, Dot, Incarnation, KeyspaceId, ModuleDigest, NodeId, PartitionId,
};
use stator_core::message::{
    Comparison, ExchangeFigures, Message, ReplicaError, ReplicaWrite, TransferStep,
};
use stator_core::request::{Effect, PutRequest, QuorumKind, RequestError};
use stator_core::ring::{MadeMoves, Move, claim, plan};
use stator_core::tree::{
    Held, KeyHash, ObjectHash, Part, Roots, Sum, TreeAnswer, TreeNode, TreePage, TreeQuery,
    TreeRead,
};
use stator_core::usage::{Usage, UsageReport};
use stator_core::version::{FINGERPRINT_BYTES, Origin, Payload, RequestName, Version};
use stator_core::wire::{self, Wire};
use stator_core::write::{Draft, SiblingLimits, WriteRefused};

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_dot() -> impl Strategy<Value = Dot> {
    (1..4u64, 0..3u64, any::<u64>(), 1..u64::MAX).prop_map(|(node, life, epoch, counter)| Dot {
        actor: Actor { node: NodeId(node), incarnation: Incarnation(life), epoch },
        counter,
    })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    option::of(any_bytes()).prop_map(|value| value.map_or(Payload::Tombstone, Payload::Value))
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(".{0,5}", ".{0,5}", 0..3)
}

/// Blind puts of one writer per version, so that all of them stay.
fn any_siblings() -> impl Strategy<Value = Arc<Siblings>> {
    let version = (any_payload(), any::<u64>(), any::<u32>(), any_labels());
    vec(version, 0..4).prop_map(|versions| {
        let mut siblings = Siblings::new();
        for (epoch, (payload, written_at_ms, schema, labels)) in versions.into_iter().enumerate() {
            let actor = Actor { node: NodeId(1), incarnation: Incarnation(2), epoch: epoch as u64 };
            let dot = Dot { actor, counter: 1 };
            let version = Version {
                past: None,
                payload,
                written_at_ms,
                expires_at_ms: None,
                schema,
                origin: Origin::Client(dot),
                base: Vec::new(),
                labels,
                request: None,
                unknown: Vec::new(),
            };
            siblings.put(&VersionVector::new(), dot, Arc::new(version));
        }
        Arc::new(siblings)
    })
}

fn any_context() -> impl Strategy<Value = Context> {
    (vec(any_dot(), 0..4), any::<u64>()).prop_map(|(dots, timestamp_ms)| Context {
        vector: dots.into_iter().collect(),
        timestamp_ms,
    })
}

fn any_name() -> impl Strategy<Value = RequestName> {
    (any_bytes(), any::<[u8; FINGERPRINT_BYTES]>())
        .prop_map(|(id, fingerprint)| RequestName { id, fingerprint })
}

fn any_put() -> impl Strategy<Value = PutRequest> {
    let draft =
        (any_payload(), any::<u32>(), any::<Option<u64>>(), any_labels(), option::of(any_name()));
    let durability =
        prop_oneof![Just(Durability::All), Just(Durability::One), Just(Durability::Buffered)];
    let quorum =
        prop_oneof![Just(QuorumKind::Sloppy), Just(QuorumKind::Strict), Just(QuorumKind::Local)];
    let target = (any::<u64>(), any_bytes(), any_context());
    let rest = (any::<Option<u32>>(), quorum, option::of(durability));
    let limits = (any::<usize>(), any::<usize>(), any::<u64>());
    (target, draft, rest, limits).prop_map(
        |(
            (keyspace, key, context),
            (payload, schema, ttl_ms, labels, request),
            (w, quorum, durability),
            (siblings_max, siblings_bytes_max, timeout_ms),
        )| PutRequest {
            keyspace: KeyspaceId(keyspace),
            key,
            context,
            draft: Draft { payload, schema, ttl_ms, labels, request },
            w,
            quorum,
            durability,
            limits: SiblingLimits { siblings_max, siblings_bytes_max },
            timeout_ms,
        },
    )
}

fn any_replica_error() -> impl Strategy<Value = ReplicaError> {
    prop_oneof![
        Just(ReplicaError::UnknownKeyspace),
        Just(ReplicaError::NotMember),
        any::<u64>().prop_map(|floor| ReplicaError::StaleEpoch { floor }),
        any::<u64>().prop_map(|ring_version| ReplicaError::NotOwner { ring_version }),
        Just(ReplicaError::Damaged),
        Just(ReplicaError::Filling),
        ".{0,9}".prop_map(ReplicaError::Store),
        any::<u64>().prop_map(|bytes_max| ReplicaError::NoRoom { bytes_max }),
    ]
}

fn any_effect() -> impl Strategy<Value = Effect> {
    prop_oneof![Just(Effect::None), Just(Effect::Maybe)]
}

fn any_request_error() -> impl Strategy<Value = RequestError> {
    let name = || prop_oneof![Just("r"), Just("w")];
    let two = || (any::<u32>(), any::<u32>());
    let sizes = || (any::<usize>(), any::<usize>());
    prop_oneof![
        Just(RequestError::NoCluster),
        Just(RequestError::NotAccepted),
        Just(RequestError::Expired),
        (any::<u64>(), ".{0,9}").prop_map(|(incarnation, address)| RequestError::SecondHolder {
            incarnation: Incarnation(incarnation),
            address,
        }),
        Just(RequestError::Refused(WriteRefused::NotAsMarked)),
        any_dot().prop_map(|dot| RequestError::Refused(WriteRefused::RequestReused(dot))),
        any::<u64>().prop_map(|id| RequestError::UnknownKeyspace(KeyspaceId(id))),
        (name(), two()).prop_map(|(name, (found, n))| RequestError::BadQuorum { name, found, n }),
        (name(), two()).prop_map(|(name, (needed, owners))| RequestError::TooFewNear {
            name,
            needed,
            owners
        }),
        (name(), two()).prop_map(|(name, (needed, owners))| RequestError::TooFewNodes {
            name,
            needed,
            owners
        }),
        (two(), any_effect()).prop_map(|((needed, answered), effect)| {
            RequestError::QuorumNotReached { needed, answered, effect }
        }),
        (1..u64::MAX).prop_map(|counter| {
            let actor = Actor { node: NodeId(1), incarnation: Incarnation(2), epoch: 3 };
            RequestError::RequestReused(Dot { actor, counter })
        }),
        any::<u64>().prop_map(|ring_version| RequestError::Removed { ring_version }),
        any::<u64>().prop_map(|bytes_max| RequestError::NoRoom { bytes_max }),
        sizes().prop_map(|(found, max)| {
            RequestError::Refused(WriteRefused::TooManySiblings { found, max })
        }),
        sizes().prop_map(|(found, max)| {
            RequestError::Refused(WriteRefused::SiblingsTooLarge { found, max })
        }),
        sizes().prop_map(|(found, max)| {
            RequestError::Refused(WriteRefused::TooManyWrites { found, max })
        }),
        any::<(u64, u64)>().prop_map(|(found, max)| {
            RequestError::Refused(WriteRefused::OverKeys { found, max })
        }),
        any::<(u64, u64, u64)>().prop_map(|(found, added, max)| {
            RequestError::Refused(WriteRefused::OverBytes { found, added, max })
        }),
        sizes().prop_map(|(found, bytes)| {
            RequestError::Refused(WriteRefused::TooManyExpired { found, bytes })
        }),
        sizes().prop_map(|(seen, inputs)| {
            RequestError::Refused(WriteRefused::PartlyFolded { seen, inputs })
        }),
        (".{0,9}", any_effect())
            .prop_map(|(reason, effect)| RequestError::Store { reason, effect }),
    ]
}

fn any_catalogue() -> impl Strategy<Value = Arc<Catalogue>> {
    (any::<u128>(), ".{0,9}", 1..6u64, any::<bool>()).prop_map(|(id, name, nodes, has_module)| {
        let mut catalogue = Catalogue::new(ClusterId(id), &name, Secret([id as u8; 32]));
        for node in 1..=nodes {
            let member = Member {
                peer_address: format!("10.0.0.{node}:7001"),
                client_address: format!("10.0.0.{node}:7000"),
                admin_address: format!("10.0.0.{node}:7002"),
                region: "eu".to_owned(),
                zone: format!("z{}", node % 2),
                weight: 1,
                incarnation: Default::default(),
            };
            catalogue.members.insert(NodeId(node), Versioned::new(member));
        }
        catalogue.ring = claim(1, 16, 3, &catalogue.seats()).expect("a ring");
        let digest = ModuleDigest::of(name.as_bytes());
        if has_module {
            let module = Module {
                pushed_at_ms: 1,
                name,
                size_bytes: 9,
                class: ModuleClass::Large,
                generation: 0,
                is_deleted: false,
                laws: None,
                signatures: Default::default(),
            };
            let change = CatalogueChange::AddModule { digest, module };
            change.apply(&mut catalogue).expect("a module");
        }
        let spec = KeyspaceSpec {
            name: "carts".to_owned(),
            quorums: Quorums { n: 3, r: 1, w: 1 },
            durability: Durability::One,
            reconcile: match has_module {
                true => Reconcile::Module(digest),
                false => Reconcile::LastWriteWins,
            },
            read_repair_percent: 7,
            merging: Merging { history_ms: 8, previous: has_module, ..Merging::default() },
            signed_by: Default::default(),
            quota: Default::default(),
        };
        let change = CatalogueChange::CreateKeyspace(spec);
        change.apply(&mut catalogue).expect("a keyspace");
        Arc::new(catalogue)
    })
}

fn any_write() -> impl Strategy<Value = ReplicaWrite> {
    let names = (any::<u64>(), any::<u64>(), any_bytes(), any::<u64>());
    let hint_for = vec(any::<u64>().prop_map(NodeId), 0..4);
    let flags = any::<(bool, bool)>();
    (names, any_siblings(), hint_for, flags, any::<u64>()).prop_map(
        |((request, keyspace, key, ring_version), siblings, hint_for, flags, epoch)| {
            let (is_sync, is_background) = flags;
            ReplicaWrite {
                request,
                keyspace: KeyspaceId(keyspace),
                key,
                ring_version,
                siblings,
                hint_for,
                is_sync,
                epoch,
                is_background,
            }
        },
    )
}

fn any_tree_read() -> impl Strategy<Value = TreeRead> {
    let keyspace = || any::<u64>().prop_map(KeyspaceId);
    let node = (0..4u8, any::<u16>())
        .prop_filter_map("there is none", |(level, index)| TreeNode::new(level, index >> 4));
    let part = (keyspace(), btree_set(0..4096u16, 0..9), option::of(any_bytes()));
    let query = prop_oneof![
        Just(TreeQuery::Roots),
        (keyspace(), vec(node, 0..9))
            .prop_map(|(keyspace, nodes)| TreeQuery::Sums(keyspace, nodes)),
        (part, option::of(any_bytes())).prop_map(|((keyspace, buckets, after), until)| {
            TreeQuery::Keys(Part { keyspace, buckets, after, until })
        }),
        (keyspace(), vec(any_bytes(), 0..9))
            .prop_map(|(keyspace, keys)| TreeQuery::Objects(keyspace, keys)),
    ];
    (any::<u16>().prop_map(PartitionId), query)
        .prop_map(|(partition, query)| TreeRead { partition, query })
}

fn any_tree_answer() -> impl Strategy<Value = TreeAnswer> {
    let sum = || (any::<u128>(), any::<u64>()).prop_map(|(hash, count)| Sum { hash, count });
    let root = (any::<u64>().prop_map(KeyspaceId), sum());
    let key = (any_bytes(), option::of(any::<u128>().prop_map(ObjectHash)));
    let key = key.prop_map(|(key, hash)| KeyHash { key, hash });
    let held = prop_oneof![
        Just(Held::Nothing),
        Just(Held::Damaged),
        any_siblings().prop_map(Held::Whole),
    ];
    prop_oneof![
        Just(TreeAnswer::NotReady),
        (vec(root, 0..4), any::<u64>())
            .prop_map(|(sums, damaged)| TreeAnswer::Roots(Roots { sums, damaged })),
        vec(held, 0..4).prop_map(TreeAnswer::Objects),
        vec(sum(), 0..40).prop_map(TreeAnswer::Sums),
        (vec(key, 0..9), option::of(any_bytes()))
            .prop_map(|(keys, next)| TreeAnswer::Keys(TreePage { keys, next })),
    ]
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    let figures = (any::<u64>(), any::<u64>(), any::<u64>(), any::<(u64, u64)>());
    (figures, any::<bool>(), option::of(".{0,9}")).prop_map(|(figures, is_over, failure)| {
        let (questions, keys_compared, keys_differed, (keys_repaired, keys_damaged)) = figures;
        let found = ExchangeFigures {
            questions,
            keys_compared,
            keys_differed,
            keys_repaired,
            keys_damaged,
        };
        Comparison { found, is_over, failure }
    })
}

fn result_of<T: std::fmt::Debug, E: std::fmt::Debug>(
    good: impl Strategy<Value = T>,
    bad: impl Strategy<Value = E>,
) -> impl Strategy<Value = Result<T, E>> {
    prop_oneof![good.prop_map(Ok), bad.prop_map(Err)]
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), any::<u64>().prop_map(NodeId), any::<u64>())
        .prop_map(|(round, node, nonce)| Ballot { round, node, nonce })
}

/// What a commit of a further member would make.
fn any_decision() -> impl Strategy<Value = Arc<Decision>> {
    (any_catalogue(), any::<u64>()).prop_map(|(catalogue, nonce)| {
        let mut catalogue = Catalogue::clone(&catalogue);
        let member = catalogue.members[&NodeId(1)].value.clone();
        let member = Member { peer_address: "10.0.0.9:7001".to_owned(), ..member };
        let (node, member) = (NodeId(9), Box::new(member));
        let change = RingChange::Join { node };
        let admit = CatalogueChange::Admit { node, member, change };
        admit.apply(&mut catalogue).expect("a further member");
        let planned = plan(&catalogue).expect("a plan");
        Arc::new(planned.decision(&catalogue, 7, NodeId(1), nonce))
    })
}

fn any_ask() -> impl Strategy<Value = Ask<Arc<Decision>>> {
    prop_oneof![
        any_ballot().prop_map(Ask::Prepare),
        (any_ballot(), any_decision()).prop_map(|(ballot, value)| Ask::Accept(ballot, value)),
    ]
}

fn any_answer() -> impl Strategy<Value = Answer<Arc<Decision>>> {
    let accepted = option::of((any_ballot(), any_decision()));
    prop_oneof![
        (any_ballot(), accepted)
            .prop_map(|(ballot, accepted)| Answer::Promised { ballot, accepted }),
        any_ballot().prop_map(|ballot| Answer::Accepted { ballot }),
        (any_ballot(), any_ballot())
            .prop_map(|(ballot, promised)| Answer::Refused { ballot, promised }),
    ]
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let candidate = (any::<u64>(), any_bytes(), any::<u128>(), any::<(bool, bool)>());
    let candidate = candidate.prop_map(|(keyspace, key, hash, (is_deleted, was_absent))| {
        let (keyspace, hash) = (KeyspaceId(keyspace), ObjectHash(hash));
        Candidate { keyspace, key, hash, is_deleted, was_absent }
    });
    vec(candidate, 0..4)
}

fn any_collect_ask() -> impl Strategy<Value = CollectAsk> {
    let floors = vec((any::<u64>().prop_map(NodeId), any::<u64>()), 0..4);
    prop_oneof![
        any_candidates().prop_map(CollectAsk::Mark),
        Just(CollectAsk::Clean),
        Just(CollectAsk::Fence),
        (any::<(u64, u64)>(), floors, any_candidates()).prop_map(
            |((life, arrivals), floors, candidates)| {
                CollectAsk::Seal { life, arrivals, floors, candidates }
            }
        ),
        (any::<u64>(), any_candidates())
            .prop_map(|(life, candidates)| CollectAsk::Drop { life, candidates }),
    ]
}

fn any_collect_answer() -> impl Strategy<Value = CollectAnswer> {
    let places = || vec(any::<u32>(), 0..4);
    prop_oneof![
        (any::<u64>(), places(), places())
            .prop_map(|(life, agreed, absent)| CollectAnswer::Marked { life, agreed, absent }),
        any::<(u64, u64)>().prop_map(|(life, arrivals)| CollectAnswer::Clean { life, arrivals }),
        any::<u64>().prop_map(|epoch| CollectAnswer::Fenced { epoch }),
        places().prop_map(|agreed| CollectAnswer::Sealed { agreed }),
        any::<u64>().prop_map(|count| CollectAnswer::Dropped { count }),
    ]
}

/// A message of the kind that the number names.
fn any_message() -> impl Strategy<Value = Message> {
    let read = (any::<u64>(), any_bytes(), any::<u64>(), any::<bool>());
    let found = result_of(option::of(any_siblings()), any_replica_error());
    let stored = result_of(Just(()), any_replica_error());
    let put = result_of((any_dot(), any_siblings()), any_request_error());
    let tree = result_of(any_tree_answer(), any_replica_error());
    prop_oneof![
        (any::<u64>(), read).prop_map(|(request, (keyspace, key, ring_version, is_fallback))| {
            Message::Read {
                request,
                keyspace: KeyspaceId(keyspace),
                key,
                ring_version,
                is_fallback,
            }
        }),
        (any::<u64>(), found).prop_map(|(request, result)| Message::ReadReply { request, result }),
        any_write().prop_map(Message::Write),
        (any::<u64>(), stored)
            .prop_map(|(request, result)| Message::WriteReply { request, result }),
        (any::<u64>(), any_put()).prop_map(|(request, put)| Message::Forward { request, put }),
        (any::<u64>(), put).prop_map(|(request, result)| Message::ForwardReply { request, result }),
        (any::<u64>(), any::<(u64, bool)>(), any_tree_read()).prop_map(
            |(request, (ring_version, is_fill), read)| {
                Message::TreeRead { request, ring_version, is_fill, read }
            }
        ),
        (any::<u64>(), tree).prop_map(|(request, result)| Message::TreeReply { request, result }),
        (any::<u64>(), any::<u64>(), any::<u16>(), any::<Option<u64>>()).prop_map(
            |(request, peer, partition, keyspace)| {
                let (partition, keyspace) = (PartitionId(partition), keyspace.map(KeyspaceId));
                Message::Compare { request, partition, peer: NodeId(peer), keyspace }
            }
        ),
        (any::<u64>(), result_of(any_comparison(), any_replica_error()))
            .prop_map(|(request, result)| Message::CompareReply { request, result }),
        (any::<u64>(), any::<u64>(), any::<u16>(), any::<Option<u64>>()).prop_map(
            |(request, ring_version, partition, freeze)| {
                let step = match freeze {
                    None => TransferStep::Freeze,
                    Some(freeze) => TransferStep::HandOver { freeze },
                };
                let partition = PartitionId(partition);
                Message::TransferAsk { request, ring_version, partition, step }
            }
        ),
        (any::<u64>(), result_of(any::<u64>(), any_replica_error()))
            .prop_map(|(request, result)| Message::TransferAnswer { request, result }),
        (any::<u64>(), any::<u16>(), any::<Option<u64>>(), any::<Option<u64>>()).prop_map(
            |(ring_version, partition, from, to)| {
                let (from, to) = (from.map(NodeId), to.map(NodeId));
                let made = Move { partition: PartitionId(partition), from, to };
                Message::Moved(MadeMoves { ring_version, moves: vec![made; 3] })
            }
        ),
        any::<[u8; 32]>().prop_map(|digest| Message::CatalogueDigest { digest }),
        vec((any::<u64>().prop_map(NodeId), any::<u64>()), 0..4).prop_map(Message::Clocks),
        (any::<[u64; 3]>(), any::<bool>(), any::<bool>()).prop_map(
            |(numbers, is_all, is_complete)| {
                let usage = Usage { keys: numbers[1], bytes: numbers[2] };
                let usages = [(KeyspaceId(numbers[0]), usage)].into();
                let wants_all = is_all ^ is_complete;
                Message::Usage(UsageReport { usages, is_all, is_complete, wants_all })
            }
        ),
        (any::<u64>(), any::<u16>(), any::<[u8; 32]>(), any_collect_ask()).prop_map(
            |(request, partition, scope, ask)| {
                let partition = PartitionId(partition);
                Message::Collect { request, partition, scope, ask }
            }
        ),
        (any::<u64>(), result_of(any_collect_answer(), ".{0,9}"))
            .prop_map(|(request, result)| Message::CollectReply { request, result }),
        (any_catalogue(), any::<bool>()).prop_map(|(catalogue, is_reply_wanted)| {
            Message::Catalogue { catalogue, is_reply_wanted }
        }),
        (any::<u64>(), any_ask()).prop_map(|(ring_version, ask)| {
            Message::RingAsk { ring_version, ask: Box::new(ask) }
        }),
        (any::<u64>(), any_answer()).prop_map(|(ring_version, answer)| {
            Message::RingAnswer { ring_version, answer: Box::new(answer) }
        }),
    ]
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut out = Pieces::new();
    message.to_wire(&mut out);
    out.to_vec()
}

fn read(bytes: Vec<u8>) -> Option<Message> {
    wire::decode(bytes.into(), "a message").ok()
}

/// What is written canonically comes back as the same bytes; catalogues are JSON, which is not.
fn is_canonical(message: &Message) -> bool {
    let is_stored = matches!(
        message,
        Message::Catalogue { .. } | Message::RingAsk { .. } | Message::RingAnswer { .. }
    );
    !is_stored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_message_comes_back_as_it_went(message in any_message()) {
        let bytes = bytes_of(&message);
        let back = read(bytes.clone());
        prop_assert_eq!(back.as_ref(), Some(&message));
        prop_assert_eq!(back.map(|back| bytes_of(&back)), Some(bytes));
    }

    #[test]
    fn a_message_is_measured_without_being_written(message in any_message()) {
        let (measured, length) = (wire::measure(&message), bytes_of(&message).len());
        prop_assert!(!is_canonical(&message) || length == measured, "{} for {}", measured, length);
    }

    #[test]
    fn damaged_messages_are_read_without_a_panic(
        message in any_message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut bytes = bytes_of(&message);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Some(message) = read(bytes.clone()) {
            // Whatever passed for a message is one, and there is one way to write it.
            let again = bytes_of(&message);
            prop_assert!(!is_canonical(&message) || again == bytes, "{:?}", message);
            prop_assert_eq!(read(again), Some(message));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(bytes);
    }

    #[test]
    fn bytes_left_over_are_an_error(message in any_message(), more in vec(any::<u8>(), 1..4)) {
        let mut bytes = bytes_of(&message);
        bytes.extend(more);
        prop_assert_eq!(read(bytes), None);
    }
}

#[test]
fn a_value_is_neither_copied_out_nor_in() {
    let value = Bytes::from(vec![7; 1 << 20]);
    let put = |value: &Bytes| {
        let dot = Dot {
            actor: Actor { node: NodeId(1), incarnation: Incarnation(2), epoch: 0 },
            counter: 1,
        };
        let version = Version {
            past: None,
            payload: Payload::Value(value.clone()),
            written_at_ms: 1,
            expires_at_ms: None,
            schema: 0,
            origin: Origin::Client(dot),
            base: Vec::new(),
            labels: BTreeMap::new(),
            request: None,
            unknown: Vec::new(),
        };
        let mut siblings = Siblings::new();
        siblings.put(&VersionVector::new(), dot, Arc::new(version));
        Arc::new(siblings)
    };
    let siblings = put(&value);
    let message = Message::ReadReply { request: 1, result: Ok(Some(siblings.clone())) };
    let mut out = Pieces::new();
    message.to_wire(&mut out);
    assert!(out.iter().any(|piece| piece.as_ptr() == value.as_ptr()), "it is shared");
    assert!(std::ptr::eq(siblings.canonical(), siblings.canonical()), "it is made once");
    let arrived = Bytes::from(out.to_vec());
    let range = arrived.as_ptr_range();
    let Ok(Message::ReadReply { result: Ok(Some(back)), .. }) = wire::decode(arrived, "a message")
    else {
        panic!("it does not come back");
    };
    let (_, version) = back.live().next().expect("a version");
    assert!(range.contains(&version.payload.value().expect("a value").as_ptr()), "it is a slice");
}

#[test]
fn a_list_takes_no_memory_ahead_of_its_bytes() {
    // A count that the bytes could hold, of items that would take 32 times as much.
    let mut bytes = vec![0; 1 << 20];
    bytes[..3].copy_from_slice(&[0xF0, 0xFF, 0x3F]);
    let mut reader = Reader::new(bytes.into(), "keys");
    assert!(Vec::<Bytes>::from_wire(&mut reader).is_err());
}
