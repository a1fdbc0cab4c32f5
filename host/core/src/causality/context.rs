//! The causal context: what a client has seen, authenticated, opaque to it.
//!
//! A token is `format, secret id, vector and timestamp, tag`. The tag is keyed BLAKE3 over the
//! keyspace's id (so its generation), the key and the content: a context cannot be forged, nor
//! taken to another key. The secret's id lets secrets rotate: old ones stay valid for reading
//! until they are dropped.

use bytes::Bytes;

use super::VersionVector;
use crate::codec::{Reader, Sink, put_varint};
use crate::id::KeyspaceId;

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 16;

/// Bytes of a context secret.
pub const SECRET_BYTES: usize = 32;

/// What a get showed its client, and what a put with it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The dots it has seen.
    pub vector: VersionVector,
    /// The latest time at which something that it has seen was written, so that what replaces
    /// it is later even where clocks differ: milliseconds since 1970 (UTC).
    pub timestamp_ms: u64,
}

impl Context {
    /// The context of a reader who saw all of `siblings`.
    pub fn of(siblings: &super::Siblings) -> Self {
        Context { vector: siblings.vector().clone(), timestamp_ms: siblings.latest_ms() }
    }

    /// Adds what `other` has seen.
    pub fn join(&mut self, other: &Context) {
        self.vector.join(&other.vector);
        self.timestamp_ms = self.timestamp_ms.max(other.timestamp_ms);
    }

    /// Appends vector and timestamp.
    pub fn encode(&self, out: &mut impl Sink) {
        self.vector.encode(out);
        put_varint(out, self.timestamp_ms);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, crate::codec::DecodeError> {
        Ok(Context { vector: VersionVector::decode(reader)?, timestamp_ms: reader.varint()? })
    }
}

/// A context that a client sent is not used. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Too long to be one that this cluster gave out.
    #[error("the context has {found} bytes; the limit is {max}")]
    TooLarge {
        /// Its length.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Not a context, or of another key or keyspace, or altered.
    #[error(
        "the context was not given out for this key: it was altered, or belongs to another key \
         or keyspace; get the key and use the context that comes with it"
    )]
    Forged,
    /// Made with a secret that this node does not hold (any more).
    #[error(
        "the context was made with secret {secret_id:08x}, which is no longer in use; get the \
         key again and use the context that comes with it"
    )]
    UnknownSecret {
        /// The secret's id, as the context names it.
        secret_id: u32,
    },
}

/// The secrets that authenticate contexts; the first one signs.
#[derive(Debug, Clone)]
pub struct ContextSecrets {
    secrets: Vec<(u32, [u8; SECRET_BYTES])>,
    context_bytes_max: usize,
}

impl ContextSecrets {
    /// Signs with the first secret, accepts all, and no token above `context_bytes_max` bytes.
    /// Without any secret no context can be made or read.
    pub fn new(secrets: &[[u8; SECRET_BYTES]], context_bytes_max: usize) -> Self {
        let with_id = |secret: &[u8; SECRET_BYTES]| (secret_id(secret), *secret);
        ContextSecrets { secrets: secrets.iter().map(with_id).collect(), context_bytes_max }
    }

    /// The token for `context` of `key`, or `None` if it would be too large to be accepted back.
    pub fn seal(&self, keyspace: KeyspaceId, key: &[u8], context: &Context) -> Option<Bytes> {
        let (id, secret) = self.secrets.first()?;
        let mut token = vec![FORMAT];
        token.extend_from_slice(&id.to_be_bytes());
        context.encode(&mut token);
        let tag = tag(secret, keyspace, key, &token);
        token.extend_from_slice(&tag);
        (token.len() <= self.context_bytes_max).then(|| token.into())
    }

    /// The context in `token`, if this cluster gave it out for `key`.
    pub fn open(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        token: &Bytes,
    ) -> Result<Context, ContextError> {
        if token.len() > self.context_bytes_max {
            let max = self.context_bytes_max;
            return Err(ContextError::TooLarge { found: token.len(), max });
        }
        if token.len() < 5 + TAG_BYTES || token[0] != FORMAT {
            return Err(ContextError::Forged);
        }
        let secret_id = u32::from_be_bytes([token[1], token[2], token[3], token[4]]);
        let (_, secret) = (self.secrets.iter().find(|(id, _)| *id == secret_id))
            .ok_or(ContextError::UnknownSecret { secret_id })?;
        let (content, found) = token.split_at(token.len() - TAG_BYTES);
        // blake3::Hash compares in constant time; a slice would tell how far a guess was right.
        if blake3::Hash::from_bytes(widen(found))
            != blake3::Hash::from_bytes(widen(&tag(secret, keyspace, key, content)))
        {
            return Err(ContextError::Forged);
        }
        let mut reader = Reader::new(token.slice(5..content.len()), "context");
        let context = Context::decode(&mut reader).map_err(|_| ContextError::Forged)?;
        if reader.is_empty() { Ok(context) } else { Err(ContextError::Forged) }
    }
}

fn secret_id(secret: &[u8; SECRET_BYTES]) -> u32 {
    let hash = blake3::derive_key("stator context secret id v1", secret);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn tag(secret: &[u8; SECRET_BYTES], keyspace: KeyspaceId, key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&keyspace.0.to_be_bytes());
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(content);
    hasher.finalize().as_bytes()[..TAG_BYTES].to_vec()
}

fn widen(tag: &[u8]) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..TAG_BYTES].copy_from_slice(&tag[..TAG_BYTES]);
    wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Actor, Dot, Incarnation, NodeId};

    fn context() -> Context {
        let actor = Actor { node: NodeId(7), incarnation: Incarnation(1), epoch: 3 };
        let dot = Dot { actor, counter: 9 };
        Context { vector: [dot].into_iter().collect(), timestamp_ms: 1234 }
    }

    const CARTS: KeyspaceId = KeyspaceId(1);

    #[test]
    fn a_context_opens_only_for_its_key_and_keyspace() {
        let secrets = ContextSecrets::new(&[[1; 32]], 1024);
        let token = secrets.seal(CARTS, b"k", &context()).unwrap();
        assert_eq!(secrets.open(CARTS, b"k", &token), Ok(context()));
        assert_eq!(secrets.open(CARTS, b"l", &token), Err(ContextError::Forged));
        assert_eq!(secrets.open(KeyspaceId(2), b"k", &token), Err(ContextError::Forged));
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let secrets = ContextSecrets::new(&[[1; 32]], 1024);
        let token = secrets.seal(CARTS, b"k", &context()).unwrap();
        for at in 0..token.len() {
            let mut altered = token.to_vec();
            altered[at] ^= 1;
            assert!(secrets.open(CARTS, b"k", &altered.into()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn secrets_rotate() {
        let old = ContextSecrets::new(&[[1; 32]], 1024);
        let token = old.seal(CARTS, b"k", &context()).unwrap();
        let both = ContextSecrets::new(&[[2; 32], [1; 32]], 1024);
        assert!(both.open(CARTS, b"k", &token).is_ok());
        let new = ContextSecrets::new(&[[2; 32]], 1024);
        let error = new.open(CARTS, b"k", &token).unwrap_err();
        assert!(matches!(error, ContextError::UnknownSecret { .. }));
    }

    #[test]
    fn what_would_be_refused_is_not_given_out() {
        let small = ContextSecrets::new(&[[1; 32]], 30);
        assert_eq!(small.seal(CARTS, b"k", &context()), None);
        let token: Bytes = vec![FORMAT; 31].into();
        let error = small.open(CARTS, b"k", &token).unwrap_err();
        assert_eq!(error, ContextError::TooLarge { found: 31, max: 30 });
    }
}
