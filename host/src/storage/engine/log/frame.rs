//! A batch as it stands in the log: one frame.
//!
//! ```text
//!   sum 8 │ length 4 │ segment 8 │ number 8 │ synced 8 │ before 8 │ operations …
//!         └────────────────────── what the sum is over ─────────────────────┘
//!   operation:  key length 4 │ value length 4, or NONE │ key │ value
//! ```
//!
//! Files are used again, so bytes of an older segment stand behind the last frame: a frame that
//! names another segment is none. A frame says up to which number all were synced when it was
//! written, and how many the segment before has. So where frames end early it can be told whether
//! what is missing may be so (it was written and never synced: a power cut) or was promised
//! (damage).

use bytes::{Buf, BufMut, Bytes};
use stator_core::codec::{CHECKSUM_BYTES, checksum};

use crate::storage::engine::Batch;

/// In the place of a value's length: the key is deleted.
const NONE: u32 = u32::MAX;
const FIXED_BYTES: usize = 4 + 8 + 8 + 8 + 8;
const HEAD_BYTES: usize = CHECKSUM_BYTES + FIXED_BYTES;
const OP_BYTES: usize = 4 + 4;

/// Keys, each with its value or without one.
pub(super) type Ops = Vec<(Bytes, Option<Bytes>)>;

/// Where a frame stands, and what was safe when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// In its segment, from 1 on.
    pub(super) number: u64,
    /// All of its segment up to this number were synced.
    pub(super) synced: u64,
    /// How many frames the segment before has, all of them synced.
    pub(super) before: u64,
}

/// The operations of `batch`; nothing is copied.
pub(super) fn ops(batch: Batch) -> Ops {
    batch.into_ops().map(|(key, value)| (key.into(), value)).collect()
}

/// Appends the frame of `ops` to `out`. False if a frame cannot have that many bytes.
pub(super) fn encode(out: &mut Vec<u8>, place: Place, ops: &Ops) -> bool {
    let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let bytes: usize =
        ops.iter().map(|(key, value)| OP_BYTES + key.len() + value_bytes(value)).sum();
    let Ok(length) = u32::try_from(bytes) else { return false };
    let start = out.len();
    out.reserve(HEAD_BYTES + bytes);
    out.put_bytes(0, CHECKSUM_BYTES);
    out.put_u32(length);
    out.put_u64(place.segment);
    out.put_u64(place.number);
    out.put_u64(place.synced);
    out.put_u64(place.before);
    for (key, value) in ops {
        out.put_u32(key.len() as u32);
        out.put_u32(value.as_ref().map_or(NONE, |value| value.len() as u32));
        out.put_slice(key);
        out.put_slice(value.as_deref().unwrap_or_default());
    }
    let sum = checksum(&out[start + CHECKSUM_BYTES..]);
    out[start..start + CHECKSUM_BYTES].copy_from_slice(&sum);
    true
}

/// The frame of `segment` at the start of `bytes`, with how many bytes it has; none if there is
/// no whole one.
pub(super) fn decode(bytes: &Bytes, segment: u64) -> Option<(Place, Ops, usize)> {
    let mut head = bytes.get(CHECKSUM_BYTES..HEAD_BYTES)?;
    let length = HEAD_BYTES + head.get_u32() as usize;
    let mut next = || head.get_u64();
    let place = Place { segment: next(), number: next(), synced: next(), before: next() };
    // Before the sum: behind the last frame it is another one's bytes that would be summed up.
    if place.segment != segment || length > bytes.len() {
        return None;
    }
    if bytes[..CHECKSUM_BYTES] != checksum(&bytes[CHECKSUM_BYTES..length]) {
        return None;
    }
    Some((place, read_ops(bytes.slice(HEAD_BYTES..length))?, length))
}

fn read_ops(mut bytes: Bytes) -> Option<Ops> {
    let mut ops = Vec::new();
    while !bytes.is_empty() {
        let (key, value) = (bytes.try_get_u32().ok()?, bytes.try_get_u32().ok()?);
        let key = take(&mut bytes, key)?;
        let value = if value == NONE { None } else { Some(take(&mut bytes, value)?) };
        ops.push((key, value));
    }
    Some(ops)
}

fn take(bytes: &mut Bytes, length: u32) -> Option<Bytes> {
    (length as usize <= bytes.len()).then(|| bytes.split_to(length as usize))
}

/// The first whole frame of `segment` behind the start of `bytes`, wherever it begins.
pub(super) fn search(bytes: &Bytes, segment: u64) -> Option<Place> {
    let name = segment.to_be_bytes();
    let at = CHECKSUM_BYTES + 4;
    (1..bytes.len().saturating_sub(HEAD_BYTES - 1))
        .filter(|start| bytes[start + at..start + at + name.len()] == name)
        .find_map(|start| decode(&bytes.slice(start..), segment))
        .map(|(place, _, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_ops() -> impl Strategy<Value = Ops> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let value = proptest::option::of(bytes.clone());
        proptest::collection::vec((bytes, value), 0..8)
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_and_no_part_or_alteration_of_it_does(
            ops in some_ops(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let place = Place { segment: 7, number: 9, synced: 8, before: 0 };
            let mut bytes = Vec::new();
            prop_assert!(encode(&mut bytes, place, &ops));
            let whole = bytes.len();
            let at = at.index(whole);
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            prop_assert_eq!(decode(&altered.into(), 7), None);
            prop_assert_eq!(decode(&bytes[..at].to_vec().into(), 7), None);
            let mut shifted = vec![1, 2, 3];
            shifted.extend_from_slice(&bytes);
            prop_assert_eq!(search(&shifted.into(), 7), Some(place));
            bytes.extend_from_slice(&[0; 50]);
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(decode(&bytes, 8), None, "it is of another segment");
            prop_assert_eq!(decode(&bytes, 7), Some((place, ops, whole)));
        }
    }
}
