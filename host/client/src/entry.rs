//! A key as it was read, with what is to be written back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stator_core::causality::LiveVersion;
use stator_core::version::{Origin, Payload};
use stator_proto::v1;

use crate::error::{Error, reason};

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The value; `None` for a delete, and in [`Client::metadata`](crate::Client::metadata).
    pub value: Option<Bytes>,
    /// Whether this version is a delete.
    pub is_tombstone: bool,
    /// The writes that it stands for, as NODE.INCARNATION.EPOCH:COUNTER.
    pub dots: Vec<String>,
    /// When it was written: milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
    /// When it ceases to be: milliseconds since 1970 (UTC); `None` is never.
    pub expires_at_ms: Option<u64>,
    /// The schema number of its writer, 0 if it gave none.
    pub schema: u32,
    /// The labels of its writer.
    pub labels: BTreeMap<String, String>,
    /// The digest of the module that made it out of several; `None` if a client wrote it.
    pub merged_by: Option<String>,
}

impl Version {
    /// As an owner holds it.
    pub(crate) fn of(live: &LiveVersion) -> Self {
        let version = &live.version;
        Version {
            value: version.payload.value().cloned(),
            is_tombstone: version.payload == Payload::Tombstone,
            dots: live.dots.iter().map(ToString::to_string).collect(),
            written_at_ms: version.written_at_ms,
            expires_at_ms: version.expires_at_ms,
            schema: version.schema,
            labels: version.labels.clone(),
            merged_by: match &version.origin {
                Origin::Client(_) => None,
                Origin::Fold { module, .. } => Some(module.to_string()),
            },
        }
    }
}

/// What the keyspace's policy did for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merge {
    /// The digest of the module, empty for built-in policies.
    pub module_digest: String,
    /// How many siblings there were.
    pub sibling_count: u32,
    /// Whether several siblings became one answer.
    pub is_merged: bool,
    /// Why the module gave no answer; the siblings are then answered as they are.
    pub failure: Option<String>,
    /// The module's remark.
    pub note: Option<String>,
}

/// A key with the versions that were read, the context they were read with, and what is to be
/// written in their place.
#[derive(Debug, Clone)]
pub struct Entry {
    keyspace: String,
    key: Bytes,
    versions: Vec<Version>,
    merge: Option<Merge>,
    /// `None`: the answer could not carry every sibling. Empty: a blind put.
    contexts: Option<Vec<Bytes>>,
    value: Option<Bytes>,
    schema: u32,
    ttl: Option<Duration>,
    labels: BTreeMap<String, String>,
    request_id: Bytes,
}

impl Entry {
    /// An entry that nobody has read. Its put is blind: it replaces nothing, and becomes a sibling
    /// of whatever there is.
    pub fn blind(keyspace: impl Into<String>, key: impl Into<Bytes>) -> Self {
        Entry {
            keyspace: keyspace.into(),
            key: key.into(),
            versions: Vec::new(),
            merge: None,
            contexts: Some(Vec::new()),
            value: None,
            schema: 0,
            ttl: None,
            labels: BTreeMap::new(),
            request_id: Bytes::new(),
        }
    }

    pub(crate) fn read(keyspace: String, key: Bytes, answer: v1::GetResponse) -> Self {
        Entry {
            versions: answer.versions.into_iter().map(version).collect(),
            merge: answer.merge.map(merge),
            contexts: answer.context.map(|context| vec![context]),
            ..Entry::blind(keyspace, key)
        }
    }

    /// An entry that the owners of the key agree on.
    pub(crate) fn found(
        keyspace: String,
        key: Bytes,
        version: Option<Version>,
        merge: Merge,
        context: Bytes,
    ) -> Self {
        Entry {
            versions: version.into_iter().collect(),
            merge: Some(merge),
            contexts: Some(vec![context]),
            ..Entry::blind(keyspace, key)
        }
    }

    /// The entry to write on with after a put of this one that left no other version.
    pub(crate) fn after_put(self, context: Bytes) -> Self {
        Entry { contexts: Some(vec![context]), ..Entry::blind(self.keyspace, self.key) }
    }

    /// The keyspace's name.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The value, if there is exactly one. `None`: the key is absent or deleted, or there are
    /// [siblings](Self::siblings) to settle.
    pub fn value(&self) -> Option<&Bytes> {
        match self.versions.as_slice() {
            [version] => version.value.as_ref(),
            _ => None,
        }
    }

    /// The versions that were read, in dot order: none for an absent key, several for a conflict
    /// that no policy settled.
    pub fn siblings(&self) -> &[Version] {
        &self.versions
    }

    /// What the keyspace's policy did; `None` for an entry that was not read through it.
    pub fn merge(&self) -> Option<&Merge> {
        self.merge.as_ref()
    }

    /// The context as it came, to be kept or handed on; `None` for a blind entry, and where the
    /// answer could not carry every sibling.
    pub fn context(&self) -> Option<&Bytes> {
        self.contexts.as_ref()?.first()
    }

    /// Replaces what `other`, another reading of the same key, has read as well.
    pub fn replaces_also(&mut self, other: &Entry) -> &mut Self {
        match (&mut self.contexts, &other.contexts) {
            (Some(ours), Some(theirs)) => ours.extend(theirs.iter().cloned()),
            // What was not seen must not be replaced.
            _ => self.contexts = None,
        }
        self
    }

    /// What is to be written in place of all that was read.
    pub fn set(&mut self, value: impl Into<Bytes>) -> &mut Self {
        self.value = Some(value.into());
        self
    }

    /// A number for the format of the value, handed to merge modules.
    pub fn schema(&mut self, schema: u32) -> &mut Self {
        self.schema = schema;
        self
    }

    /// How long the new version is to count, to the millisecond.
    pub fn ttl(&mut self, ttl: Duration) -> &mut Self {
        self.ttl = Some(ttl);
        self
    }

    /// A label stored with the new version.
    pub fn label(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Names the write, with up to 64 bytes of your choice, so that attempts of it are one write
    /// even if the outcome of the first is unknown. Use an id for one write of a key only.
    pub fn request_id(&mut self, id: impl Into<Bytes>) -> &mut Self {
        self.request_id = id.into();
        self
    }

    pub(crate) fn put_request(&self) -> Result<v1::PutRequest, Error> {
        let value = self.value.clone().ok_or_else(|| {
            Error::local(reason::NO_VALUE, "set a value first; to remove the key, delete it")
        })?;
        Ok(v1::PutRequest {
            keyspace: self.keyspace.clone(),
            key: self.key.clone(),
            value,
            contexts: self.known_contexts()?,
            schema: self.schema,
            ttl_ms: self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            labels: self.labels.clone(),
            request_id: self.request_id.clone(),
            ..Default::default()
        })
    }

    pub(crate) fn delete_request(&self) -> Result<v1::DeleteRequest, Error> {
        let contexts = self.known_contexts()?;
        if contexts.is_empty() {
            let message = "a delete deletes what was read: get the key, or use `delete_observed`";
            return Err(Error::local(reason::NO_CONTEXT, message));
        }
        Ok(v1::DeleteRequest {
            keyspace: self.keyspace.clone(),
            key: self.key.clone(),
            contexts,
            labels: self.labels.clone(),
            request_id: self.request_id.clone(),
            ..Default::default()
        })
    }

    fn known_contexts(&self) -> Result<Vec<Bytes>, Error> {
        self.contexts.clone().ok_or_else(|| {
            let message = "the answer could not carry every sibling, so nothing may be replaced \
                           by it; read the metadata, and make the values smaller";
            Error::local(reason::NO_CONTEXT, message)
        })
    }
}

fn version(version: v1::Version) -> Version {
    let maker = version.origin.and_then(|origin| origin.maker);
    Version {
        value: version.value,
        is_tombstone: version.tombstone,
        dots: version.dots,
        written_at_ms: version.written_at_ms,
        expires_at_ms: version.expires_at_ms,
        schema: version.schema,
        labels: version.labels,
        merged_by: match maker {
            Some(v1::origin::Maker::Merge(merge)) => Some(merge.module_digest),
            _ => None,
        },
    }
}

fn merge(info: v1::MergeInfo) -> Merge {
    let unless_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    Merge {
        module_digest: info.module_digest,
        sibling_count: info.sibling_count,
        is_merged: info.merged,
        failure: unless_empty(info.failure),
        note: unless_empty(info.note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str], context: Option<&str>) -> Entry {
        let version = |value: &&str| v1::Version {
            value: Some((*value).to_owned().into()),
            ..Default::default()
        };
        let answer = v1::GetResponse {
            versions: values.iter().map(version).collect(),
            context: context.map(|text| text.to_owned().into()),
            ..Default::default()
        };
        Entry::read("k".to_owned(), "key".into(), answer)
    }

    #[test]
    fn a_put_replaces_what_was_read() {
        let mut entry = read(&["a"], Some("seen"));
        assert_eq!(entry.value().map(|v| &v[..]), Some(&b"a"[..]));
        assert_eq!(entry.put_request().expect_err("no value").reason(), "NO_VALUE");
        entry.set("b").replaces_also(&read(&[], Some("elsewhere")));
        let request = entry.put_request().expect("a value");
        assert_eq!(request.contexts, ["seen", "elsewhere"]);
        assert_eq!(request.value, "b");
    }

    #[test]
    fn what_was_not_seen_whole_replaces_nothing() {
        let mut torn = read(&["a", "b"], None);
        assert_eq!(torn.value(), None, "siblings");
        torn.set("c");
        assert_eq!(torn.put_request().expect_err("torn").reason(), "NO_CONTEXT");
        let mut whole = read(&["a"], Some("seen"));
        whole.set("c").replaces_also(&torn);
        assert_eq!(whole.put_request().expect_err("torn").reason(), "NO_CONTEXT");
    }

    #[test]
    fn a_blind_delete_is_refused_here() {
        let entry = Entry::blind("k", "key");
        assert_eq!(entry.delete_request().expect_err("blind").reason(), "NO_CONTEXT");
        assert_eq!(entry.clone().set("v").put_request().expect("blind").contexts.len(), 0);
    }
}
