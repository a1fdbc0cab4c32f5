//! The ring as a client knows it: which nodes own a key.
//!
//! What `Routing.GetRing` answers is kept as it came, packed: 65,536 partitions of three owners take
//! 448 KiB, and an index of 256 KiB to find a partition in them. Where a key lies is computed by the
//! very function that the nodes use ([`stator_core::position`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use stator_core::id::KeyspaceId;
use stator_core::position::{self, partition_of, position};
use stator_core::ring::PARTITIONS_MAX;
use stator_proto::v1;

/// What routing a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Counts the rings of the cluster.
    pub version: u64,
    /// Names all of it.
    pub etag: String,
    /// Of which cluster it is.
    pub cluster: String,
    /// Where the members take requests, as HOST:PORT; owners are places in it.
    pub addresses: Vec<String>,
    /// Their ids, in the same order.
    pub nodes: Vec<String>,
    keyspaces: BTreeMap<String, Route>,
    packed: Bytes,
    /// Where in `packed` a partition stands.
    starts: Vec<u32>,
}

/// What routing takes to know of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub id: KeyspaceId,
    pub n: usize,
    pub r: usize,
}

impl Ring {
    /// The ring in an answer; `None` if it is none that this client can go by.
    pub(crate) fn read(ring: v1::Ring, etag: String) -> Option<Ring> {
        let is_possible = ring.partitions.is_power_of_two() && ring.partitions <= PARTITIONS_MAX;
        if !is_possible || ring.position_hash != position::VERSION {
            return None;
        }
        let members = ring.members.into_iter().map(|m| (m.client_address, m.node_id));
        let (addresses, nodes): (Vec<String>, Vec<String>) = members.unzip();
        let starts = starts(&ring.packed_owners, ring.partitions, addresses.len())?;
        let route = |keyspace: v1::KeyspaceRoute| {
            let id = keyspace.id.parse().ok()?;
            Some((keyspace.name, Route { id, n: keyspace.n as usize, r: keyspace.r as usize }))
        };
        Some(Ring {
            version: ring.version,
            etag,
            cluster: ring.cluster_id,
            addresses,
            nodes,
            keyspaces: ring.keyspaces.into_iter().filter_map(route).collect(),
            packed: ring.packed_owners,
            starts,
        })
    }

    /// The keyspace of this name, and the owners of `key` in it, in order.
    pub(crate) fn owners(
        &self,
        keyspace: &str,
        key: &[u8],
    ) -> Option<(Route, impl Iterator<Item = usize>)> {
        let route = *self.keyspaces.get(keyspace)?;
        let partition = partition_of(position(route.id, key), self.starts.len() as u32);
        let start = *self.starts.get(usize::from(partition.0))? as usize;
        let (count, places) = self.packed.get(start..)?.split_first()?;
        let places = places.chunks_exact(2).take(usize::from(*count).min(route.n));
        Some((route, places.map(|place| usize::from(u16::from_be_bytes([place[0], place[1]])))))
    }
}

/// Where each partition stands, if all of them do and nothing else, with members only.
fn starts(packed: &[u8], partitions: u32, members: usize) -> Option<Vec<u32>> {
    let mut starts = Vec::with_capacity(partitions as usize);
    let mut rest = packed;
    for _ in 0..partitions {
        starts.push((packed.len() - rest.len()) as u32);
        let (count, places) = rest.split_first()?;
        let (own, others) = places.split_at_checked(2 * usize::from(*count))?;
        let is_member =
            |place: &[u8]| usize::from(u16::from_be_bytes([place[0], place[1]])) < members;
        if !own.chunks_exact(2).all(is_member) {
            return None;
        }
        rest = others;
    }
    rest.is_empty().then_some(starts)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A ring of `members` nodes at the ports from 1 on, and a keyspace "k" of n=2.
    pub(crate) fn message(version: u64, partitions: u32, members: u16) -> v1::Ring {
        let places = |partition: u32| {
            let first = (partition % u32::from(members)) as u16;
            let second = (first + 1) % members;
            [vec![2], first.to_be_bytes().to_vec(), second.to_be_bytes().to_vec()].concat()
        };
        let member = |number: u16| v1::RingMember {
            client_address: format!("127.0.0.1:{}", number + 1),
            ..Default::default()
        };
        let keyspace = v1::KeyspaceRoute {
            name: "k".to_owned(),
            id: "0000000000000007".to_owned(),
            n: 2,
            r: 1,
            ..Default::default()
        };
        v1::Ring {
            version,
            partitions,
            members: (0..members).map(member).collect(),
            packed_owners: (0..partitions).flat_map(places).collect::<Vec<u8>>().into(),
            keyspaces: vec![keyspace],
            position_hash: position::VERSION,
            ..Default::default()
        }
    }

    #[test]
    fn every_key_has_the_owners_of_its_partition() {
        for partitions in [1, 8, 1 << 16] {
            let ring = Ring::read(message(3, partitions, 5), String::new()).expect("a ring");
            for key in ["a", "b", "cart:17850"] {
                let (route, owners) = ring.owners("k", key.as_bytes()).expect("a keyspace");
                let partition = partition_of(position(route.id, key.as_bytes()), partitions);
                let first = usize::from(partition.0) % 5;
                assert_eq!(owners.collect::<Vec<_>>(), [first, (first + 1) % 5]);
            }
            assert!(ring.owners("other", b"a").is_none());
        }
    }

    #[test]
    fn owners_beyond_n_are_none() {
        let mut few = message(1, 1, 5);
        few.keyspaces[0].n = 1;
        let ring = Ring::read(few, String::new()).expect("a ring");
        assert_eq!(ring.owners("k", b"a").expect("a keyspace").1.count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_no_ring() {
        let wrong: [fn(&mut v1::Ring); 6] = [
            |ring| ring.position_hash = 2,
            |ring| ring.partitions = 3,
            |ring| ring.partitions = 0,
            |ring| ring.packed_owners = ring.packed_owners.slice(1..),
            |ring| ring.packed_owners = [&ring.packed_owners[..], &[0]].concat().into(),
            |ring| drop(ring.members.pop()),
        ];
        for spoil in wrong {
            let mut ring = message(1, 8, 5);
            spoil(&mut ring);
            assert_eq!(Ring::read(ring, String::new()), None);
        }
    }
}
