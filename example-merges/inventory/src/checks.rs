//! What the checks of the merge laws need: samples, and what a merge must not lose.

use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::{Inventory, InventoryMerge, Reservation};

impl Sample for InventoryMerge {
    /// Shops that have read the same inventory, each with a few orders and deliveries.
    fn sample(random: &mut Random) -> Divergence {
        let mut base = Inventory::default();
        base.deliveries.insert("first".to_owned(), 1 + random.below(5));
        trade(&mut base, "base", random);
        let edits: Vec<_> = (0..2 + random.below(2))
            .map(|shop| {
                let mut inventory = base.clone();
                trade(&mut inventory, &format!("shop-{shop}"), random);
                strict_json::text(&inventory)
            })
            .collect();
        Divergence::of_edits(strict_json::text(&base), edits)
    }
}

/// Does what the head of this crate asks of a client.
fn trade(inventory: &mut Inventory, shop: &str, random: &mut Random) {
    for n in 0..random.below(4) {
        let id = format!("{shop}-{n}");
        let free = inventory.delivered() - inventory.reserved();
        match random.below(6) {
            0 => {
                inventory.deliveries.insert(id, 1 + random.below(2));
            }
            1 => {
                if let Some((order, _)) = inventory.reservations.pop_first() {
                    inventory.released.insert(order);
                }
            }
            _ if free == 0 => {}
            _ => {
                let quantity = 1 + random.below(free.try_into().unwrap_or(u32::MAX));
                let promise = Reservation { at_ms: u64::from(random.below(9)), quantity };
                inventory.reservations.insert(id, promise);
            }
        }
    }
}

impl Invariant for InventoryMerge {
    /// Never below zero; no delivery is lost; each order is either kept or released.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let inventories: Vec<Inventory> =
            before.values().filter_map(|(_, json)| strict_json::parse(json).ok()).collect();
        let after: Inventory = match after {
            Outcome::Value(json) => strict_json::parse(json)?,
            Outcome::Delete if inventories.is_empty() => return Ok(()),
            _ => return Err("there is no inventory any more".to_owned()),
        };
        let (has, promised) = (after.delivered(), after.reserved());
        if promised > has {
            return Err(format!("{promised} pieces are promised, there are {has}"));
        }
        for inventory in &inventories {
            let lost = |(id, pieces): &(&String, &u32)| after.deliveries.get(*id) < Some(*pieces);
            if let Some((id, _)) = inventory.deliveries.iter().find(lost) {
                return Err(format!("the delivery {id} is lost"));
            }
            for order in inventory.reservations.keys().chain(&inventory.released) {
                if after.reservations.contains_key(order) == after.released.contains(order) {
                    return Err(format!("the order {order} is neither kept nor released, or both"));
                }
            }
            if let Some(order) = inventory.released.difference(&after.released).next() {
                return Err(format!("the released order {order} is back"));
            }
        }
        Ok(())
    }
}
