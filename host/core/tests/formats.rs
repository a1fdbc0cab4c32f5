//! Stored and sealed bytes: they read back, they are canonical, and damage is noticed.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use history::{History, bytes, steps};
use proptest::prelude::*;
use stator_core::ancestor::{Past, PastVersion};
use stator_core::causality::{Context, Siblings, Survivors, VersionVector};
use stator_core::codec::{DecodeError, Reader, UnknownField, put_field};
use stator_core::collect::Listed;
use stator_core::id::{Actor, Dot, Incarnation, ModuleDigest, NodeId};
use stator_core::keys::StoreKey;
use stator_core::record::{FORMAT, Mark, Record};
use stator_core::request_notes::RequestNote;
use stator_core::tree::ObjectHash;
use stator_core::version::{FINGERPRINT_BYTES, Origin, Payload, RequestName, Version};

fn dots(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Dot>> {
    let dot = (any::<u64>(), any::<u64>(), any::<u64>(), 1..=u64::MAX);
    let dot = dot.prop_map(|(node, incarnation, epoch, counter)| Dot {
        actor: Actor { node: NodeId(node), incarnation: Incarnation(incarnation), epoch },
        counter,
    });
    prop::collection::btree_set(dot, count).prop_map(|dots| dots.into_iter().collect())
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Tombstone),
        any::<Vec<u8>>().prop_map(|bytes| Payload::Value(bytes.into())),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        dots(1..2).prop_map(|dots| Origin::Client(dots[0])),
        (any::<[u8; 32]>(), dots(0..4))
            .prop_map(|(module, inputs)| Origin::Fold { module: ModuleDigest(module), inputs }),
    ]
}

fn request_name() -> impl Strategy<Value = RequestName> {
    (any::<Vec<u8>>(), any::<[u8; FINGERPRINT_BYTES]>())
        .prop_map(|(id, fingerprint)| RequestName { id: id.into(), fingerprint })
}

fn request_note() -> impl Strategy<Value = RequestNote> {
    (request_name(), dots(1..2), any::<u64>()).prop_map(|(name, dots, written_at_ms)| RequestNote {
        name,
        dot: dots[0],
        written_at_ms,
    })
}

fn past() -> impl Strategy<Value = Past> {
    let vector = || dots(0..3).prop_map(VersionVector::from_iter);
    let ancestor = (dots(1..2), vector(), payload(), any::<u32>(), any::<u64>());
    let ancestor = ancestor.prop_map(|(dots, seen, payload, schema, written_at_ms)| {
        Arc::new(PastVersion { dot: dots[0], seen, payload, schema, written_at_ms })
    });
    let past = (vector(), prop::option::of(ancestor));
    past.prop_map(|(seen, ancestor)| Past { seen, ancestor })
}

fn version() -> impl Strategy<Value = Version> {
    let unknown = prop::collection::btree_map(11..=u64::MAX, any::<Vec<u8>>(), 0..3);
    let unknown = unknown.prop_map(|fields| {
        fields.into_iter().map(|(tag, bytes)| UnknownField { tag, bytes: bytes.into() }).collect()
    });
    let labels = prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..3);
    let numbers = (any::<u64>(), any::<Option<u64>>(), any::<u32>());
    let names = (labels, prop::option::of(request_name()), unknown);
    let past = (dots(0..3), prop::option::of(past()));
    (payload(), numbers, origin(), past, names).prop_map(
        |(payload, (written_at_ms, expires_at_ms, schema), origin, (base, past), names)| {
            let (labels, request, unknown) = names;
            Version {
                payload,
                written_at_ms,
                expires_at_ms,
                schema,
                origin,
                base,
                past,
                labels,
                request,
                unknown,
            }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let targets = prop::collection::btree_set(any::<u64>().prop_map(NodeId), 0..4);
    let mark = prop::option::of(dots(1..2));
    let notes = prop::collection::vec(request_note(), 0..3);
    let hash = prop::option::of(any::<u128>().prop_map(ObjectHash));
    let since = prop::option::of(any::<u64>());
    let listed = (any::<bool>(), prop::option::of(any::<u64>()))
        .prop_map(|(is_forgettable, due_ms)| Listed { is_forgettable, due_ms });
    let local = (mark, targets, any::<u64>(), notes, hash, (since, listed));
    (steps(false), local).prop_map(
        |(
            steps,
            (mark, targets, sequence, request_notes, object_hash, (held_since_ms, listed)),
        )| {
            let siblings = Arc::new(History::run(Survivors::LastWrite, &steps).siblings(0));
            let mark = mark.map(|dots| Mark { actor: dots[0].actor, counter: dots[0].counter });
            Record {
                siblings,
                mark,
                targets,
                sequence,
                request_notes,
                object_hash,
                listed,
                held_since_ms,
            }
        },
    )
}

proptest! {
    #[test]
    fn versions_read_back_with_what_is_unknown(version in version()) {
        let mut out = Vec::new();
        version.encode(&mut out);
        prop_assert_eq!(Version::decode(out.into()), Ok(version));
    }

    #[test]
    fn siblings_read_back(steps in steps(true), lww: bool) {
        let fold = if lww { Survivors::LastWrite } else { Survivors::All };
        for siblings in History::run(fold, &steps).all() {
            let encoded = bytes(&siblings);
            let decoded = Siblings::decode(encoded.clone().into()).unwrap();
            prop_assert_eq!(bytes(&decoded), encoded);
            prop_assert_eq!(decoded, siblings);
        }
    }

    #[test]
    fn records_read_back(record in record()) {
        prop_assert_eq!(Record::decode(record.encode().into()), Ok(record));
    }

    #[test]
    fn contexts_read_back(dots in dots(0..5), timestamp_ms: u64) {
        let context = Context { vector: dots.into_iter().collect(), timestamp_ms };
        let mut out = Vec::new();
        context.encode(&mut out);
        let mut reader = Reader::new(out.into(), "context");
        prop_assert_eq!(Context::decode(&mut reader), Ok(context));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_flipped_bit_in_a_record_is_noticed(
        record in record(), at: prop::sample::Index, bit in 0u32..8,
    ) {
        let mut encoded = record.encode();
        let at = at.index(encoded.len());
        encoded[at] ^= 1 << bit;
        prop_assert!(Record::decode(encoded.into()).is_err(), "byte {at}");
    }

    #[test]
    fn a_cut_record_is_noticed(record in record(), at: prop::sample::Index) {
        let mut encoded = record.encode();
        encoded.truncate(at.index(encoded.len()));
        prop_assert!(Record::decode(encoded.into()).is_err());
    }

    #[test]
    fn noise_is_an_error_or_a_value_but_no_panic(noise: Vec<u8>) {
        let noise = Bytes::from(noise);
        let _ = Siblings::decode(noise.clone());
        let _ = Version::decode(noise.clone());
        let _ = Record::decode(noise.clone());
        let _ = StoreKey::decode(&noise);
        let _ = Context::decode(&mut Reader::new(noise, "noise"));
    }

    /// What is damaged in a way that still reads keeps the invariant: live dots are seen dots.
    #[test]
    fn altered_siblings_are_refused_or_sound(
        steps in steps(false), at: prop::sample::Index, byte: u8,
    ) {
        let mut encoded = bytes(&History::run(Survivors::All, &steps).siblings(0));
        prop_assume!(!encoded.is_empty());
        let at = at.index(encoded.len());
        encoded[at] = byte;
        if let Ok(siblings) = Siblings::decode(encoded.into()) {
            prop_assert!(siblings.live().all(|(dot, _)| siblings.vector().contains(&dot)));
            let read_again = Siblings::decode(bytes(&siblings).into());
            prop_assert_eq!(read_again, Ok(siblings));
        }
    }

    #[test]
    fn store_keys_read_back_in_order(partition: u16, keyspace: u64, key: Vec<u8>, next: Vec<u8>) {
        let of = |key: &[u8]| StoreKey {
            partition: stator_core::id::PartitionId(partition),
            keyspace: stator_core::id::KeyspaceId(keyspace),
            key: Bytes::copy_from_slice(key),
        };
        prop_assert_eq!(StoreKey::decode(&of(&key).encode()), Some(of(&key)));
        prop_assert_eq!(of(&key).cmp(&of(&next)), of(&key).encode().cmp(&of(&next).encode()));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let dot =
        Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 0 }, counter: 1 };
    let version = Version {
        past: None,
        payload: Payload::Tombstone,
        written_at_ms: 1,
        expires_at_ms: None,
        schema: 0,
        origin: Origin::Client(dot),
        base: Vec::new(),
        labels: BTreeMap::new(),
        request: None,
        unknown: Vec::new(),
    };
    let (mut vector, mut live) = (Vec::new(), Vec::new());
    VersionVector::from_iter([dot]).encode(&mut vector);
    VersionVector::from_iter([dot]).encode(&mut live);
    version.encode(&mut live);
    let mut unseen = Vec::new();
    VersionVector::new().encode(&mut unseen);
    type Fields<'a> = &'a [(u64, &'a [u8])];
    let table: [(&str, Fields, bool); 7] = [
        ("sound", &[(1, &vector), (2, &live)], true),
        ("a version that is not in the vector", &[(1, &unseen), (2, &live)], false),
        ("a version without a vector", &[(2, &live)], false),
        ("one dot for two versions", &[(1, &vector), (2, &live), (2, &live)], false),
        ("two vectors", &[(1, &vector), (2, &live), (1, &unseen)], false),
        ("a field of a newer version", &[(1, &vector), (2, &live), (3, b"")], false),
        ("a version cut off", &[(1, &vector), (2, &live[..live.len() - 1])], false),
    ];
    for (case, fields, is_sound) in table {
        let mut encoded = Vec::new();
        fields.iter().for_each(|(tag, bytes)| put_field(&mut encoded, *tag, bytes));
        assert_eq!(Siblings::decode(encoded.into()).is_ok(), is_sound, "{case}");
    }
}

#[test]
fn a_record_says_what_is_wrong_with_it() {
    let record = Record { targets: BTreeSet::from([NodeId(1)]), ..Record::default() };
    let mut newer = record.encode();
    newer[0] = FORMAT + 1;
    let expected = DecodeError::UnknownFormat { what: "record", found: FORMAT + 1 };
    assert_eq!(Record::decode(newer.into()), Err(expected));
    let mut damaged = record.encode();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(Record::decode(damaged.into()), Err(DecodeError::Damaged { what: "record" }));
}
