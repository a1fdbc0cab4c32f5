//! Reading a divergence, and making one for a test.

use crate::{Ancestor, Divergence, Subject, Version};

impl Divergence {
    /// The siblings that have a value, each with its place among all siblings, which is what
    /// [`Failure::malformed`](crate::Failure::malformed) wants. Tombstones are left out.
    pub fn values(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.live().filter_map(|(sibling, version)| Some((sibling, version.value.as_deref()?)))
    }

    /// Like [`values`](Self::values), with all that is known about each version.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Version)> {
        (0..).zip(&self.siblings).filter(|(_, version)| !version.is_tombstone())
    }

    /// Whether one of the siblings is a delete.
    pub fn has_tombstone(&self) -> bool {
        self.siblings.iter().any(Version::is_tombstone)
    }

    /// The name of the keyspace.
    pub fn keyspace(&self) -> &str {
        &self.subject.keyspace
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.subject.key
    }

    /// A divergence of these values, for a test: of keyspace `test` and key `key`, with an
    /// unknown ancestor. Push further [`Version`]s, such as [`Version::tombstone`], to
    /// `siblings`.
    pub fn of_values<V: Into<Vec<u8>>>(values: impl IntoIterator<Item = V>) -> Self {
        Divergence {
            subject: Subject { keyspace: "test".to_owned(), key: b"key".to_vec() },
            siblings: values.into_iter().map(Version::of_value).collect(),
            ancestor: Ancestor::Unknown,
        }
    }

    /// What arises when clients have read `base` and each writes its own edit of it, none having
    /// seen another's: the edits are siblings, the base is their known ancestor. For
    /// [`Sample`](crate::Sample) and tests; of keyspace `test` and key `key`.
    pub fn of_edits<V: Into<Vec<u8>>>(
        base: impl Into<Vec<u8>>,
        edits: impl IntoIterator<Item = V>,
    ) -> Self {
        let ancestor = Ancestor::Known(Version::of_value(base));
        Divergence { ancestor, ..Divergence::of_values(edits) }
    }
}

impl Version {
    /// Whether this is a delete.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// A version with this value, for a test; schema and time are 0.
    pub fn of_value(value: impl Into<Vec<u8>>) -> Self {
        Version { value: Some(value.into()), schema: 0, written_at_ms: 0 }
    }

    /// A delete, for a test; schema and time are 0.
    pub fn tombstone() -> Self {
        Version { value: None, schema: 0, written_at_ms: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_leave_out_tombstones_and_keep_the_siblings_numbers() {
        let mut divergence = Divergence::of_values(["a"]);
        divergence.siblings.push(Version::tombstone());
        divergence.siblings.push(Version::of_value("c"));
        let values: Vec<_> = divergence.values().collect();
        assert_eq!(values, [(0, b"a".as_slice()), (2, b"c".as_slice())]);
        assert!(divergence.has_tombstone());
        assert!(!Divergence::of_values(["a"]).has_tombstone());
    }
}
