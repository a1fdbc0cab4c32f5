//! Where encodings are written to: one buffer, or pieces of which the large ones are shared.

use bytes::Bytes;

use super::put_varint;

/// Takes what an encoding appends. What is written is the same bytes whatever takes them.
pub trait Sink {
    /// Appends a copy of `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends `bytes`, sharing them if that is cheaper than copying.
    fn share(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }

    /// Appends all of `pieces`.
    fn append(&mut self, pieces: &Pieces) {
        pieces.iter().for_each(|piece| self.put(piece));
    }

    /// Appends what has to be made first, by much work, after its length.
    fn put_made(&mut self, make: impl FnOnce() -> Vec<u8>)
    where
        Self: Sized,
    {
        let made = make();
        put_varint(self, made.len() as u64);
        self.put(&made);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measure {
    /// The bytes so far.
    pub bytes: usize,
}

/// What has to be made to be measured counts for so much: it is a catalogue, and few are larger.
const MADE_BYTES: usize = 64 << 10;

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn append(&mut self, pieces: &Pieces) {
        self.bytes += pieces.len();
    }

    fn put_made(&mut self, _: impl FnOnce() -> Vec<u8>) {
        self.bytes += MADE_BYTES;
    }
}

/// Bytes of which the long stretches are shared with whoever holds them, and the short ones copied
/// together: what is written to a socket by one vectored write.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    flat: Vec<u8>,
    /// Stretches, each with its place in `flat`, in that order.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

/// Shorter stretches are copied: to hold one costs about as much.
const SHARED_FROM_BYTES: usize = 2 << 10;

impl Pieces {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes, shared.
    pub fn of(bytes: Bytes) -> Self {
        Pieces { flat: Vec::new(), shared_bytes: bytes.len(), shared: vec![(0, bytes)] }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.flat.len() + self.shared_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in their order, in stretches of at least one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let ends = self.shared.iter().map(|(at, bytes)| (*at, &bytes[..]));
        let ends = ends.chain([(self.flat.len(), &[][..])]);
        let stretches = ends.flat_map(move |(at, bytes)| {
            let before = &self.flat[from..at];
            from = at;
            [before, bytes]
        });
        stretches.filter(|stretch| !stretch.is_empty())
    }

    /// Takes all bytes out. The buffer for what is copied is kept unless it is larger than that.
    pub fn clear(&mut self, kept_bytes_max: usize) {
        let mut flat = std::mem::take(&mut self.flat);
        flat.clear();
        flat.shrink_to(kept_bytes_max);
        *self = Pieces { flat, ..Pieces::default() };
    }

    /// The bytes in one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.iter().for_each(|piece| out.extend_from_slice(piece));
        out
    }

    /// Appends the length of what `body` appends, as four bytes, big-endian, and that. Takes back
    /// all if it is longer than `bytes_max`, and tells its length then.
    pub fn framed(
        &mut self,
        bytes_max: usize,
        body: impl FnOnce(&mut Pieces),
    ) -> Result<(), usize> {
        let (flat, shared, shared_bytes) = (self.flat.len(), self.shared.len(), self.shared_bytes);
        let before = self.len();
        self.put(&[0; 4]);
        body(self);
        let length = self.len() - before - 4;
        match u32::try_from(length) {
            Ok(found) if length <= bytes_max => {
                self.flat[flat..flat + 4].copy_from_slice(&found.to_be_bytes());
                Ok(())
            }
            _ => {
                self.flat.truncate(flat);
                self.shared.truncate(shared);
                self.shared_bytes = shared_bytes;
                Err(length)
            }
        }
    }
}

impl Sink for Pieces {
    fn put(&mut self, bytes: &[u8]) {
        self.flat.extend_from_slice(bytes);
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM_BYTES {
            return self.put(bytes);
        }
        self.shared_bytes += bytes.len();
        self.shared.push((self.flat.len(), bytes.clone()));
    }

    fn append(&mut self, pieces: &Pieces) {
        let mut from = 0;
        for (at, bytes) in &pieces.shared {
            self.put(&pieces.flat[from..*at]);
            self.share(bytes);
            from = *at;
        }
        self.put(&pieces.flat[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_what_one_buffer_would_be(
            steps in prop::collection::vec((0..3u8, 0..2 * SHARED_FROM_BYTES), 0..12),
        ) {
            let (mut flat, mut pieces) = (Vec::new(), Pieces::new());
            for (kind, length) in steps {
                let bytes = Bytes::from(vec![length as u8; length]);
                match kind {
                    0 => { flat.put(&bytes); pieces.put(&bytes); }
                    1 => { flat.share(&bytes); pieces.share(&bytes); }
                    _ => {
                        let before = pieces.clone();
                        Sink::append(&mut flat, &before);
                        pieces.append(&before);
                    }
                }
            }
            prop_assert_eq!(pieces.len(), flat.len());
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.to_vec(), flat);
        }
    }

    #[test]
    fn what_is_long_is_shared_and_what_is_too_long_is_taken_back() {
        let long = Bytes::from(vec![7; SHARED_FROM_BYTES]);
        let mut pieces = Pieces::new();
        pieces.put(b"head");
        assert_eq!(pieces.framed(long.len(), |out| out.share(&long)), Ok(()));
        assert!(pieces.iter().any(|piece| piece.as_ptr() == long.as_ptr()));
        let before = pieces.to_vec();
        assert_eq!(before[4..8], (long.len() as u32).to_be_bytes());
        let refused = pieces.framed(long.len(), |out| {
            out.share(&long);
            out.put(b"x");
        });
        assert_eq!(refused, Err(long.len() + 1));
        assert_eq!(pieces.to_vec(), before);
    }
}
