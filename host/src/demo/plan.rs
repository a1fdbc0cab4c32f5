//! What the devices will do, made of retail lines before anything runs.
//!
//! The same lines and seed give the same plan. Only *which* items a removal finds depends on the
//! run, because a device can take out only what it sees.

use super::data::Line;

/// Of 100 rounds, so many let both devices read before either writes.
const RACES_PERCENT: u64 = 20;
/// Of 100 items that a device sees, it takes out so many.
const REMOVED_PERCENT: u64 = 10;
/// The nodes of the demo.
const NODES: u64 = 3;

/// A change that a device makes to what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts an article in.
    Add {
        /// Names this add; no other has it.
        tag: String,
        /// The article.
        sku: String,
        /// How many.
        quantity: u32,
    },
    /// Takes an article out, as far as it is seen.
    Remove {
        /// The article.
        sku: String,
    },
}

/// One read, change and write by one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which of the cart's two devices.
    pub device: usize,
    /// What it changes.
    pub change: Change,
}

/// What happens between two quiet moments of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Round {
    /// One device acts.
    Alone(Step),
    /// Both devices read, then both write.
    Race([Step; 2]),
}

/// All that happens to one cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartPlan {
    /// The key of the cart.
    pub key: String,
    /// Which node each device uses: two different ones.
    pub nodes: [usize; 2],
    /// The rounds in order.
    pub rounds: Vec<Round>,
}

impl Round {
    /// How many steps the round has.
    pub fn steps(&self) -> usize {
        match self {
            Round::Alone(_) => 1,
            Round::Race(steps) => steps.len(),
        }
    }
}

impl CartPlan {
    /// How many steps the plan has.
    pub fn steps(&self) -> usize {
        self.rounds.iter().map(Round::steps).sum()
    }
}

/// The plans of all carts in `lines`, in the order of their first line. A line with quantity 0
/// changes nothing and is left out.
pub fn plan(lines: &[Line], seed: u64) -> Vec<CartPlan> {
    let mut order: Vec<String> = Vec::new();
    let mut by_cart: std::collections::BTreeMap<String, Vec<&Line>> = Default::default();
    for line in lines.iter().filter(|line| line.quantity != 0) {
        let cart = line.cart();
        if !by_cart.contains_key(&cart) {
            order.push(cart.clone());
        }
        by_cart.entry(cart).or_default().push(line);
    }
    let plans = order.into_iter().filter_map(|key| {
        let lines = by_cart.remove(&key)?;
        Some(plan_cart(key, &lines, seed))
    });
    plans.collect()
}

fn plan_cart(key: String, lines: &[&Line], seed: u64) -> CartPlan {
    let first = roll(seed, &["node", &key]) % NODES;
    let second = (first + 1 + roll(seed, &["other node", &key]) % (NODES - 1)) % NODES;
    let mut rounds = Vec::new();
    let mut rest = lines.iter().enumerate().peekable();
    while let Some((index, line)) = rest.next() {
        let step = step(index, line);
        let races = roll(seed, &["race", &key, &index.to_string()]) % 100 < RACES_PERCENT;
        match rest.next_if(|_| races) {
            Some((next, line)) => rounds.push(Round::Race([step, self::step(next, line)])),
            None => rounds.push(Round::Alone(step)),
        }
    }
    CartPlan { key, nodes: [first as usize, second as usize], rounds }
}

/// The devices take turns, line by line.
fn step(index: usize, line: &Line) -> Step {
    let device = index % 2;
    let change = if line.is_removal() {
        Change::Remove { sku: line.sku.clone() }
    } else {
        Change::Add {
            tag: format!("{}{}", ["a", "b"][device], line.number),
            sku: line.sku.clone(),
            quantity: line.quantity.unsigned_abs(),
        }
    };
    Step { device, change }
}

/// Whether a device that sees the add `tag` for the first time takes it out.
pub fn takes_out(seed: u64, key: &str, device: usize, tag: &str) -> bool {
    roll(seed, &["take out", key, &device.to_string(), tag]) % 100 < REMOVED_PERCENT
}

/// A number that depends on nothing but the arguments.
fn roll(seed: u64, what: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("stator demo plan v1");
    hasher.update(&seed.to_be_bytes());
    for part in what {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::demo::data;

    fn embedded() -> Vec<Line> {
        data::read(crate::demo::EMBEDDED_LINES.as_bytes()).expect("valid")
    }

    fn steps(plan: &CartPlan) -> impl Iterator<Item = &Step> {
        plan.rounds.iter().flat_map(|round| match round {
            Round::Alone(step) => std::slice::from_ref(step),
            Round::Race(steps) => steps.as_slice(),
        })
    }

    #[test]
    fn the_seed_decides_everything() {
        let lines = embedded();
        assert_eq!(plan(&lines, 1), plan(&lines, 1));
        assert_ne!(plan(&lines, 1), plan(&lines, 2));
    }

    #[test]
    fn every_line_is_one_step_and_tags_are_unique() {
        let lines = embedded();
        let plans = plan(&lines, 7);
        assert_eq!(plans.iter().map(CartPlan::steps).sum::<usize>(), lines.len());
        let mut tags = HashSet::new();
        for step in plans.iter().flat_map(steps) {
            if let Change::Add { tag, .. } = &step.change {
                assert!(tags.insert(tag.clone()), "{tag} twice");
            }
        }
    }

    #[test]
    fn devices_use_different_nodes_and_every_node_is_used() {
        let plans = plan(&embedded(), 7);
        let pairs: HashSet<_> = plans.iter().map(|plan| plan.nodes).collect();
        assert!(pairs.iter().all(|[a, b]| a != b && *a < 3 && *b < 3));
        assert_eq!(pairs.len(), 6, "both orders of all pairs");
    }

    #[test]
    fn some_rounds_race_with_one_step_of_each_device() {
        let plans = plan(&embedded(), 7);
        let mut races = 0;
        for round in plans.iter().flat_map(|plan| &plan.rounds) {
            if let Round::Race([a, b]) = round {
                assert_ne!(a.device, b.device);
                races += 1;
            }
        }
        assert!(races > 100, "{races}");
    }

    #[test]
    fn about_a_tenth_is_taken_out() {
        let taken = (0..10_000).filter(|tag| takes_out(3, "k", 0, &tag.to_string())).count();
        assert!((800..1_200).contains(&taken), "{taken}");
    }
}
