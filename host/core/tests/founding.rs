//! Many `cluster init`s at once, in every order that chance makes: messages are late, lost or
//! twice, nodes stop and come back. The model around [`stator_core::founding`] does what a node
//! does; the rules that it checks are stated by the clusters alone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use stator_core::founding::{Fate, Founding, Promise, Settled};
use stator_core::id::{ClusterId, NodeId};

#[derive(Default)]
struct Waiting {
    is_up: bool,
    /// On disk.
    member: Option<ClusterId>,
    promise: Option<Promise>,
    /// In memory.
    founding: Option<(Founding, bool)>,
}

#[derive(Clone)]
enum Message {
    Promise(NodeId, NodeId, Promise),
    Promised(NodeId, NodeId, ClusterId),
    Refused(NodeId, ClusterId),
    Adopt(NodeId, Promise),
}

struct World {
    nodes: BTreeMap<NodeId, Waiting>,
    /// Who belongs to each cluster that was decided on.
    decided: BTreeMap<ClusterId, Promise>,
    messages: Vec<Message>,
    last_cluster: u128,
    rng: ChaCha8Rng,
}

impl World {
    fn new(count: u64, seed: u64) -> World {
        let node = |id| (NodeId(id), Waiting { is_up: true, ..Waiting::default() });
        World {
            nodes: (1..=count).map(node).collect(),
            decided: BTreeMap::new(),
            messages: Vec::new(),
            last_cluster: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        (self.rng.next_u64() % end as u64) as usize
    }

    fn init(&mut self, named: &BTreeSet<NodeId>) {
        let Some(founder) = named.first().copied() else { return };
        self.last_cluster += 1;
        let cluster = ClusterId(self.last_cluster);
        let nodes = named.iter().map(|node| (*node, format!("{node}:1"))).collect();
        self.settle(founder);
        let Some(node) = self.nodes.get_mut(&founder).filter(|node| node.is_up) else { return };
        if let Some(member) = node.member {
            // Told again: who has not heard of it hears it.
            let promise = self.decided.get(&member).cloned();
            self.tell(promise);
        } else if node.promise.is_none() && node.founding.is_none() {
            let founding = Founding::new(Promise { cluster, founder, nodes }).expect("the first");
            node.founding = Some((founding, false));
        }
    }

    fn tell(&mut self, promise: Option<Promise>) {
        if let Some(promise) = promise {
            let all: Vec<NodeId> = promise.nodes.keys().copied().collect();
            all.into_iter().for_each(|to| self.messages.push(Message::Adopt(to, promise.clone())));
        }
    }

    /// The founder's next step: it asks, or decides.
    fn found(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_up) else { return };
        let Some((founding, is_asking)) = &mut node.founding else { return };
        match founding.next() {
            Some((next, _)) if !*is_asking => {
                *is_asking = true;
                self.messages.push(Message::Promise(id, next, founding.promise().clone()));
            }
            // Nobody answers in time.
            Some(_) => node.founding = None,
            None => {
                let promise = founding.promise().clone();
                (node.member, node.founding) = (Some(promise.cluster), None);
                self.decided.insert(promise.cluster, promise.clone());
                self.tell(Some(promise));
            }
        }
    }

    /// Asks those who are up what became of a promise.
    fn settle(&mut self, id: NodeId) {
        let Some(promise) = self.nodes[&id].promise.clone() else { return };
        let mut answers = BTreeMap::new();
        for other in promise.nodes.keys().filter(|other| **other != id) {
            let other_node = &self.nodes[other];
            if other_node.is_up && !self.rng.next_u64().is_multiple_of(4) {
                let founding = other_node.founding.as_ref().map(|(f, _)| f.promise().cluster);
                answers.insert(*other, Fate::of(promise.cluster, other_node.member, founding));
            }
        }
        let node = self.nodes.get_mut(&id).expect("known");
        match promise.settle(&answers) {
            Settled::Joins => node.member = node.member.or(Some(promise.cluster)),
            Settled::Void => node.promise = None,
            Settled::Holds => {}
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Promise(founder, to, promise) => {
                if !self.nodes[&to].is_up {
                    return;
                }
                if self.nodes[&to].promise.as_ref().is_some_and(|p| p.cluster != promise.cluster) {
                    self.settle(to);
                }
                let node = self.nodes.get_mut(&to).expect("known");
                let is_bound =
                    node.promise.as_ref().is_some_and(|held| held.cluster != promise.cluster);
                let is_free = node.member.is_none() && node.founding.is_none() && !is_bound;
                let cluster = promise.cluster;
                self.messages.push(match is_free {
                    true => {
                        node.promise = Some(promise);
                        Message::Promised(founder, to, cluster)
                    }
                    false => Message::Refused(founder, cluster),
                });
            }
            Message::Promised(founder, by, cluster) => {
                let node = self.nodes.get_mut(&founder).expect("known");
                if let Some((founding, is_asking)) = &mut node.founding
                    && founding.promise().cluster == cluster
                    && founding.next().is_some_and(|(next, _)| next == by)
                {
                    founding.promised();
                    *is_asking = false;
                }
            }
            Message::Refused(founder, cluster) => {
                let node = self.nodes.get_mut(&founder).expect("known");
                node.founding.take_if(|(founding, _)| founding.promise().cluster == cluster);
            }
            Message::Adopt(to, promise) => {
                let node = self.nodes.get_mut(&to).expect("known");
                let is_bound =
                    node.promise.as_ref().is_some_and(|held| held.cluster != promise.cluster);
                if node.is_up && !is_bound && node.founding.is_none() {
                    node.member = node.member.or(Some(promise.cluster));
                }
            }
        }
    }

    fn step(&mut self) {
        let id = NodeId(1 + self.below(self.nodes.len()) as u64);
        match self.below(12) {
            0 => {
                let all: Vec<NodeId> = self.nodes.keys().copied().collect();
                let mask = self.rng.next_u64();
                let picked = all.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                let named = picked.map(|(_, node)| *node).collect();
                self.init(&named);
            }
            1 => {
                let node = self.nodes.get_mut(&id).expect("known");
                (node.is_up, node.founding) = (!node.is_up, None);
            }
            2..4 => self.settle(id),
            4..8 => self.found(id),
            _ if self.messages.is_empty() => {}
            choice => {
                let at = self.below(self.messages.len());
                let message = match choice {
                    8 => self.messages[at].clone(),
                    _ => self.messages.swap_remove(at),
                };
                self.deliver(message);
            }
        }
    }

    fn check(&self) {
        for (cluster, promise) in &self.decided {
            for (other, others) in self.decided.range(..cluster) {
                let shared = promise.nodes.keys().find(|node| others.nodes.contains_key(node));
                assert!(shared.is_none(), "{shared:?} is to be in {cluster:?} and {other:?}");
            }
            for node in promise.nodes.keys() {
                let member = self.nodes[node].member;
                assert!(member.is_none_or(|member| member == *cluster), "{node} is elsewhere");
            }
        }
        for (id, node) in &self.nodes {
            let decided = node.member.map(|cluster| &self.decided[&cluster]);
            assert!(decided.is_none_or(|promise| promise.nodes.contains_key(id)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn many_inits_at_once_make_clusters_that_share_no_node_and_a_retry_completes(
        count in 2_u64..5,
        seed in any::<u64>(),
        steps in 1_usize..400,
    ) {
        let mut world = World::new(count, seed);
        for _ in 0..steps {
            world.step();
            world.check();
        }
        // All come back, and all are told again: whoever was promised or decided something is in
        // one cluster then, and if nothing was decided all are in the same.
        for node in world.nodes.values_mut() {
            (node.is_up, node.founding) = (true, None);
        }
        world.messages.clear();
        for _ in 0..40 {
            let all: BTreeSet<NodeId> = world.nodes.keys().copied().collect();
            all.iter().for_each(|node| world.settle(*node));
            world.init(&all);
            for id in all {
                // Everyone answers in time now.
                for _ in 0..8 {
                    world.found(id);
                    while let Some(message) = world.messages.pop() {
                        world.deliver(message);
                    }
                }
            }
            world.check();
        }
        for promise in world.decided.values() {
            for node in promise.nodes.keys() {
                prop_assert_eq!(world.nodes[node].member, Some(promise.cluster));
            }
        }
        prop_assert!(!world.decided.is_empty(), "nobody is in the way of a retry");
    }
}
