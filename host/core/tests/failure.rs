//! Detectors on a network of virtual time: who is found dead, who comes back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use stator_core::failure::{Detector, DetectorTimer, PROBE_BYTES_MAX, ROSTER_PERIOD_MS, Wishes};
use stator_core::id::NodeId;

enum Due {
    Probe(NodeId, Bytes),
    /// Of the life of the node that set it: a node that starts anew has no old timers.
    Timer(NodeId, u64, DetectorTimer),
    Roster(NodeId, u64),
}

struct Network {
    now_ms: u64,
    /// By time, then in order of their making.
    due: BTreeMap<(u64, u64), Due>,
    made: u64,
    detectors: BTreeMap<NodeId, (u64, Detector)>,
    dead: BTreeSet<NodeId>,
    lost_percent: u64,
    rng: ChaCha8Rng,
}

impl Network {
    fn new(nodes: u64, lost_percent: u64) -> Self {
        let mut network = Network {
            now_ms: 1_000_000,
            due: BTreeMap::new(),
            made: 0,
            detectors: BTreeMap::new(),
            dead: BTreeSet::new(),
            lost_percent,
            rng: ChaCha8Rng::seed_from_u64(lost_percent),
        };
        (1..=nodes).for_each(|node| network.start(NodeId(node)));
        network
    }

    fn start(&mut self, node: NodeId) {
        self.dead.remove(&node);
        let rng = ChaCha8Rng::seed_from_u64(node.0 + self.now_ms);
        self.detectors.insert(node, (self.now_ms, Detector::new(node, self.now_ms, rng)));
        self.plan(0, Due::Roster(node, self.now_ms));
    }

    fn plan(&mut self, delay_ms: u64, due: Due) {
        self.made += 1;
        self.due.insert((self.now_ms + delay_ms, self.made), due);
    }

    fn pass_ms(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > until_ms {
                break;
            }
            let ((at_ms, _), due) = entry.remove_entry();
            self.now_ms = at_ms;
            self.happen(due);
        }
        self.now_ms = until_ms;
    }

    fn happen(&mut self, due: Due) {
        let (node, life) = match &due {
            Due::Probe(node, _) => (*node, None),
            Due::Timer(node, life, _) | Due::Roster(node, life) => (*node, Some(*life)),
        };
        let roster: Vec<NodeId> = self.detectors.keys().copied().filter(|n| *n != node).collect();
        let (started_ms, detector) = self.detectors.get_mut(&node).unwrap();
        let started_ms = *started_ms;
        if self.dead.contains(&node) || life.is_some_and(|life| life != started_ms) {
            return;
        }
        let wishes = match due {
            Due::Probe(_, bytes) => detector.probed(&bytes),
            Due::Timer(_, _, timer) => detector.fired(timer),
            Due::Roster(..) => {
                let wishes = detector.announce(roster.into_iter());
                self.plan(ROSTER_PERIOD_MS, Due::Roster(node, started_ms));
                wishes
            }
        };
        self.grant(node, started_ms, wishes);
    }

    fn grant(&mut self, node: NodeId, started_ms: u64, wishes: Wishes) {
        for (to, bytes) in wishes.probes {
            assert!(bytes.len() <= PROBE_BYTES_MAX);
            if self.rng.next_u64() % 100 >= self.lost_percent {
                self.plan(1, Due::Probe(to, bytes));
            }
        }
        for (delay_ms, timer) in wishes.timers {
            self.plan(delay_ms, Due::Timer(node, started_ms, timer));
        }
    }

    fn kill(&mut self, node: NodeId) {
        self.dead.insert(node);
    }

    /// The living nodes that take `node` as reachable.
    fn believers(&self, node: NodeId) -> usize {
        let living =
            self.detectors.iter().filter(|(id, _)| !self.dead.contains(id) && **id != node);
        living.filter(|(_, (_, detector))| detector.is_reachable(node)).count()
    }

    fn all_reach_all(&self) -> bool {
        let living = self.detectors.len() - self.dead.len();
        let mut nodes = self.detectors.keys().filter(|node| !self.dead.contains(node));
        nodes.all(|node| self.believers(*node) == living - 1)
    }
}

#[test]
fn a_dead_node_is_found_by_all_and_welcomed_back() {
    for nodes in [2, 3, 5, 9] {
        let mut network = Network::new(nodes, 0);
        network.pass_ms(5_000);
        assert!(network.all_reach_all());
        network.kill(NodeId(1));
        assert_eq!(network.believers(NodeId(1)), nodes as usize - 1, "not known yet");
        network.pass_ms(10_000);
        assert_eq!(network.believers(NodeId(1)), 0, "{nodes} nodes");
        network.start(NodeId(1));
        network.pass_ms(10_000);
        assert!(network.all_reach_all(), "{nodes} nodes");
    }
}

/// A node that hung, or was cut off, comes back in the life in which it was declared down.
#[test]
fn a_node_that_was_cut_off_comes_back_without_a_restart() {
    let mut network = Network::new(5, 0);
    network.pass_ms(5_000);
    network.kill(NodeId(3));
    network.pass_ms(10_000);
    assert_eq!(network.believers(NodeId(3)), 0);
    network.dead.clear();
    let life = network.detectors[&NodeId(3)].0;
    network.plan(0, Due::Roster(NodeId(3), life));
    network.pass_ms(20_000);
    assert!(network.all_reach_all());
}

/// Joining takes one packet each way. Where those are lost, the roster is announced to again,
/// until a death is noticed by everyone: SWIM tells only those who have joined.
#[test]
fn lost_announcements_heal() {
    let mut network = Network::new(5, 100);
    network.pass_ms(10_000);
    network.lost_percent = 0;
    network.pass_ms(10_000);
    network.kill(NodeId(5));
    network.pass_ms(10_000);
    assert_eq!(network.believers(NodeId(5)), 0);
    network.start(NodeId(5));
    network.pass_ms(10_000);
    assert!(network.all_reach_all());
}

#[test]
fn a_lossy_network_still_finds_the_dead() {
    let mut network = Network::new(5, 20);
    network.pass_ms(30_000);
    network.kill(NodeId(2));
    network.pass_ms(30_000);
    assert_eq!(network.believers(NodeId(2)), 0);
    network.start(NodeId(2));
    network.lost_percent = 0;
    network.pass_ms(30_000);
    assert!(network.all_reach_all(), "who was wrongly suspected is back too");
}

#[test]
fn noise_is_ignored() {
    let mut detector = Detector::new(NodeId(1), 1, ChaCha8Rng::seed_from_u64(1));
    let wishes = detector.probed(b"not a probe");
    assert!(wishes.probes.is_empty() && wishes.up.is_empty() && wishes.down.is_empty());
    assert!(detector.is_reachable(NodeId(2)), "nothing is known against it");
}
