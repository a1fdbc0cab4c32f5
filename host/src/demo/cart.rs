//! A shopping cart as its clients see it, in the format that the cart module merges.
//!
//! `{"items":{"<tag>":{"quantity":n,"sku":"…"}},"removed":["<tag>",…]}`: every add gets a tag that
//! no other add has. A removal takes the tags that the client saw out of `items` and lists them
//! in `removed`, so that an add it had not seen stays. Written from the format alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A cart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cart {
    /// What is in it, by tag.
    pub items: BTreeMap<String, Item>,
    /// The tags that were taken out.
    #[serde(default)]
    pub removed: BTreeSet<String>,
}

/// One add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// How many, at least one.
    pub quantity: u32,
    /// The article.
    pub sku: String,
}

impl Cart {
    /// Reads a stored value; an absent one is an empty cart.
    ///
    /// # Errors
    /// The value is not of the format.
    pub fn read(value: Option<&[u8]>) -> serde_json::Result<Self> {
        value.map_or_else(|| Ok(Cart::default()), serde_json::from_slice)
    }

    /// The value to store.
    ///
    /// # Errors
    /// None in practice: a cart is always representable.
    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Puts `quantity` of `sku` in, under a tag that no other add has.
    pub fn add(&mut self, tag: &str, sku: &str, quantity: u32) {
        self.items.insert(tag.to_owned(), Item { sku: sku.to_owned(), quantity });
    }

    /// Takes every add of `sku` out that is in this cart, and tells their tags.
    pub fn remove(&mut self, sku: &str) -> BTreeSet<String> {
        let seen = self.items.iter().filter(|(_, item)| item.sku == sku);
        let tags: BTreeSet<String> = seen.map(|(tag, _)| tag.clone()).collect();
        self.items.retain(|tag, _| !tags.contains(tag));
        self.removed.extend(tags.iter().cloned());
        tags
    }

    /// Whether any add of `sku` is in the cart.
    pub fn holds(&self, sku: &str) -> bool {
        self.items.values().any(|item| item.sku == sku)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_as_published() {
        let mut cart = Cart::default();
        cart.add("a1", "tea", 2);
        cart.add("b2", "cup", 1);
        assert_eq!(cart.remove("cup"), BTreeSet::from(["b2".to_owned()]));
        let text = String::from_utf8(cart.write().expect("writes")).expect("UTF-8");
        assert_eq!(text, r#"{"items":{"a1":{"quantity":2,"sku":"tea"}},"removed":["b2"]}"#);
        assert_eq!(Cart::read(Some(text.as_bytes())).expect("reads"), cart);
    }

    #[test]
    fn a_removal_takes_only_what_is_there() {
        let mut cart = Cart::default();
        assert!(cart.remove("tea").is_empty());
        assert!(!cart.holds("tea"));
    }
}
