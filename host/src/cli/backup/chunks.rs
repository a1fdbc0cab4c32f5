//! Cutting objects into chunks that stay the same.
//!
//! Objects come in an order of their own (partition, then key), the same for every backup of a
//! keyspace. Where a chunk ends is decided by the key that it ends with, not by a count: so a key that
//! is added, changed or gone changes the chunk that it is in, and the next ones are cut as before
//! (content-defined chunking, as in LBFS, Muthitacharoen et al., SOSP 2001, by keys instead of bytes).

use bytes::Bytes;

use crate::cli::data::format::{read_record, record};
use crate::cli::failure::Failure;

/// A chunk has at least this many bytes, if enough follows.
const BYTES_MIN: usize = 256 << 10;
/// A chunk ends with the object that goes beyond this, whatever its key.
const BYTES_MAX: usize = 8 << 20;
/// One of so many keys ends a chunk.
const ENDS: u8 = 64;

/// Objects that become chunks.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    bytes: Vec<u8>,
    keys: u64,
}

impl Cutter {
    /// Takes an object, and gives the chunk that it ends with its number of keys.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        object: &[u8],
    ) -> Result<Option<(Bytes, u64)>, Failure> {
        record(&mut self.bytes, key, object)?;
        self.keys += 1;
        let size = self.bytes.len();
        let is_end = blake3::hash(key).as_bytes()[0].is_multiple_of(ENDS);
        match size >= BYTES_MAX || (size >= BYTES_MIN && is_end) {
            true => Ok(self.end()),
            false => Ok(None),
        }
    }

    /// What is left.
    pub(super) fn end(&mut self) -> Option<(Bytes, u64)> {
        let (bytes, keys) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.keys));
        (keys > 0).then(|| (bytes.into(), keys))
    }
}

/// The objects of a chunk.
pub(super) fn objects(chunk: &Bytes) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let (mut rest, mut all) = (&chunk[..], Vec::new());
    while let Some(object) = read_record(&mut rest)? {
        all.push(object);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn cut(held: &BTreeMap<u32, Vec<u8>>) -> Vec<Bytes> {
        let mut cutter = Cutter::default();
        let mut chunks = Vec::new();
        for (key, object) in held {
            chunks.extend(cutter.add(&key.to_be_bytes(), object).expect("it fits"));
        }
        chunks.extend(cutter.end());
        chunks.into_iter().map(|(bytes, _)| bytes).collect()
    }

    #[test]
    fn a_change_costs_the_chunks_around_it_and_all_objects_come_back() {
        let mut held: BTreeMap<u32, Vec<u8>> =
            (0..20_000).map(|key| (key * 2, vec![key as u8; 500])).collect();
        let before = cut(&held);
        assert!(before.len() > 10);
        let read: Vec<_> = before.iter().flat_map(|chunk| objects(chunk).expect("whole")).collect();
        assert!(read.iter().map(|(_, object)| &object[..]).eq(held.values().map(|o| &o[..])));
        held.insert(10_001, vec![1; 500]);
        held.remove(&30_000);
        held.insert(20_000, vec![7; 900]);
        let known: BTreeSet<Bytes> = before.into_iter().collect();
        let new = cut(&held).into_iter().filter(|chunk| !known.contains(chunk)).count();
        assert!((1..=6).contains(&new), "{new} chunks are new");
    }
}
