//! The names of things: nodes, actors, dots, keyspaces, partitions, modules.
//!
//! Ids are plain values without behaviour. What makes an actor safe to mint with is decided in
//! [`crate::write`]; where ids come from (randomness, the data directory) is the edge's business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id's text was not the hexadecimal form that [`fmt::Display`] prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {digits} hexadecimal digits are expected")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    digits: usize,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0width$x}", self.0, width = size_of::<$int>() * 2)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = size_of::<$int>() * 2;
                let error = || ParseIdError { text: text.to_owned(), what: $what, digits };
                if text.len() != digits {
                    return Err(error());
                }
                <$int>::from_str_radix(text, 16).map($name).map_err(|_| error())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A cluster, named by 128 random bits at `cluster init`.
    ClusterId, u128, "a cluster id"
);
hex_id!(
    /// A node, named by 64 random bits when its data directory is made.
    NodeId, u64, "a node id"
);
hex_id!(
    /// One life of a node: a start of its process, named by 64 random bits that are drawn then.
    Incarnation, u64, "an incarnation"
);
hex_id!(
    /// A keyspace: the hash of (name, generation), so that a successor of a deleted keyspace
    /// shares nothing with it. Never reused, because no generation of a name is.
    KeyspaceId, u64, "a keyspace id"
);

impl KeyspaceId {
    /// The id of generation `generation` of the keyspace called `name`.
    pub fn of(name: &str, generation: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("stator keyspace id v1");
        hasher.update(&generation.to_be_bytes());
        hasher.update(name.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        KeyspaceId(u64::from_be_bytes(first))
    }
}

/// One of the Q equal arcs of the ring, counted from position 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that mints dots: a node, in one of its lives, with an epoch drawn from a counter of
/// that life. A pair (actor, key) is used by one uninterrupted history only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The minting node.
    pub node: NodeId,
    /// The node's life in which the actor was drawn.
    pub incarnation: Incarnation,
    /// The epoch, unique within (node, incarnation).
    pub epoch: u64,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.incarnation, self.epoch)
    }
}

/// The name of one write: the `counter`-th dot of `actor`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// Its place in the actor's history of the key, from 1.
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

/// A dot's text was not the form that [`fmt::Display`] prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no write: NODE.INCARNATION.EPOCH:COUNTER is expected")]
pub struct ParseDotError(String);

impl FromStr for Dot {
    type Err = ParseDotError;
    fn from_str(text: &str) -> Result<Self, ParseDotError> {
        let read = || {
            let (actor, counter) = text.split_once(':')?;
            let mut parts = actor.split('.');
            let (node, incarnation) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let epoch = parts.next()?.parse().ok()?;
            let counter = counter.parse().ok().filter(|counter| *counter > 0)?;
            let is_over = parts.next().is_none();
            is_over.then_some(Dot { actor: Actor { node, incarnation, epoch }, counter })
        };
        read().ok_or_else(|| ParseDotError(text.to_owned()))
    }
}

/// The BLAKE3 digest of a merge module's component bytes: what a keyspace pins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleDigest(pub [u8; 32]);

impl ModuleDigest {
    /// The digest of `component`, the bytes as they were pushed.
    pub fn of(component: &[u8]) -> Self {
        ModuleDigest(*blake3::hash(component).as_bytes())
    }
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleDigest({self})")
    }
}

impl FromStr for ModuleDigest {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(ModuleDigest(bytes)),
            Err(_) => {
                Err(ParseIdError { text: text.to_owned(), what: "a module digest", digits: 64 })
            }
        }
    }
}

impl Serialize for ModuleDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModuleDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Names a request of a client or operator, chosen by the driver.
pub type Ticket = u64;

/// Names an effect whose result is awaited, chosen by the protocol.
pub type Token = u64;

/// The number of a request to another node, unique in its sender's life.
pub type RequestId = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let node = NodeId(0xab);
        assert_eq!(node.to_string(), "00000000000000ab");
        assert_eq!(node.to_string().parse(), Ok(node));
        let digest = ModuleDigest::of(b"module");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ab".parse::<NodeId>().is_err());
        assert!("zz".repeat(8).parse::<NodeId>().is_err());
    }

    #[test]
    fn a_successor_has_another_keyspace_id() {
        assert_ne!(KeyspaceId::of("carts", 1), KeyspaceId::of("carts", 2));
        assert_eq!(KeyspaceId::of("carts", 1), KeyspaceId::of("carts", 1));
    }
}
