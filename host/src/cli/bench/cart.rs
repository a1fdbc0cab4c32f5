//! Carts of a size, as clients of the `cart` workload write them: each edit puts an article in, every
//! fourth one takes one out, and what no longer fits goes, the first tag first, as if it were bought.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::choice::below;
use super::target::Reason;
use crate::demo::cart::Cart;

const ARTICLES: u64 = 1_000;
/// Of so many edits one takes an article out.
const EDITS_PER_REMOVAL: u64 = 4;

/// A cart of up to `bytes`.
pub(super) fn full(bytes: usize, random: &mut impl Rng) -> Result<Bytes, Reason> {
    let mut cart = Cart::default();
    loop {
        let last = cart.clone();
        add(&mut cart, random);
        if written(&cart)?.len() > bytes {
            return written(&last);
        }
    }
}

/// The cart that a client writes who has read `siblings`: their union without what was taken out of
/// any of them, changed a little.
pub(super) fn edited(
    siblings: &[Bytes],
    bytes: usize,
    random: &mut impl Rng,
) -> Result<Bytes, Reason> {
    let mut cart = Cart::default();
    for sibling in siblings {
        let other = Cart::read(Some(sibling)).map_err(|_| Reason("NOT_A_CART".to_owned()))?;
        cart.items.extend(other.items);
        cart.removed.extend(other.removed);
    }
    cart.items.retain(|tag, _| !cart.removed.contains(tag));
    if below(EDITS_PER_REMOVAL, random) == 0 {
        let last = cart.items.last_key_value().map(|(_, item)| item.sku.clone());
        last.map_or_else(BTreeSet::new, |article| cart.remove(&article));
    }
    let added = add(&mut cart, random);
    loop {
        let value = written(&cart)?;
        let bought = cart.items.keys().find(|tag| **tag != added).cloned();
        if value.len() <= bytes || bought.is_none() && cart.removed.is_empty() {
            return Ok(value);
        }
        if cart.removed.pop_first().is_none() {
            bought.and_then(|tag| cart.items.remove(&tag));
        }
    }
}

/// Puts an article in and tells its tag.
fn add(cart: &mut Cart, random: &mut impl Rng) -> String {
    let tag = format!("{:016x}", random.next_u64());
    cart.add(&tag, &format!("article-{:04}", below(ARTICLES, random)), 1);
    tag
}

fn written(cart: &Cart) -> Result<Bytes, Reason> {
    cart.write().map(Bytes::from).map_err(|_| Reason("NOT_A_CART".to_owned()))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn carts_keep_their_size_and_change_with_each_edit() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut value = full(1_024, &mut random).expect("a cart");
        assert!((900..=1_024).contains(&value.len()), "{}", value.len());
        for _ in 0..200 {
            let next = edited(&[value.clone()], 1_024, &mut random).expect("a cart");
            assert_ne!(next, value);
            assert!((800..=1_024).contains(&next.len()), "{}", next.len());
            value = next;
        }
    }

    #[test]
    fn siblings_are_merged_as_the_module_does() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let [mut one, mut other] = [Cart::default(), Cart::default()];
        one.add("a", "tea", 1);
        one.add("b", "cup", 1);
        other.items = one.items.clone();
        other.remove("cup");
        let siblings = [one, other].map(|cart| written(&cart).expect("a cart"));
        let merged = edited(&siblings, 4_096, &mut random).expect("a cart");
        let merged = Cart::read(Some(&merged)).expect("a cart");
        assert!(!merged.holds("cup"));
        assert!(edited(&["no cart".into()], 4_096, &mut random).is_err());
    }
}
