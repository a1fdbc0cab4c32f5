//! What the checks of the merge laws need: samples, and what a merge must not lose.

use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::{Count, Counter, PnCounter};

impl Sample for PnCounter {
    /// Clients that have read the same counter, each counting under its own name.
    fn sample(random: &mut Random) -> Divergence {
        let mut base = Counter::default();
        let clients = 2 + random.below(2);
        (0..clients).for_each(|client| count(&mut base, client, random));
        let edits: Vec<_> = (0..clients)
            .map(|client| {
                let mut counter = base.clone();
                count(&mut counter, client, random);
                strict_json::text(&counter)
            })
            .collect();
        Divergence::of_edits(strict_json::text(&base), edits)
    }
}

/// Does what the head of this crate asks of a client.
fn count(counter: &mut Counter, client: u32, random: &mut Random) {
    for _ in 0..random.below(3) {
        let numbers = match random.chance(1, 3) {
            true => &mut counter.taken,
            false => &mut counter.added,
        };
        let known = numbers.entry(format!("client-{client}")).or_default();
        *known = Count(known.0 + 1 + u64::from(random.below(3)));
    }
}

impl Invariant for PnCounter {
    /// No step of any client is lost: of each the largest number is there.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let counters: Vec<Counter> =
            before.values().filter_map(|(_, json)| strict_json::parse(json).ok()).collect();
        let after: Counter = match after {
            Outcome::Value(json) => strict_json::parse(json)?,
            Outcome::Delete if counters.is_empty() => return Ok(()),
            _ => return Err("there is no counter any more".to_owned()),
        };
        for counter in &counters {
            for (had, has) in [(&counter.added, &after.added), (&counter.taken, &after.taken)] {
                for (client, count) in had {
                    let left = has.get(client).copied().unwrap_or_default();
                    if left < *count {
                        return Err(format!(
                            "{client} had counted {}, {} is left",
                            count.0, left.0
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
