//! Lent dots: the writes that a node names for others, and does not store.
//!
//! A coordinator that does not own a key has an owner make the object with its write in it
//! ([`crate::request::put`]). The owner mints as for itself, but stores nothing: whether the write
//! will be, the coordinator decides, and the owner hears of it as every owner does, if it does.
//! A dot that is lent is never named again, come of it what may. As the record says nothing of it,
//! the node remembers per actor the last counter that it lent:
//! - while the dot is out, the actor rests: its next dot would claim a write that is not held here;
//! - when the record's vector says that the dot has come back, the actor goes on behind it;
//! - when it never does, the actor never mints again.
//!
//! So a key gets another actor only while several of its dots are out at a time. A start, clean or
//! not, retires all actors, because what was out then is forgotten.
//!
//! Bounded: beyond [`LENT_MAX`] actors the minter retires all that it has drawn, and forgets them.

use std::collections::BTreeMap;

use crate::causality::VersionVector;
use crate::id::{Actor, Dot};

/// The most actors whose lent dots are remembered, about 5 MiB.
pub const LENT_MAX: usize = 1 << 16;

/// The last dot of each actor that was lent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lent(BTreeMap<Actor, u64>);

impl Lent {
    /// Whether a dot of `actor` was lent last, not stored.
    pub fn has(&self, actor: &Actor) -> bool {
        self.0.contains_key(actor)
    }

    /// Whether no further actor is remembered.
    pub fn is_full(&self) -> bool {
        self.0.len() >= LENT_MAX
    }

    /// Actors of `vector` whose last dot has come back, as that says.
    pub fn returned<'a>(&'a self, vector: &'a VersionVector) -> impl Iterator<Item = Dot> + 'a {
        // Most nodes lend little.
        let known = (!self.0.is_empty()).then(|| vector.iter());
        known.into_iter().flatten().filter(|last| self.0.get(&last.actor) == Some(&last.counter))
    }

    /// `dot` is lent.
    pub fn lend(&mut self, dot: Dot) {
        self.0.insert(dot.actor, dot.counter);
    }

    /// The record says from now on what `actor` has minted.
    pub fn stored(&mut self, actor: &Actor) {
        self.0.remove(actor);
    }

    /// Forgets all: none of these actors mints any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
