//! The merge laws, checked natively on generated carts.

use std::collections::{BTreeMap, BTreeSet};

use cart::CartMerge;
use proptest::prelude::*;
use stator_guest::{Divergence, Invariant, Merge, Outcome, Random, Sample};

/// The cart as a client would model it, written and read by a generic JSON library: the tests
/// share no code with the module.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    items: BTreeMap<String, (String, u32)>,
    removed: BTreeSet<String>,
}

impl Model {
    fn json(&self) -> String {
        let items: serde_json::Map<_, _> = self
            .items
            .iter()
            .map(|(tag, (sku, quantity))| {
                (tag.clone(), serde_json::json!({ "sku": sku, "quantity": quantity }))
            })
            .collect();
        serde_json::json!({ "items": items, "removed": self.removed }).to_string()
    }

    fn parse(json: &[u8]) -> Self {
        let value: serde_json::Value = serde_json::from_slice(json).expect("the merge wrote JSON");
        let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
        let items = value["items"].as_object().expect("items").iter().map(|(tag, item)| {
            let quantity = item["quantity"].as_u64().expect("a number") as u32;
            (tag.clone(), (text(&item["sku"]), quantity))
        });
        let removed = value["removed"].as_array().expect("removed").iter().map(text);
        Model { items: items.collect(), removed: removed.collect() }
    }
}

fn merge<const N: usize>(carts: [&str; N]) -> String {
    let resolution = CartMerge::merge(&Divergence::of_values(carts)).expect("well-formed carts");
    match resolution.outcome {
        Outcome::Value(json) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("carts merge to a cart, not to {other:?}"),
    }
}

/// Few tags, so that carts overlap, some of them with escapes, quotes and other alphabets.
fn tag() -> impl Strategy<Value = String> {
    prop_oneof!["[a-f]", Just("\"quoted\\\n".to_owned()), Just("Größe:1".to_owned())]
}

fn item() -> impl Strategy<Value = (String, u32)> {
    ("[A-C\u{1}é]{0,2}", prop_oneof![1..4u32, Just(u32::MAX)])
}

/// Any cart, also such as a client should not write: an item under a removed tag, one tag with
/// different items in different carts.
fn any_cart() -> impl Strategy<Value = Model> {
    (prop::collection::btree_map(tag(), item(), 0..6), prop::collection::btree_set(tag(), 0..4))
        .prop_map(|(items, removed)| Model { items, removed })
}

/// What a client does to a cart that it has read.
#[derive(Debug, Clone)]
enum Edit {
    Add(String, u32),
    RemoveNth(usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        ("[A-C]", 1..4u32).prop_map(|(sku, quantity)| Edit::Add(sku, quantity)),
        (0..8usize).prop_map(Edit::RemoveNth),
    ];
    prop::collection::vec(edit, 0..8)
}

/// A client that keeps to the README: fresh tags (`client` makes them its own), removals of what
/// is there.
fn edited(cart: &Model, client: &str, edits: &[Edit]) -> Model {
    let mut cart = cart.clone();
    for (n, edit) in edits.iter().enumerate() {
        match edit {
            Edit::Add(sku, quantity) => {
                cart.items.insert(format!("{client}:{n}"), (sku.clone(), *quantity));
            }
            Edit::RemoveNth(n) => {
                let Some(tag) = cart.items.keys().nth(*n).cloned() else {
                    continue;
                };
                cart.items.remove(&tag);
                cart.removed.insert(tag);
            }
        }
    }
    cart
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = CartMerge::sample(&mut Random::new(seed));
        let merged = CartMerge::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(CartMerge::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn merge_is_commutative(a in any_cart(), b in any_cart(), c in any_cart()) {
        let [a, b, c] = [a.json(), b.json(), c.json()];
        prop_assert_eq!(merge([&a, &b]), merge([&b, &a]));
        prop_assert_eq!(merge([&a, &b, &c]), merge([&c, &a, &b]));
    }

    #[test]
    fn merge_is_associative(a in any_cart(), b in any_cart(), c in any_cart()) {
        let [a, b, c] = [a.json(), b.json(), c.json()];
        let whole = merge([&a, &b, &c]);
        prop_assert_eq!(merge([&merge([&a, &b]), &c]), whole.clone());
        prop_assert_eq!(merge([&a, &merge([&b, &c])]), whole);
    }

    #[test]
    fn merge_is_idempotent(a in any_cart(), b in any_cart()) {
        let [a, b] = [a.json(), b.json()];
        let merged = merge([&a, &b]);
        prop_assert_eq!(merge([&merged]), merged.clone());
        prop_assert_eq!(merge([&merged, &a]), merged.clone());
        prop_assert_eq!(merge([&a, &a, &b]), merged);
    }

    #[test]
    fn merging_with_the_own_past_changes_nothing(
        base in edits(), left in edits(), right in edits(), later in edits(),
    ) {
        let base = edited(&Model::default(), "base", &base);
        let a = edited(&base, "left", &left);
        let b = edited(&base, "right", &right).json();
        let derived = edited(&a, "later", &later).json();
        let merged = merge([&a.json(), &b]);
        prop_assert_eq!(merge([&merged, &derived]), merge([&b, &derived]));
    }

    #[test]
    fn no_unseen_add_is_lost_and_nothing_removed_returns(
        base in edits(), left in edits(), right in edits(),
    ) {
        let base = edited(&Model::default(), "base", &base);
        let [a, b] = [edited(&base, "left", &left), edited(&base, "right", &right)];
        let merged = Model::parse(merge([&a.json(), &b.json()]).as_bytes());
        let mut expected = Model {
            items: a.items.into_iter().chain(b.items).collect(),
            removed: a.removed.union(&b.removed).cloned().collect(),
        };
        expected.items.retain(|tag, _| !expected.removed.contains(tag));
        prop_assert_eq!(merged, expected);
    }
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(b"{}".to_vec());
    let mut samples = CartMerge::samples(1, 20).into_iter();
    assert!(samples.any(|sample| CartMerge::preserves(&sample, &empty).is_err()));
}
