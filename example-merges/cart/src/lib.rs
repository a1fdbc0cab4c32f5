//! A shopping cart whose adds and removals survive concurrency.
//!
//! The format, for clients in any language, is in this crate's README. In short: each add puts an
//! item under a *tag* that no other add ever uses; a removal names the tags that its client saw.
//! That makes the cart an observed-remove set (Shapiro, Preguiça, Baquero, Zawirski: "A
//! comprehensive study of Convergent and Commutative Replicated Data Types", 2011, section
//! 3.3.5): an add that a removal did not see survives it, and what it did see never comes back.
//!
//! The merge is the union of the items without the union of the removed tags. Tombstones add
//! nothing to either.

mod checks;
mod format;
mod merge;

use format::Cart;
use stator_guest::{Divergence, Failure, Merge, Resolution};

/// The largest schema number that this module reads: the format of the README. A client that
/// gives none (0) means the same format.
pub const SCHEMA_MAX: u32 = 1;

/// The module.
pub struct CartMerge;

impl Merge for CartMerge {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut merged = Cart::default();
        for (sibling, version) in divergence.live() {
            if version.schema > SCHEMA_MAX {
                let message = format!("schema {}: up to {SCHEMA_MAX} is known", version.schema);
                return Err(Failure::unknown_schema(sibling, message));
            }
            let json = version.value.as_deref().unwrap_or_default();
            let cart = Cart::parse(json).map_err(|why| Failure::malformed(sibling, why))?;
            merged.absorb(cart);
        }
        if divergence.live().next().is_none() {
            return Ok(Resolution::delete());
        }
        merged.settle();
        Ok(Resolution::value(merged.to_json()))
    }
}

stator_guest::export!(CartMerge, sampler, invariant);
