//! The byte format of everything that Stator stores: tagged fields in a canonical order.
//!
//! A field is `varint tag, varint length, bytes`. A writer emits the fields of a record in
//! ascending tag order, so equal values have equal bytes and can be hashed. A reader keeps the
//! fields it does not know as they are, so a node of an older version hands on what a newer one
//! wrote. Integers inside fields are LEB128 varints or fixed big-endian, as each record says.
//!
//! Left out on purpose: compression (the engines compress) and self-description.

mod pieces;

use bytes::{Buf, Bytes};

pub use pieces::{Measure, Pieces, Sink};

/// Stored or received bytes that are not what their format says. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("{what}: the bytes end too early")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A value is outside its range, or two values contradict each other.
    #[error("{what}: {why}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The format byte is of a version that this program does not know.
    #[error("{what}: format {found} is not known to this version")]
    UnknownFormat {
        /// What was being read.
        what: &'static str,
        /// The format byte.
        found: u8,
    },
    /// The checksum does not fit the bytes: they were damaged.
    #[error("{what}: the checksum does not match, the bytes are damaged")]
    Damaged {
        /// What was being read.
        what: &'static str,
    },
}

/// A field whose tag this version does not know, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownField {
    /// The tag.
    pub tag: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Appends `value` as LEB128: seven bits a byte, least significant first.
pub fn put_varint(out: &mut impl Sink, mut value: u64) {
    let (mut bytes, mut length) = ([0; 10], 0);
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    out.put(&bytes[..=length]);
}

/// Appends a field of raw bytes.
pub fn put_field(out: &mut impl Sink, tag: u64, bytes: &[u8]) {
    put_varint(out, tag);
    put_varint(out, bytes.len() as u64);
    out.put(bytes);
}

/// Appends a field of bytes that may be many: they are shared where `out` can.
pub fn share_field(out: &mut impl Sink, tag: u64, bytes: &Bytes) {
    put_varint(out, tag);
    put_varint(out, bytes.len() as u64);
    out.share(bytes);
}

/// Appends a field of pieces.
pub fn append_field(out: &mut impl Sink, tag: u64, pieces: &Pieces) {
    put_varint(out, tag);
    put_varint(out, pieces.len() as u64);
    out.append(pieces);
}

/// Appends a field that holds one varint, unless it is 0, the value of an absent field.
pub fn put_number(out: &mut impl Sink, tag: u64, value: u64) {
    if value != 0 {
        let mut bytes = Vec::with_capacity(10);
        put_varint(&mut bytes, value);
        put_field(out, tag, &bytes);
    }
}

/// Reads values off the front of `bytes`; slices share the buffer.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    /// A reader of `bytes`, which hold a `what` (named in errors).
    pub fn new(bytes: Bytes, what: &'static str) -> Self {
        Reader { bytes, what }
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// An error about what is being read.
    pub fn invalid(&self, why: &'static str) -> DecodeError {
        DecodeError::Invalid { what: self.what, why }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<Bytes, DecodeError> {
        if n > self.bytes.len() {
            return Err(DecodeError::Truncated { what: self.what });
        }
        Ok(self.bytes.split_to(n))
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take(1).map(|b| b[0])
    }

    /// A big-endian 64-bit number.
    pub fn fixed64(&mut self) -> Result<u64, DecodeError> {
        self.take(8).map(|mut b| b.get_u64())
    }

    /// A LEB128 number. Only the shortest form is accepted, so that equal values have equal bytes.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.invalid("a number is larger than 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.invalid("a number is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(self.invalid("a number is larger than 64 bits"))
    }

    /// A count of things that take at least one byte each: bounded by what is left.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() => Ok(count),
            _ => Err(DecodeError::Truncated { what: self.what }),
        }
    }

    /// Bytes with their length in front.
    pub fn sized(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.count()?;
        self.take(length)
    }

    /// The next field's tag and bytes, or `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u64, Bytes)>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        Ok(Some((tag, self.sized()?)))
    }

    /// Nothing, if nothing is left: there is one way to write a value.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(self.invalid("it has bytes left over")) }
    }

    /// UTF-8 text with its length in front.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.sized()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.invalid("text is not UTF-8"))
    }
}

/// The varint that a whole field holds.
pub fn number(bytes: Bytes, what: &'static str) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes, what);
    let value = reader.varint()?;
    reader.end().map(|()| value)
}

/// Bytes in a checksum.
pub const CHECKSUM_BYTES: usize = 8;

/// The checksum over stored bytes: the first 8 bytes of their BLAKE3 hash.
pub fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_read_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(number(out.into(), "number"), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(bytes.into(), "noise");
            while let Ok(Some(_)) = reader.field() {}
        }
    }

    #[test]
    fn only_the_shortest_form_is_a_number() {
        assert!(number(Bytes::from_static(&[0x80, 0x00]), "number").is_err());
        assert!(number(Bytes::from_static(&[0xff; 11]), "number").is_err());
    }
}
