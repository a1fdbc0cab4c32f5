//! How the owners of a partition are spread: over regions, and in each over its zones.
//!
//! A region or a zone may be lost as a whole, so a list has as few owners of one as can be. Two rules say
//! that, for regions among all nodes and for zones among those of each region:
//! - *evenly*: of one group there are at most as many as the sizes of all groups demand ([`each_max`]);
//! - *widely*: of a group there is a second one only where every group has one.
//!
//! A list that is not full yet may break the second rule as long as its holes suffice to mend it, so that what is
//! there can stay whatever went. From any such list a full one can be reached.
//!
//! Regions come first: a list of two regions is even over these, though one of them has a single zone.
//! Labels order the choice, they never exclude: nodes without any are of one region and one zone.

use std::collections::BTreeMap;

use super::claim::Seat;

/// Where the nodes are. Nodes are their places among the seats.
#[derive(Debug)]
pub(super) struct Spread {
    region: Vec<usize>,
    zone: Vec<usize>,
    regions: Vec<Region>,
    /// How many of a list may be of one region.
    each_max: usize,
}

/// One region.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// Its zones, with their nodes.
    pub zones: Vec<Vec<usize>>,
    /// How many of a list may be of one of its zones.
    pub each_max: usize,
}

impl Region {
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        self.zones.iter().flatten().copied()
    }
}

/// How many of `wanted` may be of one group: as few as the sizes of the groups allow.
pub(super) fn each_max(wanted: usize, sizes: &[usize]) -> usize {
    let reaches = |max: usize| sizes.iter().map(|size| *size.min(&max)).sum::<usize>();
    (1..wanted).find(|&max| reaches(max) >= wanted).unwrap_or(wanted.max(1))
}

impl Spread {
    /// Where these are, in lists of so many.
    pub fn new(seats: &[&Seat], replicas: usize) -> Self {
        let mut named: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (node, seat) in seats.iter().enumerate() {
            let zones = named.entry(&seat.region).or_default();
            zones.entry(&seat.zone).or_default().push(node);
        }
        let (mut region, mut zone) = (vec![0; seats.len()], vec![0; seats.len()]);
        let sizes = |zones: &[Vec<usize>]| zones.iter().map(Vec::len).collect::<Vec<_>>();
        let zones = |zones: BTreeMap<&str, Vec<usize>>| zones.into_values().collect::<Vec<_>>();
        let mut regions: Vec<Region> =
            named.into_values().map(|z| Region { zones: zones(z), each_max: 0 }).collect();
        let all: Vec<usize> = regions.iter().map(|region| region.nodes().count()).collect();
        let most = each_max(replicas, &all);
        for (number, of) in regions.iter_mut().enumerate() {
            of.each_max = each_max(most, &sizes(&of.zones));
            for (place, nodes) in of.zones.iter().enumerate() {
                for &node in nodes {
                    (region[node], zone[node]) = (number, place);
                }
            }
        }
        Spread { region, zone, regions, each_max: most }
    }

    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// How many of a list may be of one region.
    pub fn each_max(&self) -> usize {
        self.each_max
    }

    /// The same nodes in an order in which the first of them are spread too, for keyspaces that have
    /// fewer owners. The first one stays.
    pub fn in_turn(&self, mut list: Vec<usize>) -> Vec<usize> {
        let mut turns: Vec<usize> = Vec::new();
        while !list.is_empty() {
            let near = |node: &usize| {
                let near = turns.iter().filter(|turn| self.region[**turn] == self.region[*node]);
                let of_zone = near.clone().filter(|turn| self.zone[**turn] == self.zone[*node]);
                (near.count(), of_zone.count())
            };
            let next = (0..list.len()).min_by_key(|&place| near(&list[place])).unwrap_or(0);
            turns.push(list.remove(next));
        }
        turns
    }

    /// Whether `node` can join those of a list that has so many `holes` left then.
    pub fn admits(
        &self,
        others: impl Iterator<Item = usize> + Clone,
        node: usize,
        holes: usize,
    ) -> bool {
        let of_region = others.clone().filter(|&other| self.region[other] == self.region[node]);
        let of_zone = of_region.clone().filter(|&other| self.zone[other] == self.zone[node]);
        if of_region.count() >= self.each_max
            || of_zone.count() >= self.regions[self.region[node]].each_max
        {
            return false;
        }
        let list = || others.clone().chain([node]);
        let mut needed = lacking(list().map(|node| self.region[node]), self.regions.len());
        // Each region once: where its first one stands.
        for (place, first) in list().enumerate() {
            let region = self.region[first];
            if list().take(place).any(|before| self.region[before] == region) {
                continue;
            }
            let here = || list().filter(|&other| self.region[other] == region);
            let zones = self.regions[region].zones.len();
            let lacking = lacking(here().map(|node| self.zone[node]), zones);
            if here().count() + lacking > self.each_max {
                return false;
            }
            needed += lacking;
        }
        needed <= holes
    }
}

/// How many of `count` groups must be added, because one is there twice.
fn lacking(groups: impl Iterator<Item = usize> + Clone, count: usize) -> usize {
    let is_first = |(place, of): &(usize, usize)| !groups.clone().take(*place).any(|o| o == *of);
    let (distinct, all) = (groups.clone().enumerate().filter(is_first).count(), groups.count());
    if distinct == all { 0 } else { count - distinct }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    /// Nodes of these regions and zones.
    fn seats(places: &[(&str, &str)]) -> Vec<Seat> {
        let seat = |(id, (region, zone)): (usize, &(&str, &str))| Seat {
            node: NodeId(id as u64),
            region: (*region).to_owned(),
            zone: (*zone).to_owned(),
            weight: 1,
        };
        places.iter().enumerate().map(seat).collect()
    }

    #[test]
    fn a_list_is_even_over_regions_and_then_over_zones() {
        let places = [("eu", "a"), ("eu", "a"), ("eu", "b"), ("us", "a"), ("us", "a"), ("us", "b")];
        let seats = seats(&places);
        let spread = Spread::new(&seats.iter().collect::<Vec<_>>(), 5);
        assert_eq!(spread.each_max(), 3);
        let admits =
            |others: &[usize], node| spread.admits(others.iter().copied(), node, 4 - others.len());
        assert!(admits(&[0], 1), "there is room for the other zone, and region");
        assert!(!admits(&[0, 1, 3], 4), "both regions would lack a zone, with room for one");
        assert!(admits(&[0, 1, 3], 2));
        assert!(!admits(&[0, 1, 2, 3], 4), "us would have zone a twice, and not b");
        assert!(admits(&[0, 1, 2, 3], 5));
    }

    #[test]
    fn zones_of_one_name_in_two_regions_are_two() {
        let seats = seats(&[("eu", "a"), ("us", "a"), ("us", "b")]);
        let spread = Spread::new(&seats.iter().collect::<Vec<_>>(), 2);
        assert!(spread.admits([0].into_iter(), 1, 0));
        assert!(!spread.admits([1].into_iter(), 2, 0), "eu has none");
    }

    #[test]
    fn the_first_owners_are_spread_too() {
        let seats = seats(&[("eu", "a"), ("eu", "a"), ("eu", "b"), ("us", "a")]);
        let spread = Spread::new(&seats.iter().collect::<Vec<_>>(), 4);
        assert_eq!(spread.in_turn(vec![0, 1, 2, 3]), [0, 3, 2, 1]);
        assert_eq!(spread.in_turn(vec![0, 3, 2, 1]), [0, 3, 2, 1]);
    }

    #[test]
    fn one_group_takes_what_the_others_cannot() {
        assert_eq!(each_max(3, &[1, 1, 1]), 1);
        assert_eq!(each_max(3, &[5, 1]), 2);
        assert_eq!(each_max(3, &[5]), 3);
        assert_eq!(each_max(4, &[9, 9]), 2);
    }
}
