//! What the example merges with JSON values share: strict reading and canonical writing.
//!
//! Strict, because a merge must not guess: what it drops silently is lost to the reader. A name
//! that an object has twice is such a thing, and every JSON library decides it differently.
//! Canonical, because equal values must be equal bytes: only then do replicas and merges in
//! another order agree. Both come from types with sorted maps and sets, written without white
//! space.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use stator_guest::{Failure, Resolution, Version};

/// The largest schema number that the example merges read: the format of their heads. A client
/// that gives none (0) means the same format.
pub const SCHEMA_MAX: u32 = 1;

/// Reads a sibling that has a value.
///
/// # Errors
/// Its schema number is unknown, or its value is not a JSON object that is a `T`: with the sibling's number
/// and the parser's words.
pub fn read<T: DeserializeOwned>(sibling: u32, version: &Version) -> Result<T, Failure> {
    if version.schema > SCHEMA_MAX {
        let message = format!("schema {}: up to {SCHEMA_MAX} is known", version.schema);
        return Err(Failure::unknown_schema(sibling, message));
    }
    parse(version.value.as_deref().unwrap_or_default())
        .map_err(|why| Failure::malformed(sibling, why))
}

/// Reads a value.
///
/// # Errors
/// It is not a JSON object that is a `T`, in the parser's words.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    // Checked once as a whole: the parser would check every string of its own.
    let text = str::from_utf8(json).map_err(|why| why.to_string())?;
    serde_json::from_str(text).map(|Object(value)| value).map_err(|why| why.to_string())
}

/// The answer that is this value.
pub fn resolution(value: &impl Serialize) -> Resolution {
    Resolution::value(text(value))
}

/// The canonical text of a value. Nothing in the examples' types can fail to become JSON, and
/// memory takes every byte.
pub fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A struct that is written as an object. Derived readers take `[3,7]` for one as well: fields in
/// the order of the source, which is no format that anyone chose.
pub struct Object<T>(
    /// The struct.
    pub T,
);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// For `#[serde(deserialize_with)]`: like [`unique`], and every value is itself an object.
pub fn unique_objects<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    let objects: BTreeMap<String, Object<V>> = unique(deserializer)?;
    Ok(objects.into_iter().map(|(name, Object(value))| (name, value)).collect())
}

/// For `#[serde(deserialize_with)]`: an object in which every name is there once.
pub fn unique<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Unique<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<String, V>()? {
                if map.contains_key(&name) {
                    return Err(A::Error::custom(format!("`{name}` is there twice")));
                }
                map.insert(name, value);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique(PhantomData))
}
