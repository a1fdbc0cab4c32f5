//! What travels between nodes, as bytes: one encoding, derived from the values themselves.
//!
//! A value is its fields in the order in which they are listed, without names or tags; an enum is
//! the number of its variant, then that one's fields; a list is its length, then its items. Numbers
//! are LEB128 varints in their shortest form, ids and hashes fixed and big-endian, bytes and text
//! have their length before them. What core has a stored form of travels in that, as bytes: objects,
//! contexts, catalogues. So equal values have equal bytes, and nothing else is read.
//!
//! *Nothing large is copied.* Long bytes are [shared](Pieces) with the value on the way out, and
//! slices of what arrived on the way in. An object's bytes are made once, whoever wants them
//! ([`Siblings::canonical`]).
//!
//! *Nothing is believed.* Each length and count is held against the bytes that are left before
//! anything is taken for it, and a list against the memory it would take; no type holds itself, so
//! nothing nests deeper than its declaration. Whatever bytes arrive, reading them ends in a value or
//! in a [`DecodeError`].
//!
//! *Numbers of variants are for ever*: a variant gets the next one, and none is given again. Fields
//! change with the peer protocol's version, on which the handshake insists; within one nobody sends
//! what the other does not know.
//!
//! Left out: a description of itself in the bytes, and reading what a later version has added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::catalogue::{Catalogue, Decision};
use crate::causality::{Context, Siblings, decode_dot, encode_dot};
use crate::codec::{DecodeError, Measure, Pieces, Reader, Sink, put_varint};
use crate::founding::Promise;
use crate::id::{ClusterId, Dot, Incarnation, KeyspaceId, ModuleDigest, NodeId, PartitionId};
use crate::tree::ObjectHash;

/// A value that travels: see the head of this module.
pub trait Wire: Sized {
    /// Appends the value.
    fn to_wire(&self, out: &mut impl Sink);
    /// Reads what [`Self::to_wire`] appended.
    ///
    /// # Errors
    /// The bytes are not such a value.
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError>;
}

/// Reads the value that `bytes` are, a `what`.
///
/// # Errors
/// They are none, or more than one.
pub fn decode<T: Wire>(bytes: Bytes, what: &'static str) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes, what);
    let value = T::from_wire(&mut reader)?;
    reader.end().map(|()| value)
}

/// About how many bytes a value takes, without making them.
pub fn measure<T: Wire>(value: &T) -> usize {
    let mut out = Measure::default();
    value.to_wire(&mut out);
    out.bytes
}

/// The bytes of a value, in one buffer.
pub fn encode<T: Wire>(value: &T) -> Bytes {
    let mut out = Pieces::new();
    value.to_wire(&mut out);
    out.to_vec().into()
}

/// Makes structs travel: their fields in this order.
#[macro_export]
macro_rules! wire_structs {
    ($($name:ty { $($field:ident),* $(,)? })*) => { $(
        impl $crate::wire::Wire for $name {
            fn to_wire(&self, out: &mut impl $crate::codec::Sink) {
                let Self { $($field),* } = self;
                $( $crate::wire::Wire::to_wire($field, out); )*
            }
            fn from_wire(
                from: &mut $crate::codec::Reader,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $crate::wire::Wire::from_wire(from)?),* })
            }
        }
    )* };
}

/// Makes enums travel: the number of the variant, and its fields in this order.
#[macro_export]
macro_rules! wire_enums {
    ($($name:ty {
        $( $tag:literal => $variant:ident
            $( { $($field:ident),* $(,)? } )? $( ( $($item:ident),* ) )? ),* $(,)?
    })*) => { $(
        impl $crate::wire::Wire for $name {
            fn to_wire(&self, out: &mut impl $crate::codec::Sink) {
                match self {
                    $( Self::$variant $( { $($field),* } )? $( ( $($item),* ) )? => {
                        out.put(&[$tag]);
                        $( $( $crate::wire::Wire::to_wire($field, out); )* )?
                        $( $( $crate::wire::Wire::to_wire($item, out); )* )?
                    } )*
                }
            }
            fn from_wire(
                from: &mut $crate::codec::Reader,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(match from.byte()? {
                    $( $tag => Self::$variant
                        $( { $($field: $crate::wire::Wire::from_wire(from)?),* } )?
                        $( ( $( { let $item = $crate::wire::Wire::from_wire(from)?; $item } ),* ) )?,
                    )*
                    _ => return Err(from.invalid("it is of a kind that this version does not know")),
                })
            }
        }
    )* };
}

// Behind the macros, which it uses.
mod messages;

pub use messages::is_read_reply;

macro_rules! numbers {
    ($($name:ty),*) => { $(
        impl Wire for $name {
            fn to_wire(&self, out: &mut impl Sink) {
                put_varint(out, *self as u64);
            }
            fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
                let number = from.varint()?;
                <$name>::try_from(number).map_err(|_| from.invalid("a number is out of range"))
            }
        }
    )* };
}
numbers!(u16, u32, u64, usize);

/// Fixed and big-endian: they are random, and a varint would be longer.
macro_rules! fixed {
    ($($name:ident($number:ty)),*) => { $(
        impl Wire for $name {
            fn to_wire(&self, out: &mut impl Sink) {
                out.put(&self.0.to_be_bytes());
            }
            fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
                Wire::from_wire(from).map(|bytes| $name(<$number>::from_be_bytes(bytes)))
            }
        }
    )* };
}
fixed!(NodeId(u64), Incarnation(u64), KeyspaceId(u64), ClusterId(u128), ObjectHash(u128));

macro_rules! wrappers {
    ($($name:ident),*) => { $(
        impl Wire for $name {
            fn to_wire(&self, out: &mut impl Sink) {
                self.0.to_wire(out);
            }
            fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
                Wire::from_wire(from).map($name)
            }
        }
    )* };
}
wrappers!(PartitionId, ModuleDigest);

impl<const N: usize> Wire for [u8; N] {
    fn to_wire(&self, out: &mut impl Sink) {
        Sink::put(out, self);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&from.take(N)?);
        Ok(bytes)
    }
}

impl Wire for bool {
    fn to_wire(&self, out: &mut impl Sink) {
        out.put(&[u8::from(*self)]);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.invalid("a choice is neither of two")),
        }
    }
}

impl Wire for () {
    fn to_wire(&self, _: &mut impl Sink) {}
    fn from_wire(_: &mut Reader) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Wire for Bytes {
    fn to_wire(&self, out: &mut impl Sink) {
        put_varint(out, self.len() as u64);
        out.share(self);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        from.sized()
    }
}

impl Wire for String {
    fn to_wire(&self, out: &mut impl Sink) {
        put_varint(out, self.len() as u64);
        Sink::put(out, self.as_bytes());
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        from.text()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn to_wire(&self, out: &mut impl Sink) {
        self.is_some().to_wire(out);
        self.iter().for_each(|value| value.to_wire(out));
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        bool::from_wire(from)?.then(|| T::from_wire(from)).transpose()
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn to_wire(&self, out: &mut impl Sink) {
        self.is_err().to_wire(out);
        match self {
            Ok(value) => value.to_wire(out),
            Err(error) => error.to_wire(out),
        }
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match bool::from_wire(from)? {
            false => Ok(T::from_wire(from)?),
            true => Err(E::from_wire(from)?),
        })
    }
}

macro_rules! pointers {
    ($($name:ident),*) => { $(
        impl<T: Wire> Wire for $name<T> {
            fn to_wire(&self, out: &mut impl Sink) {
                T::to_wire(self, out);
            }
            fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
                T::from_wire(from).map($name::new)
            }
        }
    )* };
}
pointers!(Arc, Box);

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn to_wire(&self, out: &mut impl Sink) {
        self.0.to_wire(out);
        self.1.to_wire(out);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::from_wire(from)?, B::from_wire(from)?))
    }
}

/// A list may take so many times the bytes that it has, and a little more: honest ones take less.
const LIST_GROWTH: usize = 8;
const LIST_FREE_BYTES: usize = 4 << 10;

impl<T: Wire> Wire for Vec<T> {
    fn to_wire(&self, out: &mut impl Sink) {
        put_varint(out, self.len() as u64);
        self.iter().for_each(|item| item.to_wire(out));
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        let count = from.count()?;
        let taken = count.saturating_mul(size_of::<T>());
        if taken > LIST_GROWTH.saturating_mul(from.remaining()).saturating_add(LIST_FREE_BYTES) {
            return Err(from.invalid("a list has more items than its bytes can hold"));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::from_wire(from)?);
        }
        Ok(items)
    }
}

/// The items, which must be in strictly ascending order: there is one order for equal sets.
fn ascending<T: Wire>(
    from: &mut Reader,
    is_before: impl Fn(&T, &T) -> bool,
) -> Result<Vec<T>, DecodeError> {
    let items = Vec::<T>::from_wire(from)?;
    match items.windows(2).all(|pair| is_before(&pair[0], &pair[1])) {
        true => Ok(items),
        false => Err(from.invalid("a set is not in ascending order")),
    }
}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    fn to_wire(&self, out: &mut impl Sink) {
        put_varint(out, self.len() as u64);
        self.iter().for_each(|item| item.to_wire(out));
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ascending(from, |a, b| a < b)?.into_iter().collect())
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn to_wire(&self, out: &mut impl Sink) {
        put_varint(out, self.len() as u64);
        for (key, value) in self {
            key.to_wire(out);
            value.to_wire(out);
        }
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(ascending(from, |a: &(K, V), b| a.0 < b.0)?.into_iter().collect())
    }
}

impl Wire for Dot {
    fn to_wire(&self, out: &mut impl Sink) {
        encode_dot(out, *self);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        decode_dot(from)
    }
}

impl Wire for Context {
    fn to_wire(&self, out: &mut impl Sink) {
        self.encode(out);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Context::decode(from)
    }
}

impl Wire for Siblings {
    fn to_wire(&self, out: &mut impl Sink) {
        let canonical = self.canonical();
        put_varint(out, canonical.len() as u64);
        out.append(canonical);
    }
    fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
        Siblings::decode(from.sized()?)
    }
}

/// Those travel as they are stored.
macro_rules! stored {
    ($($name:ident, $why:literal);*) => { $(
        impl Wire for $name {
            fn to_wire(&self, out: &mut impl Sink) {
                out.put_made(|| self.encode());
            }
            fn from_wire(from: &mut Reader) -> Result<Self, DecodeError> {
                let read = $name::decode(&from.sized()?).into_iter().next();
                read.ok_or_else(|| from.invalid($why))
            }
        }
    )* };
}
stored!(
    Catalogue, "it holds no catalogue";
    Decision, "it holds no decision about a ring";
    Promise, "it holds no promise"
);
