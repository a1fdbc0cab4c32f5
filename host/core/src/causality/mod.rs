//! Causality: which writes a replica has seen, and which of them are still alive.
//!
//! Stator tracks causality with dotted version vector sets (Almeida, Baquero, Gonçalves,
//! Preguiça, Fonte: "Scalable and Accurate Causality Tracking for Eventually Consistent Stores",
//! DAIS 2014). Every write has a name, its [dot](crate::id::Dot). For a replica of a key a dot is
//! in one of three states, which it passes in this order only:
//!
//! ```text
//!   unseen ──────▶ live ──────▶ dead
//!   not in the     in `live`    in the vector,
//!   vector                      not in `live`
//! ```
//!
//! [`Siblings`] holds these states for all dots of a key, [`Siblings::sync`] takes the later of
//! two states for every dot, and so is commutative, associative and idempotent. A put kills
//! exactly the dots that its client had seen, which its [`Context`] lists.
//!
//! Left out: pruning of vectors by age or count (it revives what was deleted), and the anonymous
//! values of the reference implementation (every write of Stator has a dot).

mod context;
mod siblings;
mod vector;

pub(crate) use vector::{decode_dot, decode_dots, encode_dot, encode_dots};

pub use context::{Context, ContextError, ContextSecrets, SECRET_BYTES};
pub use siblings::{LiveVersion, Siblings, Survivors};
pub use vector::VersionVector;
