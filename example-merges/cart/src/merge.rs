//! The algebra: carts under union of items and of removed tags.
//!
//! Both unions are commutative, associative and idempotent, and so is "the larger item of a tag",
//! the rule for the tag that two clients used for different things. Dropping the removed tags
//! once more at the end changes nothing, so neither does merging in between.

use crate::format::Cart;

impl<'a> Cart<'a> {
    /// Takes in another cart. [`settle`](Self::settle) afterwards, once.
    pub(crate) fn absorb(&mut self, other: Cart<'a>) {
        self.items.extend(other.items);
        self.removed.extend(other.removed);
    }

    /// Makes the cart canonical: tags sorted, each once and with its larger item, without those
    /// that are removed.
    pub(crate) fn settle(&mut self) {
        self.removed.sort_unstable();
        self.removed.dedup();
        // The largest of a tag first: it is the one that `dedup` keeps.
        self.items.sort_unstable_by(|(tag, item), (other_tag, other)| {
            tag.cmp(other_tag).then_with(|| other.cmp(item))
        });
        self.items.dedup_by(|(tag, _), (kept, _)| tag == kept);
        let mut removed = self.removed.iter().peekable();
        self.items.retain(|(tag, _)| {
            while removed.next_if(|gone| *gone < tag).is_some() {}
            removed.peek() != Some(&tag)
        });
    }
}
