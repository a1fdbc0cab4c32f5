//! What the checks of the merge laws need: samples, and what a merge must not lose.

use std::borrow::Cow;
use std::num::NonZeroU32;

use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::CartMerge;
use crate::format::{Cart, Item, Text};

impl Sample for CartMerge {
    /// Devices that have read the same cart, each with a few adds and removals of its own.
    fn sample(random: &mut Random) -> Divergence {
        let mut base = Cart::default();
        edit(&mut base, "base", random);
        let edits: Vec<_> = (0..2 + random.below(2))
            .map(|device| {
                let mut cart = base.clone();
                edit(&mut cart, &format!("device-{device}"), random);
                cart.to_json()
            })
            .collect();
        Divergence::of_edits(base.to_json(), edits)
    }
}

/// Does what the README asks of a client: fresh tags, removals of what is there.
fn edit(cart: &mut Cart<'_>, device: &str, random: &mut Random) {
    for n in 0..random.below(4) {
        if random.chance(1, 3) {
            if !cart.items.is_empty() {
                let (tag, _) = cart.items.remove(random.below(cart.items.len() as u32) as usize);
                cart.removed.push(tag);
            }
        } else {
            let quantity = NonZeroU32::MIN.saturating_add(random.below(3));
            let sku = Text(Cow::Borrowed(*random.pick(&["22423", "71053", "85123A"])));
            cart.items.push((Text(Cow::Owned(format!("{device}:{n}"))), Item { quantity, sku }));
        }
    }
}

impl Invariant for CartMerge {
    /// No add is lost but by a removal that saw it, and what is removed does not come back.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let carts: Vec<Cart<'_>> =
            before.values().filter_map(|(_, json)| Cart::parse(json).ok()).collect();
        let after = match after {
            Outcome::Value(json) => Cart::parse(json)?,
            Outcome::Delete if carts.is_empty() => return Ok(()),
            _ => return Err("there is no cart any more".to_owned()),
        };
        let is_removed = |tag: &Text<'_>| carts.iter().any(|cart| cart.removed.contains(tag));
        for (tag, item) in carts.iter().flat_map(|cart| &cart.items) {
            let is_there = after.items.iter().any(|(known, kept)| known == tag && kept >= item);
            match (is_removed(tag), is_there) {
                (false, false) => return Err(format!("the item {} is lost", tag.0)),
                (true, true) => return Err(format!("the removed item {} is back", tag.0)),
                _ => {}
            }
        }
        let mut removed = carts.iter().flat_map(|cart| &cart.removed);
        match removed.find(|tag| !after.removed.contains(tag)) {
            Some(tag) => Err(format!("the removal of {} is lost", tag.0)),
            None => Ok(()),
        }
    }
}
