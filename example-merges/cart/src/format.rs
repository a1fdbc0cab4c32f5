//! The cart's JSON, read without copying the text and written in one canonical way.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strict_json::Object;

/// A cart as its text says it, in the text's order; [`settle`](Cart::settle) makes it canonical.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cart<'a> {
    /// The items, each under its tag. May hold a tag twice until settled.
    #[serde(borrow, serialize_with = "items_as_map", deserialize_with = "items_from_map")]
    pub items: Vec<(Text<'a>, Item<'a>)>,
    /// The tags that are gone for good. May hold a tag twice until settled.
    #[serde(borrow)]
    pub removed: Vec<Text<'a>>,
}

/// What is bought. Ordered by quantity, then by sku: of two items under one tag, the larger
/// counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item<'a> {
    /// How many, at least one.
    pub quantity: NonZeroU32,
    /// The article.
    #[serde(borrow)]
    pub sku: Text<'a>,
}

/// Text that is borrowed from the JSON wherever it has no escapes. (serde borrows a bare
/// `Cow` only as the direct field of a struct.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Cart<'a> {
    /// Reads a cart, or says what is wrong with the text.
    pub fn parse(json: &'a [u8]) -> Result<Self, String> {
        if json.is_empty() {
            return Err("the value is empty; an empty cart is {}".to_owned());
        }
        // Checked once as a whole: the parser would check every string of its own.
        let text = std::str::from_utf8(json).map_err(|e| e.to_string())?;
        serde_json::from_str(text).map(|Object(cart)| cart).map_err(|e| e.to_string())
    }

    /// Writes the cart. A settled cart has one text only.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in a cart can fail to become JSON, and memory takes every byte.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn items_as_map<S: Serializer>(
    items: &[(Text<'_>, Item<'_>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(items.len()))?;
    for (tag, item) in items {
        map.serialize_entry(tag, item)?;
    }
    map.end()
}

/// Keeps every entry of the object, even if a tag is there twice: the merge's rule for equal tags
/// then decides, instead of the parser's.
fn items_from_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Text<'de>, Item<'de>)>, D::Error> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<(Text<'de>, Item<'de>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of items by tag")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some((tag, Object(item))) = map.next_entry()? {
                items.push((tag, item));
            }
            Ok(items)
        }
    }
    deserializer.deserialize_map(Items)
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}
