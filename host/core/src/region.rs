//! Which members are near each other: those of one region, as they say themselves.
//!
//! Between regions a message takes tens of milliseconds, and is paid for. So gets ask near owners first
//! ([`crate::node`]'s `get`), hints are kept near their target ([`Regions::stand_in`]), and
//! partitions are compared across regions by few pairs (`node::exchange`'s schedule).
//!
//! Left out: distances between regions. A region is near itself and far from all others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::id::NodeId;

/// Where a node stands, as people read it: `eu/a`, or what of the two it has.
pub fn place(region: &str, zone: &str) -> String {
    let named = [region, zone].into_iter().filter(|label| !label.is_empty());
    named.collect::<Vec<_>>().join("/")
}

/// The region of each member, as a number.
#[derive(Debug, PartialEq, Eq)]
pub struct Regions(BTreeMap<NodeId, usize>);

impl Regions {
    /// Those of a cluster; `None` where there is but one, which is the usual case.
    pub fn of(catalogue: &Catalogue) -> Option<Arc<Self>> {
        let members = catalogue.members.iter();
        let named = members.map(|(node, member)| (*node, member.value.region.as_str()));
        Self::named(named.collect())
    }

    fn named(members: BTreeMap<NodeId, &str>) -> Option<Arc<Self>> {
        let mut names: Vec<&str> = members.values().copied().collect();
        names.sort_unstable();
        names.dedup();
        let number = |name: &str| names.partition_point(|other| *other < name);
        let all = members.iter().map(|(node, name)| (*node, number(name)));
        (names.len() > 1).then(|| Arc::new(Regions(all.collect())))
    }

    /// Whether both are in one region.
    pub fn are_near(&self, one: NodeId, other: NodeId) -> bool {
        self.0.get(&one) == self.0.get(&other)
    }

    /// Which of `spares` stands in for `owner`: one near it, else one near `me`, else the first.
    /// Puts and gets choose alike, so that a get finds what a put has left.
    pub fn stand_in(&self, (owner, me): (NodeId, NodeId), spares: &VecDeque<NodeId>) -> usize {
        let near = |to| spares.iter().position(|spare| self.are_near(*spare, to));
        near(owner).or_else(|| near(me)).unwrap_or(0)
    }

    /// `nodes` by their regions, in order within each.
    pub fn split(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<Vec<NodeId>> {
        let mut split: BTreeMap<Option<usize>, Vec<NodeId>> = BTreeMap::new();
        for node in nodes {
            split.entry(self.0.get(&node).copied()).or_default().push(node);
        }
        split.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_near_in_one_region_and_one_region_is_none() {
        let nodes = [1, 2, 3].map(NodeId);
        let named =
            |names: [&'static str; 3]| Regions::named(nodes.into_iter().zip(names).collect());
        assert_eq!(named(["eu", "eu", "eu"]), None);
        assert_eq!(named([""; 3]), None);
        let regions = named(["us", "eu", "us"]).expect("two regions");
        assert!(regions.are_near(nodes[0], nodes[2]) && !regions.are_near(nodes[0], nodes[1]));
        let spares = VecDeque::from(nodes);
        assert_eq!(regions.stand_in((nodes[1], nodes[0]), &spares), 1);
        assert_eq!(regions.stand_in((NodeId(9), nodes[1]), &spares), 1);
        assert_eq!(regions.stand_in((nodes[1], nodes[1]), &VecDeque::from([nodes[2]])), 0);
        assert_eq!(regions.split(nodes), [vec![nodes[1]], vec![nodes[0], nodes[2]]]);
    }
}
