//! What must be in the carts at the end, from the log of operations alone.
//!
//! - An **add is lost** if it was acknowledged, no removal that had seen it was acknowledged (or
//!   may have been applied), and it is missing.
//! - An **item is resurrected** if one acknowledged removal saw all of its adds (those included
//!   that may have been applied) and it is there.
//!
//! A write with an unknown outcome thus proves nothing: what it added may be there or not, and
//! what it removed too. A cart is judged by what every node says of it: missing at one node is
//! missing, there at one node is there.

use std::collections::{BTreeMap, BTreeSet};

use super::cart::Cart;
use super::oplog::{Operation, Outcome, Put, Record};

/// The carts at the end: for each key, what each node answered.
pub type Finals = BTreeMap<String, Vec<Cart>>;

/// What went wrong, empty if nothing did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged adds that are missing, as (cart, tag).
    pub lost_adds: BTreeSet<(String, String)>,
    /// Removed items that are there, as (cart, article).
    pub resurrected: BTreeSet<(String, String)>,
}

/// What the log knows of one cart.
#[derive(Debug, Default)]
struct History<'a> {
    /// The adds that were or may have been applied: the tags of each article.
    adds: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// The tags whose add was acknowledged.
    acked: BTreeSet<&'a str>,
    /// The tags that a removal saw which was or may have been applied.
    maybe_removed: BTreeSet<&'a str>,
    /// The acknowledged removals: the article and the tags that were seen of it.
    removals: Vec<(&'a str, &'a BTreeSet<String>)>,
}

impl<'a> History<'a> {
    fn take(&mut self, put: &'a Put) {
        if put.outcome == Outcome::Refused {
            return;
        }
        for add in &put.added {
            self.adds.entry(&add.sku).or_default().insert(&add.tag);
            if put.outcome == Outcome::Acked {
                self.acked.insert(&add.tag);
            }
        }
        for removal in &put.removed {
            self.maybe_removed.extend(removal.tags.iter().map(String::as_str));
            if put.outcome == Outcome::Acked {
                self.removals.push((&removal.sku, &removal.tags));
            }
        }
    }

    fn judge(&self, key: &str, views: &[Cart], verdict: &mut Verdict) {
        for tag in self.acked.difference(&self.maybe_removed) {
            if !views.iter().all(|cart| cart.items.contains_key(*tag)) {
                verdict.lost_adds.insert((key.to_owned(), (*tag).to_owned()));
            }
        }
        for (sku, seen) in &self.removals {
            let adds = self.adds.get(sku);
            let saw_all = adds.is_none_or(|tags| tags.iter().all(|tag| seen.contains(*tag)));
            if saw_all && views.iter().any(|cart| cart.holds(sku)) {
                verdict.resurrected.insert((key.to_owned(), (*sku).to_owned()));
            }
        }
    }
}

/// Holds `finals` against `log`. A cart that `finals` lacks counts as empty.
pub fn judge(log: &[Record], finals: &Finals) -> Verdict {
    let mut histories: BTreeMap<&str, History> = BTreeMap::new();
    for record in log {
        if let Operation::Put(put) = &record.operation {
            histories.entry(&record.cart).or_default().take(put);
        }
    }
    let nothing = [Cart::default()];
    let mut verdict = Verdict::default();
    for (key, history) in histories {
        let views = finals.get(key).map_or(nothing.as_slice(), Vec::as_slice);
        history.judge(key, views, &mut verdict);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::oplog::{Added, Removed};

    fn put(added: &[(&str, &str)], removed: &[(&str, &[&str])], outcome: Outcome) -> Record {
        let added = added.iter().map(|(tag, sku)| Added { tag: (*tag).into(), sku: (*sku).into() });
        let removed = removed.iter().map(|(sku, tags)| Removed {
            sku: (*sku).into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        });
        let put = Put { added: added.collect(), removed: removed.collect(), outcome, error: None };
        Record {
            keyspace: "carts",
            cart: "c".into(),
            device: 0,
            node: 0,
            operation: Operation::Put(put),
        }
    }

    fn cart(items: &[(&str, &str)]) -> Cart {
        let mut cart = Cart::default();
        for (tag, sku) in items {
            cart.add(tag, sku, 1);
        }
        cart
    }

    fn verdict(log: &[Record], views: &[&[(&str, &str)]]) -> (usize, usize) {
        let views = views.iter().map(|items| cart(items)).collect();
        let verdict = judge(log, &Finals::from([("c".to_owned(), views)]));
        (verdict.lost_adds.len(), verdict.resurrected.len())
    }

    use Outcome::{Acked, Refused, Unknown};

    #[test]
    fn an_acknowledged_add_that_is_missing_is_lost() {
        let log = [put(&[("a1", "tea")], &[], Acked), put(&[("a2", "cup")], &[], Acked)];
        assert_eq!(verdict(&log, &[&[("a1", "tea"), ("a2", "cup")]]), (0, 0));
        assert_eq!(verdict(&log, &[&[("a1", "tea")]]), (1, 0));
        assert_eq!(judge(&log, &Finals::new()).lost_adds.len(), 2, "an absent cart");
    }

    #[test]
    fn missing_at_one_node_is_missing() {
        let log = [put(&[("a1", "tea")], &[], Acked)];
        assert_eq!(verdict(&log, &[&[("a1", "tea")], &[]]), (1, 0));
    }

    #[test]
    fn a_removed_item_that_is_there_is_resurrected() {
        let log = [put(&[("a1", "tea")], &[], Acked), put(&[], &[("tea", &["a1"])], Acked)];
        assert_eq!(verdict(&log, &[&[]]), (0, 0));
        assert_eq!(verdict(&log, &[&[], &[("a1", "tea")]]), (0, 1));
    }

    #[test]
    fn an_add_concurrent_with_the_removal_stays() {
        let log = [
            put(&[("a1", "tea")], &[], Acked),
            put(&[("b2", "tea")], &[], Acked),
            put(&[], &[("tea", &["a1"])], Acked),
        ];
        assert_eq!(verdict(&log, &[&[("b2", "tea")]]), (0, 0), "the add that was not seen");
        assert_eq!(verdict(&log, &[&[]]), (1, 0), "it must not go with the one that was");
    }

    #[test]
    fn what_an_unknown_write_added_may_be_there_or_not() {
        let log = [put(&[("a1", "tea")], &[], Unknown)];
        assert_eq!(verdict(&log, &[&[]]), (0, 0));
        assert_eq!(verdict(&log, &[&[("a1", "tea")]]), (0, 0));
    }

    #[test]
    fn what_an_unknown_write_removed_may_be_there_or_not() {
        let log = [put(&[("a1", "tea")], &[], Acked), put(&[], &[("tea", &["a1"])], Unknown)];
        assert_eq!(verdict(&log, &[&[]]), (0, 0));
        assert_eq!(verdict(&log, &[&[("a1", "tea")]]), (0, 0));
    }

    #[test]
    fn an_unknown_add_that_the_removal_had_not_seen_is_no_resurrection() {
        let log = [
            put(&[("a1", "tea")], &[], Acked),
            put(&[("b2", "tea")], &[], Unknown),
            put(&[], &[("tea", &["a1"])], Acked),
        ];
        assert_eq!(verdict(&log, &[&[("b2", "tea")]]), (0, 0));
    }

    #[test]
    fn a_refused_write_counts_for_nothing() {
        let log = [
            put(&[("a1", "tea")], &[], Acked),
            put(&[("a2", "cup")], &[("tea", &["a1"])], Refused),
        ];
        assert_eq!(verdict(&log, &[&[("a1", "tea")]]), (0, 0));
        assert_eq!(verdict(&log, &[&[]]), (1, 0));
    }
}
