//! Values of any size over an engine that wants small ones.
//!
//! ```text
//!   00 name            a note of the store itself
//!   01 key             the head: the value, or how many chunks it has
//!   02 key index       one chunk: at most 64 KiB of the value, index in 4 bytes
//!   03 04              the index of collection: `index.rs`
//! ```
//!
//! A head ends in a byte that says which it is. Keys keep their order within each prefix, so a
//! range of keys is one range of heads and one of chunks.
//!
//! A reader takes several steps, and a writer may replace the value between them. So each chunk
//! ends in a stamp, 8 bytes that the head repeats and that no two values share: a reader that
//! meets another stamp starts again if the head has changed, and reports damage if it has not.

use bytes::Bytes;

use super::engine::{Batch, Engine, EngineError};

/// Values above this many bytes are cut.
pub(super) const CHUNK_BYTES_MAX: usize = 64 << 10;

const NOTE: u8 = 0;
const HEAD: u8 = 1;
const CHUNK: u8 = 2;

const INLINE: u8 = 0;
const CUT: u8 = 1;
const STAMP_BYTES: usize = 8;
const CUT_HEAD_BYTES: usize = 4 + STAMP_BYTES + 1;

/// A value as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// Nothing is under the key.
    Missing,
    /// The value, and how many chunks it has.
    Whole(Bytes, u32),
    /// The head is unreadable, or chunks are missing or of another value; with the count of
    /// chunks if the head tells it, else 0.
    Torn(u32),
}

/// Puts `value` under `key` in place of a value of `replaced` chunks. `new_stamp` gives a number
/// that was never used. Gives the value as it stands there, if it is not cut.
pub(super) fn put(
    batch: &mut Batch,
    key: &[u8],
    mut value: Vec<u8>,
    replaced: u32,
    new_stamp: impl FnOnce() -> u64,
) -> Option<Bytes> {
    let (mut count, mut whole) = (0, None);
    if value.len() <= CHUNK_BYTES_MAX {
        value.push(INLINE);
        let value = Bytes::from(value);
        batch.put(prefixed(HEAD, key), value.clone());
        whole = Some(value.slice(..value.len() - 1));
    } else {
        let stamp = new_stamp();
        for chunk in value.chunks(CHUNK_BYTES_MAX) {
            let mut stamped = Vec::with_capacity(chunk.len() + STAMP_BYTES);
            stamped.extend_from_slice(chunk);
            stamped.extend_from_slice(&stamp.to_be_bytes());
            batch.put(chunk_key(key, count), stamped);
            count += 1;
        }
        let mut head = count.to_be_bytes().to_vec();
        head.extend_from_slice(&stamp.to_be_bytes());
        head.push(CUT);
        batch.put(prefixed(HEAD, key), head);
    }
    (count..replaced).for_each(|index| batch.delete(chunk_key(key, index)));
    whole
}

/// Removes the value of `replaced` chunks under `key`.
pub(super) fn delete(batch: &mut Batch, key: &[u8], replaced: u32) {
    batch.delete(prefixed(HEAD, key));
    (0..replaced).for_each(|index| batch.delete(chunk_key(key, index)));
}

/// Puts one of the store's own notes.
pub(super) fn put_note(batch: &mut Batch, name: &str, value: Vec<u8>) {
    batch.put(prefixed(NOTE, name.as_bytes()), value);
}

/// One of the store's own notes.
pub(super) fn note(engine: &dyn Engine, name: &str) -> Result<Option<Bytes>, EngineError> {
    engine.get(&prefixed(NOTE, name.as_bytes()))
}

/// The value of `key`, unless it has more bytes than fit: of a value that was cut `fits` is asked
/// before any of it is read, with the most bytes that it can have.
pub(super) fn get<E>(
    engine: &dyn Engine,
    key: &[u8],
    fits: impl Fn(usize) -> Result<(), E>,
) -> Result<Result<Stored, E>, EngineError> {
    let Some(head) = engine.get(&prefixed(HEAD, key))? else { return Ok(Ok(Stored::Missing)) };
    let bytes = cut(&head).map(|(count, _)| (count as usize).saturating_mul(CHUNK_BYTES_MAX));
    match bytes.map_or(Ok(()), fits) {
        Ok(()) => assemble(engine, key, head).map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

/// The first `limit` values from the key `from` on, in key order.
pub(super) fn scan(
    engine: &dyn Engine,
    from: &[u8],
    limit: usize,
) -> Result<Vec<(Bytes, Stored)>, EngineError> {
    let heads = engine.scan(&prefixed(HEAD, from), &[CHUNK], limit)?;
    heads
        .into_iter()
        .map(|(key, head)| {
            let key = key.slice(1..);
            let stored = assemble(engine, &key, head)?;
            Ok((key, stored))
        })
        .collect()
}

fn assemble(engine: &dyn Engine, key: &[u8], mut head: Bytes) -> Result<Stored, EngineError> {
    loop {
        let Some((count, stamp)) = cut(&head) else {
            return Ok(match head.split_last() {
                Some((&INLINE, _)) => Stored::Whole(head.slice(..head.len() - 1), 0),
                _ => Stored::Torn(0),
            });
        };
        if let Some(value) = gather(engine, key, count, stamp)? {
            return Ok(Stored::Whole(value, count));
        }
        match engine.get(&prefixed(HEAD, key))? {
            None => return Ok(Stored::Missing),
            Some(now) if now == head => return Ok(Stored::Torn(count)),
            Some(now) => head = now,
        }
    }
}

/// Count of chunks and stamp, if `head` is that of a value that was cut.
fn cut(head: &[u8]) -> Option<(u32, &[u8])> {
    let (count, rest) = head.split_first_chunk()?;
    let is_cut = head.len() == CUT_HEAD_BYTES && rest[STAMP_BYTES] == CUT;
    is_cut.then(|| (u32::from_be_bytes(*count), &rest[..STAMP_BYTES]))
}

fn gather(
    engine: &dyn Engine,
    key: &[u8],
    count: u32,
    stamp: &[u8],
) -> Result<Option<Bytes>, EngineError> {
    let mut value = Vec::new();
    for index in 0..count {
        match engine.get(&chunk_key(key, index))? {
            Some(chunk) if chunk.ends_with(stamp) => {
                value.extend_from_slice(&chunk[..chunk.len() - STAMP_BYTES]);
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(value.into()))
}

fn prefixed(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(prefix);
    out.extend_from_slice(key);
    out
}

fn chunk_key(key: &[u8], index: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len() + 4);
    out.push(CHUNK);
    out.extend_from_slice(key);
    out.extend_from_slice(&index.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::engine::{MemoryEngine, SledEngine};
    use super::*;

    fn get(engine: &dyn Engine, key: &[u8]) -> Result<Stored, EngineError> {
        super::get(engine, key, |_| Ok::<_, std::convert::Infallible>(())).map(|Ok(stored)| stored)
    }

    fn write(engine: &dyn Engine, key: &[u8], value: &[u8], stamp: u64) {
        let replaced = match get(engine, key).unwrap() {
            Stored::Missing => 0,
            Stored::Whole(_, count) | Stored::Torn(count) => count,
        };
        let mut batch = Batch::new();
        put(&mut batch, key, value.to_vec(), replaced, || stamp);
        engine.apply(batch).unwrap();
    }

    fn read(engine: &dyn Engine, key: &[u8]) -> Bytes {
        match get(engine, key).unwrap() {
            Stored::Whole(value, _) => value,
            other => panic!("{other:?}"),
        }
    }

    fn entries(engine: &dyn Engine) -> usize {
        engine.scan(&[], &[0xff], usize::MAX).unwrap().len()
    }

    #[test]
    fn values_of_every_size_read_back_and_leave_nothing_behind() {
        let engine = MemoryEngine::new();
        let sizes = [0, 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 1 << 20, 3 * CHUNK_BYTES_MAX, 12];
        for (stamp, size) in (1..).zip(sizes) {
            let value: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
            write(&engine, b"k", &value, stamp);
            assert_eq!(read(&engine, b"k"), value);
            let chunks = if size > CHUNK_BYTES_MAX { size.div_ceil(CHUNK_BYTES_MAX) } else { 0 };
            assert_eq!(entries(&engine), 1 + chunks, "size {size}");
        }
        write(&engine, b"k", &[1; 200_000], 99);
        let mut batch = Batch::new();
        delete(&mut batch, b"k", 4);
        engine.apply(batch).unwrap();
        assert_eq!(entries(&engine), 0);
    }

    #[test]
    fn a_key_that_ends_like_an_index_is_another_key() {
        let engine = MemoryEngine::new();
        write(&engine, b"k", &[1; 200_000], 1);
        write(&engine, b"k\0\0\0\x01", &[2; 200_000], 2);
        write(&engine, b"k\0\0\0\0", b"3", 3);
        assert_eq!(read(&engine, b"k"), vec![1; 200_000]);
        assert_eq!(read(&engine, b"k\0\0\0\x01"), vec![2; 200_000]);
        let keys: Vec<Bytes> =
            scan(&engine, b"", 9).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"k"[..], b"k\0\0\0\0", b"k\0\0\0\x01"]);
    }

    #[test]
    fn a_missing_chunk_or_one_of_another_value_is_noticed() {
        let engine = MemoryEngine::new();
        write(&engine, b"k", &[1; 200_000], 1);
        let old = engine.get(&chunk_key(b"k", 2)).unwrap().unwrap();
        write(&engine, b"k", &[2; 200_000], 2);
        let mut batch = Batch::new();
        batch.put(chunk_key(b"k", 2), old.to_vec());
        engine.apply(batch).unwrap();
        assert_eq!(get(&engine, b"k").unwrap(), Stored::Torn(4));
        let mut batch = Batch::new();
        batch.delete(chunk_key(b"k", 2));
        engine.apply(batch).unwrap();
        assert_eq!(get(&engine, b"k").unwrap(), Stored::Torn(4));
    }

    /// Replaces the value under `k` while a reader is between its steps.
    struct Racing {
        engine: MemoryEngine,
        replacements: std::sync::atomic::AtomicU64,
    }

    impl Engine for Racing {
        fn describe(&self) -> String {
            self.engine.describe()
        }
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            use std::sync::atomic::Ordering;
            let found = self.engine.get(key);
            if key[0] == CHUNK && self.replacements.load(Ordering::Relaxed) > 0 {
                let stamp = self.replacements.fetch_sub(1, Ordering::Relaxed);
                write(&self.engine, b"k", &[stamp as u8; 150_000], stamp);
            }
            found
        }
        fn apply(&self, batch: Batch) -> Result<(), EngineError> {
            self.engine.apply(batch)
        }
        fn sync(&self) -> Result<(), EngineError> {
            self.engine.sync()
        }
        fn scan(
            &self,
            from: &[u8],
            to: &[u8],
            limit: usize,
        ) -> Result<super::super::engine::Entries, EngineError> {
            self.engine.scan(from, to, limit)
        }
    }

    #[test]
    fn a_reader_never_sees_half_of_two_values() {
        let engine = MemoryEngine::new();
        write(&engine, b"k", &[9; 150_000], 9);
        let racing = Racing { engine, replacements: 5.into() };
        assert_eq!(read(&racing, b"k"), vec![1; 150_000]);
    }

    #[test]
    fn sled_keeps_everything_in_its_log() {
        let directory = tempfile::tempdir().unwrap();
        {
            let engine = SledEngine::open(directory.path(), 8 << 20).unwrap();
            let sizes = [1 << 10, 8 << 10, 60 << 10, 64 << 10, 200 << 10, 1 << 20];
            for (stamp, size) in (1u64..).zip(sizes) {
                for copy in 0..(4 << 20) / size {
                    let key = format!("{size}/{copy}");
                    write(
                        &engine,
                        key.as_bytes(),
                        &vec![copy as u8; size],
                        stamp << 32 | copy as u64,
                    );
                    if copy % 8 == 0 {
                        engine.sync().unwrap();
                    }
                }
            }
            engine.sync().unwrap();
        }
        let engine = SledEngine::open(directory.path(), 8 << 20).unwrap();
        assert_eq!(read(&engine, b"1048576/3"), vec![3; 1 << 20]);
        assert_eq!(read(&engine, b"1024/77"), vec![77; 1 << 10]);
        drop(engine);
        let blobs = std::fs::read_dir(directory.path().join("blobs")).unwrap();
        assert_eq!(blobs.count(), 0);
    }
}
