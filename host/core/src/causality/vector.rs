//! The version vector: per actor, how many of its dots have been seen.

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Reader, Sink, put_varint};
use crate::id::{Actor, Dot, Incarnation, NodeId};

/// Per actor the highest counter seen; all lower ones count as seen too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct VersionVector(BTreeMap<Actor, u64>);

impl VersionVector {
    /// A vector that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest counter seen of `actor`, 0 if none.
    pub fn get(&self, actor: &Actor) -> u64 {
        self.0.get(actor).copied().unwrap_or(0)
    }

    /// Whether `dot` has been seen.
    pub fn contains(&self, dot: &Dot) -> bool {
        dot.counter <= self.get(&dot.actor)
    }

    /// Marks `dot`, and all earlier ones of its actor, as seen.
    pub fn advance(&mut self, dot: Dot) {
        let seen = self.0.entry(dot.actor).or_insert(0);
        *seen = dot.counter.max(*seen);
    }

    /// Takes the higher counter of every actor.
    pub fn join(&mut self, other: &VersionVector) {
        for (&actor, &counter) in &other.0 {
            self.advance(Dot { actor, counter });
        }
    }

    /// Whether all that `other` has seen is seen here.
    pub fn covers(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(actor, &counter)| counter <= self.get(actor))
    }

    /// What both have seen.
    pub fn meet(&self, other: &VersionVector) -> VersionVector {
        let both = self
            .iter()
            .map(|Dot { actor, counter }| Dot { actor, counter: counter.min(other.get(&actor)) });
        both.filter(|dot| dot.counter > 0).collect()
    }

    /// The actors with their counters, in actor order.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.0.iter().map(|(&actor, &counter)| Dot { actor, counter })
    }

    /// Forgets every actor that is not to be kept.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Actor) -> bool) {
        self.0.retain(|actor, _| is_kept(actor));
    }

    /// How many actors have an entry.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the vector: a count, then each entry.
    pub fn encode(&self, out: &mut impl Sink) {
        encode_dots(out, self.0.len(), self.iter());
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let dots = decode_dots(reader)?;
        let count = dots.len();
        let vector = VersionVector(dots.into_iter().map(|dot| (dot.actor, dot.counter)).collect());
        if vector.len() == count {
            Ok(vector)
        } else {
            Err(reader.invalid("an actor stands twice"))
        }
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        dots.into_iter().for_each(|dot| vector.advance(dot));
        vector
    }
}

/// Appends a list of `count` dots: node and incarnation fixed, epoch and counter as varints.
pub(crate) fn encode_dots(out: &mut impl Sink, count: usize, dots: impl Iterator<Item = Dot>) {
    put_varint(out, count as u64);
    for dot in dots {
        encode_dot(out, dot);
    }
}

/// Appends one dot.
pub(crate) fn encode_dot(out: &mut impl Sink, dot: Dot) {
    out.put(&dot.actor.node.0.to_be_bytes());
    out.put(&dot.actor.incarnation.0.to_be_bytes());
    put_varint(out, dot.actor.epoch);
    put_varint(out, dot.counter);
}

/// Reads one dot.
pub(crate) fn decode_dot(reader: &mut Reader) -> Result<Dot, DecodeError> {
    let actor = Actor {
        node: NodeId(reader.fixed64()?),
        incarnation: Incarnation(reader.fixed64()?),
        epoch: reader.varint()?,
    };
    let counter = reader.varint()?;
    if counter == 0 {
        return Err(reader.invalid("counters start at 1"));
    }
    Ok(Dot { actor, counter })
}

/// Reads a list of dots, which must be in strictly ascending order.
pub(crate) fn decode_dots(reader: &mut Reader) -> Result<Vec<Dot>, DecodeError> {
    let count = reader.count()?;
    let mut dots: Vec<Dot> = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let dot = decode_dot(reader)?;
        if dots.last().is_some_and(|last| *last >= dot) {
            return Err(reader.invalid("dots are not in ascending order"));
        }
        dots.push(dot);
    }
    Ok(dots)
}
