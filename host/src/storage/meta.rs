//! What a store notes about itself, in the same batch as the records that it is about.

use bytes::Bytes;
use stator_core::codec::{CHECKSUM_BYTES, DecodeError, Reader, checksum, number, put_number};

const FORMAT: u8 = 1;
const WHAT: &str = "store note";

/// Under which name the note is stored.
pub(super) const NAME: &str = "meta";

/// How far sequences jump after an unclean stop. More commits than this cannot have been lost, so
/// no number is used for two of them.
const UNCLEAN_STEP: u64 = 1 << 32;

/// Counters that must survive, as they were at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meta {
    /// The number of the latest commit.
    pub(super) sequence: u64,
    /// Keys in the store.
    pub(super) objects: u64,
    /// Whether every record that is to be in the index is.
    pub(super) is_indexed: bool,
    /// The largest number of a record that was forgotten: see [`super::changes`].
    pub(super) forgotten: u64,
}

mod tag {
    pub const SEQUENCE: u64 = 1;
    // 2 was a reservation of epochs.
    pub const OBJECTS: u64 = 3;
    pub const IS_INDEXED: u64 = 4;
    pub const FORGOTTEN: u64 = 5;
}

impl Meta {
    /// The note to go on with after a stop that may have lost commits.
    pub(super) fn after_unclean_stop(self) -> Self {
        Meta { sequence: self.sequence.saturating_add(UNCLEAN_STEP), ..self }
    }

    /// The note's bytes: format, checksum, fields.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        put_number(&mut fields, tag::SEQUENCE, self.sequence);
        put_number(&mut fields, tag::OBJECTS, self.objects);
        put_number(&mut fields, tag::IS_INDEXED, u64::from(self.is_indexed));
        // One more, so that none is told from a note that does not say it.
        put_number(&mut fields, tag::FORGOTTEN, self.forgotten.saturating_add(1));
        let mut out = vec![FORMAT];
        out.extend_from_slice(&checksum(&fields));
        out.extend_from_slice(&fields);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        match reader.byte()? {
            FORMAT => {}
            found => return Err(DecodeError::UnknownFormat { what: WHAT, found }),
        }
        let sum = reader.take(CHECKSUM_BYTES)?;
        let fields = reader.take(reader.remaining())?;
        if sum[..] != checksum(&fields) {
            return Err(DecodeError::Damaged { what: WHAT });
        }
        // Of a note that does not say it any record may have been the last.
        let mut forgotten = None;
        let mut meta = Meta::default();
        let mut reader = Reader::new(fields, WHAT);
        while let Some((field_tag, bytes)) = reader.field()? {
            match field_tag {
                tag::SEQUENCE => meta.sequence = number(bytes, WHAT)?,
                tag::OBJECTS => meta.objects = number(bytes, WHAT)?,
                tag::IS_INDEXED => meta.is_indexed = number(bytes, WHAT)? != 0,
                tag::FORGOTTEN => forgotten = Some(number(bytes, WHAT)?.saturating_sub(1)),
                _ => {}
            }
        }
        Ok(Meta { forgotten: forgotten.unwrap_or(meta.sequence), ..meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_an_earlier_release_may_have_forgotten_anything() {
        let meta = Meta { sequence: 7, ..Meta::default() };
        assert_eq!(Meta::decode(meta.encode().into()), Ok(meta));
        let mut fields = Vec::new();
        put_number(&mut fields, tag::SEQUENCE, 7);
        let earlier = [&[FORMAT], &checksum(&fields)[..], &fields].concat();
        assert_eq!(Meta::decode(earlier.into()), Ok(Meta { forgotten: 7, ..meta }));
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let meta = Meta { sequence: 1 << 40, objects: 3, is_indexed: true, forgotten: 1 << 39 };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(bytes.clone().into()), Ok(meta));
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            assert!(Meta::decode(altered.into()).is_err(), "byte {at}");
        }
    }
}
