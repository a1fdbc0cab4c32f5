//! Stator as a target: a client like any other.
//!
//! A put replaces what its context covers, so an update needs to have seen something. Clients keep
//! the context with the value; here the connections of a run keep the last one that a read or a put
//! gave for a key. An update that has none (the key was not read yet, or its last put left others
//! beside it) reads first, and that is part of its latency. With `--blind` updates replace nothing
//! that they have seen: right where the last write wins. A new key's put is blind; should the key be
//! there, of an earlier run, it is read and put once more, so that runs leave no siblings behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stator_client::{Client, Coordination, Error};
use stator_proto::v1;

use super::options::Options;
use super::target::{Over, Reading, Reason, Target, Written};
use super::workload::Family;
use crate::cli::failure::Failure;
use crate::cli::kv::Durability;
use crate::cli::session::Session;

/// How many contexts are kept at most, each of so many bytes at most.
const CONTEXTS_MAX: u64 = 1 << 20;
const CONTEXT_BYTES_MAX: usize = 512;

/// What every request of a run says.
#[derive(Debug)]
struct Terms {
    keyspace: String,
    family: Family,
    /// How many replicas must answer, and acknowledge; none is as the keyspace has it.
    r: Option<u32>,
    w: Option<u32>,
    /// Numbers of the protocol.
    quorum: i32,
    durability: i32,
    coordination: Coordination,
    /// Whether updates replace nothing that they have seen.
    is_blind: bool,
    contexts: Contexts,
}

/// The last context of a key, for as many keys as there is room: the newer one of two that share a
/// place stays.
#[derive(Debug)]
struct Contexts(Box<[Mutex<Place>]>);

/// A key with its context.
type Place = Option<(u64, Box<[u8]>)>;

impl Contexts {
    /// Room for contexts of `keys` keys, as far as it is bounded.
    fn of(keys: u64) -> Self {
        Contexts((0..keys.clamp(1, CONTEXTS_MAX)).map(|_| Mutex::default()).collect())
    }

    fn keep(&self, key: u64, context: Option<&Bytes>) {
        let context = context.filter(|context| context.len() <= CONTEXT_BYTES_MAX);
        // A copy: the context is a part of the whole answer.
        *self.place(key) = context.map(|context| (key, context[..].into()));
    }

    fn of_key(&self, key: u64) -> Option<Bytes> {
        let place = self.place(key);
        let (owner, context) = place.as_ref()?;
        (*owner == key).then(|| Bytes::copy_from_slice(context))
    }

    fn place(&self, key: u64) -> MutexGuard<'_, Place> {
        let place = &self.0[(key % self.0.len() as u64) as usize];
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection with the terms of a run.
#[derive(Debug)]
pub(super) struct Stator {
    client: Client,
    terms: Arc<Terms>,
}

/// Connections to the nodes at `endpoints` that have been tried, for keys of `family` in `keyspace`.
///
/// # Errors
/// A node is not there, or refuses.
pub(super) async fn connect(
    session: &Session,
    options: &Options,
    endpoints: &[String],
    keyspace: &str,
    family: Family,
) -> Result<Vec<Stator>, Failure> {
    let terms = Arc::new(Terms {
        keyspace: keyspace.to_owned(),
        family,
        r: options.r,
        w: options.w,
        quorum: options.replicas.quorum(),
        durability: Durability::number(options.durability),
        coordination: options.coordination.into(),
        is_blind: options.blind,
        contexts: Contexts::of(options.keys),
    });
    let connections = usize::from(options.connections);
    let mut way = session.options();
    way.attempts_max = options.attempts;
    way.coordination = options.coordination.into();
    way.is_strict = options.replicas.is_strict();
    let clients = session.kvs(endpoints, connections, way).await?;
    let target = |client| Stator { client, terms: terms.clone() };
    let targets: Vec<_> = clients.into_iter().map(target).collect();
    // What every request would be refused for is better said once.
    for target in &targets {
        target.get(0).await?;
    }
    Ok(targets)
}

impl Target for Stator {
    /// None if the answer could not carry every sibling.
    type Seen = Option<Bytes>;

    async fn read(&self, key: u64) -> Result<Reading<Self::Seen>, Reason> {
        self.get(key).await.map_err(reason)
    }

    async fn write(
        &self,
        key: u64,
        value: Bytes,
        over: Over<Self::Seen>,
    ) -> Result<Written, Reason> {
        match over {
            Over::Seen(None) => Err(no_context()),
            Over::Seen(seen) => self.put(key, value, seen).await,
            Over::Whatever if self.terms.is_blind => self.put(key, value, None).await,
            Over::Whatever => match self.terms.contexts.of_key(key) {
                None => self.read_and_put(key, value).await,
                seen => self.put(key, value, seen).await,
            },
            Over::Nothing => {
                let written = self.put(key, value.clone(), None).await?;
                if written.has_siblings { self.read_and_put(key, value).await } else { Ok(written) }
            }
        }
    }
}

impl Stator {
    /// The key with this number, as its keyspace's policy makes it.
    ///
    /// # Errors
    /// The node's word.
    async fn get(&self, key: u64) -> Result<Reading<Option<Bytes>>, Error> {
        let reading = match self.terms.coordination {
            Coordination::Client => self.coordinated(key).await?,
            _ => self.asked(key).await?,
        };
        self.terms.contexts.keep(key, reading.seen.as_ref());
        Ok(reading)
    }

    /// By the client itself.
    async fn coordinated(&self, key: u64) -> Result<Reading<Option<Bytes>>, Error> {
        let entry = self.client.get(&self.terms.keyspace, self.key(key)).await?;
        let merged = entry.merge().map(|merge| merge.sibling_count);
        let values = entry.siblings().iter().map(|version| version.value.clone());
        Ok(reading(merged, values, entry.context().cloned()))
    }

    /// By a node.
    async fn asked(&self, key: u64) -> Result<Reading<Option<Bytes>>, Error> {
        let request = v1::GetRequest {
            keyspace: self.terms.keyspace.clone(),
            key: self.key(key),
            r: self.terms.r,
            quorum: self.terms.quorum,
            view: v1::View::Merged.into(),
            ring_version: 0,
            ..Default::default()
        };
        let answer = self.client.send_get(request).await?;
        let merged = answer.merge.map(|merge| merge.sibling_count);
        let values = answer.versions.into_iter().map(|version| version.value);
        Ok(reading(merged, values, answer.context))
    }

    async fn read_and_put(&self, key: u64, value: Bytes) -> Result<Written, Reason> {
        let seen = self.get(key).await.map_err(reason)?.seen;
        self.put(key, value, Some(seen.ok_or_else(no_context)?)).await
    }

    async fn put(&self, key: u64, value: Bytes, seen: Option<Bytes>) -> Result<Written, Reason> {
        let request = v1::PutRequest {
            keyspace: self.terms.keyspace.clone(),
            key: self.key(key),
            value,
            contexts: seen.into_iter().collect(),
            w: self.terms.w,
            quorum: self.terms.quorum,
            durability: self.terms.durability,
            ..Default::default()
        };
        let answer = self.client.send_put(request).await.map_err(reason)?;
        self.terms.contexts.keep(key, answer.context.as_ref());
        Ok(Written { has_siblings: answer.siblings_remain })
    }

    fn key(&self, number: u64) -> Bytes {
        self.terms.family.key(number)
    }
}

/// What was read: `merged` says of how many versions the answered ones were made.
fn reading(
    merged: Option<u32>,
    values: impl ExactSizeIterator<Item = Option<Bytes>>,
    seen: Option<Bytes>,
) -> Reading<Option<Bytes>> {
    let versions = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let siblings = versions.max(merged.unwrap_or_default());
    Reading { values: values.flatten().collect(), siblings, seen }
}

fn no_context() -> Reason {
    Reason("NO_CONTEXT".to_owned())
}

fn reason(error: Error) -> Reason {
    match error.reason() {
        "" => Reason(error.code().to_string()),
        reason => Reason(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_kept_until_another_key_needs_its_place() {
        let contexts = Contexts::of(10);
        contexts.keep(3, Some(&"three".into()));
        assert_eq!(contexts.of_key(3).as_deref(), Some(&b"three"[..]));
        contexts.keep(13, Some(&"thirteen".into()));
        assert_eq!(contexts.of_key(3), None);
        contexts.keep(13, None);
        assert_eq!(contexts.of_key(13), None, "a put that left siblings");
        contexts.keep(4, Some(&vec![0; CONTEXT_BYTES_MAX + 1].into()));
        assert_eq!(contexts.of_key(4), None);
    }
}
