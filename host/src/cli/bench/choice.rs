//! Which key an operation is about.
//!
//! *Zipfian* is YCSB's scrambled one: ranks are drawn by the method of Gray et al. ("Quickly
//! generating billion-record synthetic databases", SIGMOD 1994) with theta = 0.99 from ten billion
//! items, as YCSB's `ScrambledZipfianGenerator` does, and spread over the keys by an FNV-1a hash, so
//! that the popular keys are not neighbours. That is flatter than a Zipf law over the keys
//! themselves: of 1,000 keys the most popular one gets about 3.8 percent, not 13. *Latest* draws a
//! rank over the number of keys that there were at the start and counts back from the newest.
//!
//! Left out: YCSB's hotspot, exponential and sequential choices; the law of *latest* is not extended
//! while keys are added.

use clap::ValueEnum;
use rand_chacha::rand_core::Rng;

const THETA: f64 = 0.99;
/// How many items YCSB's scrambled zipfian draws from, whatever the number of keys.
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
/// How many terms of a zeta are added up one by one; the rest is an integral.
const ZETA_TERMS: u64 = 10_000;

/// A law by which keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Distribution {
    /// All keys alike
    Uniform,
    /// A few keys often, most seldom: YCSB's scrambled zipfian, theta 0.99
    Zipfian,
    /// The newest keys most often
    Latest,
}

/// A law, ready to draw keys from.
#[derive(Debug)]
pub(super) enum Choice {
    Uniform,
    Scrambled(Zipfian),
    Latest(Zipfian),
}

impl Choice {
    /// The law for a population of `keys` at the start.
    pub(super) fn new(distribution: Distribution, keys: u64) -> Self {
        match distribution {
            Distribution::Uniform => Choice::Uniform,
            Distribution::Zipfian => Choice::Scrambled(Zipfian::new(SCRAMBLED_ITEMS)),
            Distribution::Latest => Choice::Latest(Zipfian::new(keys)),
        }
    }

    /// One of the `present` keys, by its number. Of none, key 0.
    pub(super) fn draw(&self, present: u64, random: &mut impl Rng) -> u64 {
        let last = present.saturating_sub(1);
        match self {
            Choice::Uniform => below(present.max(1), random),
            Choice::Scrambled(law) => fnv(law.rank(unit(random))) % present.max(1),
            Choice::Latest(law) => last - law.rank(unit(random)).min(last),
        }
    }
}

/// A Zipf law over ranks from 0.
#[derive(Debug)]
pub(super) struct Zipfian {
    items: u64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// A law over `items` ranks, at least two.
    pub(super) fn new(items: u64) -> Self {
        let items = items.max(2);
        let zeta_of_all = zeta(items);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / zeta_of_all);
        Zipfian { items, zeta: zeta_of_all, eta }
    }

    /// The rank at `unit`, from 0 up to but not including 1.
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let share = (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((self.items as f64 * share) as u64).min(self.items - 1)
    }
}

/// The sum of 1 / i^theta for i from 1 to `items`.
fn zeta(items: u64) -> f64 {
    let added = items.min(ZETA_TERMS);
    let sum: f64 = (1..=added).map(|i| (i as f64).powf(-THETA)).sum();
    // Each term beyond is close to the integral over the unit around it.
    let power = |i: u64| (i as f64 + 0.5).powf(1.0 - THETA);
    sum + (power(items) - power(added)) / (1.0 - THETA)
}

/// YCSB's hash of a number: FNV-1a over its eight bytes, the lowest first, without the sign.
fn fnv(number: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = number.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash.cast_signed().unsigned_abs()
}

/// A number from 0 up to but not including 1.
fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number below `bound`.
pub(super) fn below(bound: u64, random: &mut impl Rng) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    const DRAWS: u64 = 200_000;

    /// How often each of 1,000 keys is drawn.
    fn counts(choice: &Choice) -> Vec<u64> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = vec![0; 1_000];
        for _ in 0..DRAWS {
            counts[choice.draw(1_000, &mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn zeta_is_the_one_that_ycsb_has_written_down() {
        assert!((zeta(SCRAMBLED_ITEMS) - 26.469_028_201_783_02).abs() < 1e-4);
        let exact: f64 = (1..=1_000_000).map(|i| f64::from(i).powf(-THETA)).sum();
        assert!((zeta(1_000_000) - exact).abs() < 1e-6);
    }

    #[test]
    fn ranks_follow_the_law() {
        let law = Zipfian::new(1_000);
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = vec![0_u64; 1_000];
        for _ in 0..DRAWS {
            counts[law.rank(unit(&mut random)) as usize] += 1;
        }
        for rank in [0, 1] {
            let expected = DRAWS as f64 / ((rank + 1) as f64).powf(THETA) / zeta(1_000);
            let ratio = counts[rank] as f64 / expected;
            assert!((0.97..1.03).contains(&ratio), "rank {rank}: {ratio}");
        }
        // The method approximates all further ranks together.
        let head: u64 = counts[..100].iter().sum();
        let expected = zeta(100) / zeta(1_000);
        let ratio = head as f64 / DRAWS as f64 / expected;
        assert!((0.95..1.05).contains(&ratio), "the first hundred: {ratio}");
        assert_eq!(law.rank(0.999_999_999_999), 999);
    }

    #[test]
    fn the_scrambled_law_has_a_few_hot_keys_that_are_no_neighbours() {
        let counts = counts(&Choice::new(Distribution::Zipfian, 1_000));
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|key| std::cmp::Reverse(counts[*key]));
        let hottest = counts[order[0]] as f64 / DRAWS as f64;
        assert!((0.036..0.042).contains(&hottest), "{hottest}");
        assert!(order[0].abs_diff(order[1]) > 1);
        assert!(counts.iter().all(|count| *count > 0), "every key is drawn at times");
    }

    #[test]
    fn the_latest_law_prefers_the_newest() {
        let counts = counts(&Choice::new(Distribution::Latest, 1_000));
        assert!(counts[999] > counts[998] && counts[998] > counts[900]);
        assert!((0.12..0.14).contains(&(counts[999] as f64 / DRAWS as f64)));
    }

    #[test]
    fn the_uniform_law_prefers_none() {
        let counts = counts(&Choice::new(Distribution::Uniform, 1_000));
        assert!(counts.iter().all(|count| (120..300).contains(count)));
    }

    #[test]
    fn an_empty_population_is_no_trap() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for law in [Distribution::Uniform, Distribution::Zipfian, Distribution::Latest] {
            assert_eq!(Choice::new(law, 0).draw(0, &mut random), 0);
        }
    }
}
