//! Partitions on their way from one owner to another: how a ring turns into the next one.
//!
//! A move replaces one owner of one partition. Moves of a partition are made one at a time, so
//! that any two owner lists that nodes hold at the same moment differ in as little as one owner.
//! A partition gets a further owner while the cluster has fewer nodes than the ring wants
//! replicas, and loses one when it comes to that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Ring;
use crate::catalogue::digest_of;
use crate::id::{NodeId, PartitionId};

/// An ownership that is to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Move {
    /// The partition.
    pub partition: PartitionId,
    /// Who serves now; none if the partition gets a further owner.
    pub from: Option<NodeId>,
    /// Who is to serve; none if the partition is to have an owner less.
    pub to: Option<NodeId>,
}

impl Ring {
    /// The ring after this one: planned as `planned`, with its version, and with the moves that
    /// lead there from the owners that serve now.
    pub fn towards(&self, planned: &Ring) -> Ring {
        let mut moves = Vec::new();
        for partition in planned.partition_ids() {
            let now: Vec<NodeId> = self.owners(partition).collect();
            let then: Vec<NodeId> = planned.planned_owners(partition).collect();
            let is_pair =
                |(from, to): &(&NodeId, &NodeId)| !then.contains(from) && !now.contains(to);
            // At the same place first, so that owners keep theirs: keyspaces may use fewer.
            let placed: Vec<_> = now.iter().zip(&then).filter(is_pair).collect();
            let mut going = now
                .iter()
                .filter(|n| !then.contains(n) && placed.iter().all(|(from, _)| from != n));
            let mut coming =
                then.iter().filter(|n| !now.contains(n) && placed.iter().all(|(_, to)| to != n));
            let pair = |from: Option<&NodeId>, to: Option<&NodeId>| Move {
                partition,
                from: from.copied(),
                to: to.copied(),
            };
            moves.extend(placed.iter().map(|(from, to)| pair(Some(from), Some(to))));
            loop {
                match (going.next(), coming.next()) {
                    (None, None) => break,
                    (from, to) => moves.push(pair(from, to)),
                }
            }
        }
        moves.sort_unstable();
        Ring::new(planned.version, planned.replicas_max, &planned.planned(), moves)
            .with_seats(planned.seats().to_vec())
    }

    /// This ring with every list in the order of what serves now: who stays keeps its place, who
    /// comes takes the place of one that goes, and further owners are the last. So a keyspace
    /// with fewer owners than the ring has changes them by moves only.
    pub fn in_order_of(&self, now: &Ring) -> Ring {
        let lists: Vec<Vec<NodeId>> = self
            .partition_ids()
            .map(|partition| in_place(now.owners(partition), self.planned_owners(partition)))
            .collect();
        Ring::new(self.version, self.replicas_max, &lists, self.moves.clone())
            .with_seats(self.seats().to_vec())
    }

    /// What is still to be handed over, in order of partition.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// What is still to be handed over of `partition`.
    pub fn moves_of(&self, partition: PartitionId) -> &[Move] {
        let from = self.moves.partition_point(|known| known.partition < partition);
        let to = self.moves.partition_point(|known| known.partition <= partition);
        &self.moves[from..to]
    }

    /// Whether `node` serves `partition`.
    pub fn is_owner(&self, partition: PartitionId, node: NodeId) -> bool {
        self.owners(partition).any(|owner| owner == node)
    }

    /// Whether `node` will own `partition` once all moves are made, and does not serve it yet.
    pub fn is_next_owner(&self, partition: PartitionId, node: NodeId) -> bool {
        self.moves_of(partition).iter().any(|pending| pending.to == Some(node))
    }

    /// Makes a move: its new owner serves from now on, its old one does not. Whether it was still
    /// to be made.
    pub fn hand_over(&mut self, made: &Move) -> bool {
        !self.hand_over_all(std::slice::from_ref(made)).is_empty()
    }

    /// Makes those of these moves that are still to be made, and tells which.
    pub fn hand_over_all(&mut self, made: &[Move]) -> Vec<Move> {
        let is_pending = |made: &&Move| self.moves.binary_search(made).is_ok();
        let mut made: Vec<Move> = made.iter().filter(is_pending).copied().collect();
        if made.is_empty() {
            return made;
        }
        made.sort_unstable();
        made.dedup();
        self.moves.retain(|pending| made.binary_search(pending).is_err());
        let left: BTreeSet<NodeId> = made.iter().filter_map(|made| made.from).collect();
        let is_used = |node: &NodeId| {
            let place = self.nodes.binary_search(node).unwrap_or(usize::MAX);
            self.moves.iter().any(|pending| pending.from == Some(*node))
                || self.owners.iter().flatten().any(|owner| usize::from(*owner) == place)
        };
        if !left.iter().all(is_used) {
            let seats = std::mem::take(&mut self.seats);
            *self = Ring::new(self.version, self.replicas_max, &self.planned(), self.moves.clone())
                .with_seats(seats);
        }
        made
    }

    /// The moves that `other`, of the same version, knows to be made and this ring does not.
    pub fn made_beyond(&self, other: &Ring) -> Vec<Move> {
        let is_made = |known: &&Move| other.moves.binary_search(known).is_err();
        self.moves.iter().filter(is_made).copied().collect()
    }

    /// Takes in what another node knows of the ring. The later version stands; of one version,
    /// every move stands that either knows to be made.
    pub fn join(&mut self, other: &Ring) {
        if other.version != self.version {
            if other.version > self.version {
                self.clone_from(other);
            }
            return;
        }
        if !self.is_planned_like(other) {
            // Nothing makes two rings of one version. If it happened nevertheless, all nodes
            // take the same one.
            if digest_of(other) > digest_of(self) {
                self.clone_from(other);
            }
            return;
        }
        self.hand_over_all(&self.made_beyond(other));
    }

    fn is_planned_like(&self, other: &Ring) -> bool {
        let is_same = |p: PartitionId| self.planned_owners(p).eq(other.planned_owners(p));
        self.partitions() == other.partitions() && self.partition_ids().all(is_same)
    }

    /// The owners of every partition once all moves are made.
    pub fn planned(&self) -> Vec<Vec<NodeId>> {
        self.partition_ids().map(|partition| self.planned_owners(partition).collect()).collect()
    }

    /// Whether the moves fit the owners and one another, for a ring that came from outside.
    pub(super) fn has_sound_moves(&self) -> bool {
        let is_sound = |pending: &Move| {
            let owns = |node: NodeId| self.planned_owners(pending.partition).any(|n| n == node);
            pending.from != pending.to
                && pending.from.is_none_or(|from| self.nodes.binary_search(&from).is_ok())
                && pending.from.is_none_or(|from| !owns(from))
                && pending.to.is_none_or(owns)
        };
        let is_once = |partition: PartitionId| {
            let list: Vec<NodeId> = self.owners(partition).collect();
            (1..list.len()).all(|i| !list[..i].contains(&list[i]))
        };
        self.moves.windows(2).all(|pair| pair[0] < pair[1])
            && self.moves.iter().all(is_sound)
            && self.moves.iter().all(|pending| is_once(pending.partition))
    }
}

/// The nodes of `then` in the order of `now`.
fn in_place(now: impl Iterator<Item = NodeId>, then: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let (now, then): (Vec<NodeId>, Vec<NodeId>) = (now.collect(), then.collect());
    let mut coming = then.iter().filter(|node| !now.contains(node)).copied();
    let place = |node: &NodeId| if then.contains(node) { Some(*node) } else { coming.next() };
    let mut list: Vec<NodeId> = now.iter().filter_map(place).collect();
    list.extend(coming);
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RingDigest, Seat, claim};
    use super::*;

    fn ring(version: u64, nodes: impl Iterator<Item = u64>) -> Ring {
        let seat =
            |id| Seat { node: NodeId(id), region: String::new(), zone: String::new(), weight: 1 };
        claim(version, 16, 3, &nodes.map(seat).collect::<Vec<_>>()).unwrap()
    }

    fn made(ring: &Ring, chosen: &[bool]) -> Ring {
        let mut out = ring.clone();
        for (pending, _) in ring.moves().iter().zip(chosen).filter(|(_, is_made)| **is_made) {
            assert!(out.hand_over(pending));
            assert!(out.is_sound());
        }
        out
    }

    proptest! {
        #[test]
        fn moves_lead_from_what_serves_to_what_is_planned(before in 1u64..7, after in 1u64..7) {
            let (old, planned) = (ring(1, 0..before), ring(2, 1..after + 1));
            let mut next = old.towards(&planned);
            prop_assert!(next.is_sound());
            prop_assert_eq!(next.version(), 2);
            let set = |ring: &Ring, p| ring.owners(p).collect::<BTreeSet<_>>();
            for p in old.partition_ids() {
                prop_assert_eq!(set(&next, p), set(&old, p));
            }
            for pending in next.moves().to_vec() {
                let was_serving = pending.to.is_some_and(|to| next.is_owner(pending.partition, to));
                prop_assert!(!was_serving);
                prop_assert!(next.hand_over(&pending));
                prop_assert!(!next.hand_over(&pending));
                prop_assert!(next.is_sound());
                prop_assert!(pending.to.is_none_or(|to| next.is_owner(pending.partition, to)));
                prop_assert!(pending.from.is_none_or(|from| !next.is_owner(pending.partition, from)));
            }
            prop_assert_eq!(next, planned);
        }

        #[test]
        fn a_join_knows_every_move_that_either_knows(
            before in 1u64..6, after in 1u64..6,
            a in prop::collection::vec(any::<bool>(), 64), b in prop::collection::vec(any::<bool>(), 64),
        ) {
            let next = ring(1, 0..before).towards(&ring(2, 1..after + 1));
            let both: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a || *b).collect();
            let (one, other) = (made(&next, &a), made(&next, &b));
            let (mut left, mut right) = (one.clone(), other.clone());
            left.join(&other);
            right.join(&one);
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(left, made(&next, &both));
        }
    }

    #[test]
    fn an_order_is_kept() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        for (now, then, list) in [
            (&[1, 2, 3][..], &[3, 1, 2][..], &[1, 2, 3][..]),
            (&[1, 2, 3], &[4, 3, 1], &[1, 4, 3]),
            (&[1, 2], &[3, 2, 1], &[1, 2, 3]),
            (&[1, 2, 3], &[3, 4], &[4, 3]),
            (&[1, 2, 3], &[3], &[3]),
        ] {
            let found = in_place(nodes(now).into_iter(), nodes(then).into_iter());
            assert_eq!(found, nodes(list), "{now:?} -> {then:?}");
        }
    }

    #[test]
    fn a_digest_follows_the_moves() {
        let mut next = ring(1, 0..3).towards(&ring(2, 1..5));
        let mut digest = RingDigest::of(&next);
        for made in next.moves().to_vec() {
            next.hand_over(&made);
            digest.made(&[made]);
            assert_eq!(digest, RingDigest::of(&next), "{made:?}");
        }
        assert_ne!(digest, RingDigest::of(&ring(1, 0..3)));
    }

    #[test]
    fn a_later_version_stands() {
        let (old, new) = (ring(1, 0..3), ring(2, 0..4));
        let mut joined = old.clone();
        joined.join(&new);
        assert_eq!(joined, new);
        joined.join(&old);
        assert_eq!(joined, new);
    }
}
