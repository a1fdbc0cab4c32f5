//! The network between the machines: every message takes its own time, or gets lost, or comes
//! twice, or meets a cut.
//!
//! It is harsher than the real transport, which keeps the order of one connection.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::queue::Micros;

/// How the network treats a message where there is no cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The least time a message takes.
    pub delay_min_us: Micros,
    /// The most time a message takes, with exceptions.
    pub delay_max_us: Micros,
    /// How likely a message takes a hundred times as long.
    pub straggles: f64,
    /// How likely a message is lost.
    pub loses: f64,
    /// How likely it comes twice.
    pub repeats: f64,
}

impl Quality {
    /// A network that delivers everything once, soon.
    pub const GOOD: Quality = Quality {
        delay_min_us: 100,
        delay_max_us: 2_000,
        straggles: 0.0,
        loses: 0.0,
        repeats: 0.0,
    };
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, after each of these delays.
    Arrives(Vec<Micros>),
    /// It is lost, and nobody is told.
    Lost,
    /// The sender is told that it cannot be sent.
    Refused,
}

/// Links that carry nothing for now.
#[derive(Debug, Clone)]
struct Cut {
    links: BTreeSet<(usize, usize)>,
    is_known: bool,
}

/// All links between machines.
#[derive(Debug)]
pub struct Network {
    quality: Quality,
    cuts: BTreeMap<u64, Cut>,
    count: u64,
    /// Machines whose messages take long.
    slow: BTreeSet<usize>,
    /// How many messages are on their way over a link at most, and when each of them arrives.
    outbox_max: Option<usize>,
    outboxes: BTreeMap<(usize, usize), Vec<Micros>>,
    /// Over how many regions the machines are spread, one after the other.
    regions: usize,
}

/// How much longer they take.
const SLOW_FACTOR: Micros = 40;

/// How long the way to another region is, on top of what any way takes.
const FAR_US: Micros = 20_000;

/// The region in which a machine stands, of so many.
pub fn region_of(machine: usize, regions: usize) -> usize {
    machine % regions
}

impl Network {
    /// A network without cuts.
    pub fn new(quality: Quality, outbox_max: Option<usize>, regions: usize) -> Self {
        Network {
            quality,
            cuts: BTreeMap::new(),
            count: 0,
            slow: BTreeSet::new(),
            outbox_max,
            outboxes: BTreeMap::new(),
            regions,
        }
    }

    /// Cuts these links (from, to). Senders are told if the cut `is_known`. Gives its number.
    pub fn cut(&mut self, links: BTreeSet<(usize, usize)>, is_known: bool) -> u64 {
        self.count += 1;
        self.cuts.insert(self.count, Cut { links, is_known });
        self.count
    }

    /// Mends a cut.
    pub fn mend(&mut self, cut: u64) {
        self.cuts.remove(&cut);
    }

    /// Whether a link carries nothing.
    pub fn is_cut(&self, link: (usize, usize)) -> bool {
        self.cuts.values().any(|cut| cut.links.contains(&link))
    }

    /// Whether everything that a machine sends and gets takes long from now on.
    pub fn slow(&mut self, machine: usize, is_slow: bool) {
        match is_slow {
            true => self.slow.insert(machine),
            false => self.slow.remove(&machine),
        };
    }

    /// Mends all cuts and from now on delivers everything once.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
        self.outbox_max = None;
        self.quality = Quality::GOOD;
    }

    /// Decides about a message or a probe.
    pub fn fate(&self, rng: &mut ChaCha8Rng, link: (usize, usize)) -> Fate {
        if let Some(cut) = self.cuts.values().find(|cut| cut.links.contains(&link)) {
            return if cut.is_known { Fate::Refused } else { Fate::Lost };
        }
        if rng.random_bool(self.quality.loses) {
            return Fate::Lost;
        }
        let is_repeated = rng.random_bool(self.quality.repeats);
        let mut delays = vec![self.delay(rng, link)];
        if is_repeated {
            delays.push(self.delay(rng, link));
        }
        Fate::Arrives(delays)
    }

    /// Takes a message into its link's outbox, if there is room. What is lost takes none.
    pub fn enqueue(&mut self, now_us: Micros, link: (usize, usize), fate: Fate) -> Fate {
        let (Some(max), Fate::Arrives(delays)) = (self.outbox_max, &fate) else { return fate };
        let outbox = self.outboxes.entry(link).or_default();
        outbox.retain(|arrives_us| *arrives_us > now_us);
        if outbox.len() >= max {
            return Fate::Refused;
        }
        outbox.extend(delays.iter().take(1).map(|delay_us| now_us + delay_us));
        fate
    }

    fn delay(&self, rng: &mut ChaCha8Rng, (from, to): (usize, usize)) -> Micros {
        let Quality { delay_min_us, delay_max_us, straggles, .. } = self.quality;
        let is_slow = self.slow.contains(&from) || self.slow.contains(&to);
        let factor = if is_slow { SLOW_FACTOR } else { 1 };
        let delay_us = rng.random_range(delay_min_us..=delay_max_us) * factor;
        let delay_us = if rng.random_bool(straggles) { delay_us * 100 } else { delay_us };
        let is_far = region_of(from, self.regions) != region_of(to, self.regions);
        if is_far { delay_us + FAR_US } else { delay_us }
    }
}
