//! The preference list of a partition: its owners, then everyone who can stand in for them.
//!
//! After the n owners come the fallbacks: the owners of the following partitions, each node
//! once, until every node of the ring is in the list. All nodes compute the same list from the
//! same ring. Different partitions have different fallbacks, so the load of a dead node spreads.

use super::Ring;
use crate::id::{NodeId, PartitionId};

/// How many partitions are looked at for fallbacks: requests make these lists.
const WALK_MAX: u32 = 64;

/// What a node is to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of the n owners.
    Primary,
    /// Stands in for an owner that is not reachable, and holds a hint for it.
    Fallback,
}

/// A place in a preference list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// The node.
    pub node: NodeId,
    /// What it is to the key.
    pub role: Role,
}

/// The ordered replicas of a key, on distinct nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferenceList {
    primaries: usize,
    nodes: Vec<NodeId>,
}

impl PreferenceList {
    /// The owners, in order.
    pub fn primaries(&self) -> &[NodeId] {
        &self.nodes[..self.primaries]
    }

    /// The nodes that stand in, in order.
    pub fn fallbacks(&self) -> &[NodeId] {
        &self.nodes[self.primaries..]
    }

    /// All places, in order.
    pub fn iter(&self) -> impl Iterator<Item = Replica> + '_ {
        self.nodes.iter().enumerate().map(|(place, &node)| Replica {
            node,
            role: if place < self.primaries { Role::Primary } else { Role::Fallback },
        })
    }

    /// Whether `node` is one of the owners.
    pub fn is_primary(&self, node: NodeId) -> bool {
        self.primaries().contains(&node)
    }
}

impl Ring {
    /// The preference list of `partition` for a keyspace of `n` replicas. There are fewer
    /// primaries than `n` where the ring has fewer owners per partition.
    pub fn preference_list(&self, partition: PartitionId, n: usize) -> PreferenceList {
        let mut nodes: Vec<NodeId> = self.owners(partition).take(n).collect();
        let primaries = nodes.len();
        let following = (0..self.partitions().min(WALK_MAX)).map(|step| {
            PartitionId(((u32::from(partition.0) + step) % self.partitions().max(1)) as u16)
        });
        for owner in following.flat_map(|p| self.owners(p)) {
            if nodes.len() == self.nodes.len() {
                break;
            }
            if !nodes.contains(&owner) {
                nodes.push(owner);
            }
        }
        // Of a large ring, or nodes that do not serve anything yet.
        let rest: Vec<NodeId> =
            self.nodes.iter().filter(|node| !nodes.contains(node)).copied().collect();
        nodes.extend(rest);
        PreferenceList { primaries, nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Seat, claim};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn seats(weights: &[u32], zones: usize) -> Vec<Seat> {
        let seat = |(i, &weight): (usize, &u32)| Seat {
            node: NodeId(i as u64 * 7919 + 1),
            region: String::new(),
            zone: format!("zone-{}", i % zones),
            weight,
        };
        weights.iter().enumerate().map(seat).collect()
    }

    proptest! {
        #[test]
        fn preference_lists_name_every_node_once(
            nodes in 1usize..12, zones in 1usize..4, n in 1usize..5, bits in 0u32..9,
        ) {
            let ring = claim(1, 1 << bits, 3, &seats(&vec![1; nodes], zones)).unwrap();
            prop_assert!(ring.is_sound());
            for partition in (0..ring.partitions()).map(|p| PartitionId(p as u16)) {
                let list = ring.preference_list(partition, n);
                prop_assert_eq!(list.primaries().len(), n.min(nodes).min(3));
                let mut all: Vec<NodeId> = list.iter().map(|replica| replica.node).collect();
                prop_assert_eq!(all.len(), ring.nodes().len());
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), ring.nodes().len());
            }
        }

        #[test]
        fn load_follows_weight(weights in prop::collection::vec(1u32..4, 4..10)) {
            let ring = claim(1, 1024, 3, &seats(&weights, 1)).unwrap();
            let mut owned: BTreeMap<NodeId, u64> = BTreeMap::new();
            for partition in 0..1024 {
                ring.owners(PartitionId(partition)).for_each(|node| *owned.entry(node).or_default() += 1);
            }
            let total: u32 = weights.iter().sum();
            for (seat, &weight) in seats(&weights, 1).iter().zip(&weights) {
                // A node cannot own a partition twice, which bounds the heaviest.
                let fair = (3.0 * 1024.0 * f64::from(weight) / f64::from(total)).min(1024.0);
                let found = owned[&seat.node] as f64;
                if 4 * weight <= total {
                    prop_assert!(found >= fair * 0.95 - 2.0, "{found} of {fair}");
                }
            }
        }

        #[test]
        fn owners_are_in_distinct_zones_where_there_are_enough(per_zone in 1usize..4) {
            let ring = claim(1, 256, 3, &seats(&vec![1; per_zone * 3], 3)).unwrap();
            for partition in 0..256 {
                let mut zones: Vec<u64> =
                    ring.owners(PartitionId(partition)).map(|node| (node.0 - 1) / 7919 % 3).collect();
                zones.sort();
                zones.dedup();
                prop_assert_eq!(zones.len(), 3);
            }
        }
    }

    #[test]
    fn equal_nodes_own_equal_shares_of_every_place() {
        for nodes in 3..17 {
            let ring = claim(1, 256, 3, &seats(&vec![1; nodes], 1)).unwrap();
            for place in 0..3 {
                let mut owned: BTreeMap<NodeId, usize> = BTreeMap::new();
                for partition in 0..256 {
                    let owner = ring.owners(PartitionId(partition)).nth(place).unwrap();
                    *owned.entry(owner).or_default() += 1;
                }
                let (least, most) = (owned.values().min().unwrap(), owned.values().max().unwrap());
                assert!(most - least <= 3, "{nodes} nodes, place {place}: {least} to {most}");
            }
        }
    }

    #[test]
    fn one_node_owns_everything() {
        let ring = claim(1, 8, 3, &seats(&[1], 1)).unwrap();
        let list = ring.preference_list(PartitionId(7), 3);
        assert_eq!(list.primaries(), &[NodeId(1)]);
        assert!(list.fallbacks().is_empty());
    }
}
