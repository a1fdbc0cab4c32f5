//! Who plays in the scripts, and how their words read.

use std::sync::Arc;

use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::id::{Dot, Incarnation, NodeId};
use stator_core::keys::StoreKey;
use stator_core::request::Effect;
use stator_core::ring::{PreferenceList, Seat, claim};
use stator_core::write::{Change, Minter, write};

use crate::history::{self, draft};

pub const NAMES: [&str; 5] = ["a", "b", "c", "x", "y"];
pub const REPLICA_TIMEOUT_MS: u64 = 500;
pub const DEADLINE_MS: u64 = 2_000;

pub struct Cast {
    pub list: PreferenceList,
    pub key: StoreKey,
}

impl Cast {
    /// The nodes of a key with so many fallbacks.
    pub fn new(fallbacks: u64) -> Self {
        let seat =
            |id| Seat { node: NodeId(id), region: String::new(), zone: String::new(), weight: 1 };
        let ring = claim(1, 8, 3, &(1..=3 + fallbacks).map(seat).collect::<Vec<_>>()).unwrap();
        let keyspace = stator_core::id::KeyspaceId(1);
        let partition = ring.partition(keyspace, b"k");
        let key = StoreKey { partition, keyspace, key: "k".into() };
        Cast { list: ring.preference_list(partition, 3), key }
    }

    pub fn node(&self, name: &str) -> NodeId {
        let place = NAMES.iter().position(|known| *known == name).unwrap();
        self.list.iter().nth(place).unwrap().node
    }

    pub fn name(&self, node: NodeId) -> &'static str {
        NAMES[self.list.iter().position(|replica| replica.node == node).unwrap()]
    }

    pub fn is_in(&self, names: &str, node: NodeId) -> bool {
        names.contains(self.name(node))
    }
}

/// A key after this many blind puts at one node.
pub fn written(puts: usize) -> (Dot, Arc<Siblings>) {
    let mut minter = Minter::new(NodeId(77), Incarnation(1));
    let (mut record, mut dot) = (None, None);
    for value in 0..puts {
        let (context, draft) = (Context::default(), draft(Some(value as u8)));
        let change = Change::Mint {
            passed_ms: 0,
            context,
            draft,
            now_ms: 1,
            limits: history::NO_LIMITS,
            ancestors: Default::default(),
            until_ms: u64::MAX,
            is_lent: false,
            allowance: None,
        };
        let written = write(record, &change, &[], Survivors::All, &mut minter).unwrap();
        (record, dot) = (Some(written.record), written.dot);
    }
    (dot.unwrap(), record.unwrap().siblings)
}

pub type Script<'a> = &'a [(&'a str, &'a str)];

pub fn words(step: &str) -> (&str, &str) {
    step.split_once(' ').unwrap_or((step, ""))
}

pub fn short(needed: u32, answered: u32, effect: Effect) -> String {
    format!("{answered} of {needed}, effect {effect:?}")
}
