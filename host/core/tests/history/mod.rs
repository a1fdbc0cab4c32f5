//! Random histories of one key at a few replicas, run through the real write path.
#![allow(dead_code)] // Every test crate compiles all of it and uses its part.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use stator_core::ancestor::Ancestors;
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::id::{Dot, Incarnation, NodeId};
use stator_core::record::Record;
use stator_core::version::{Payload, Version};
use stator_core::write::{Change, Draft, Minter, SiblingLimits, write};

pub const REPLICAS: usize = 4;

/// Something that happens to the key.
#[derive(Debug, Clone)]
pub enum Step {
    /// A client reads a replica and remembers the context.
    Get { at: usize },
    /// A client writes, with one of the contexts remembered or blindly; `None` deletes.
    Put { at: usize, context: Option<usize>, value: Option<u8>, now_ms: u64 },
    /// A replica sends another its object.
    Sync { from: usize, to: usize },
    /// A replica loses the key's record.
    Drop { at: usize },
    /// A replica starts anew, in another incarnation.
    Restart { at: usize },
}

/// Steps of a history, in which nothing is lost unless `with_losses`.
pub fn steps(with_losses: bool) -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    // Few clock readings, so that many timestamps are equal.
    let put = (at.clone(), prop::option::of(0usize..8), prop::option::of(0u8..4), 1u64..6)
        .prop_map(|(at, context, value, now_ms)| Step::Put { at, context, value, now_ms });
    let sync = (at.clone(), at.clone()).prop_map(|(from, to)| Step::Sync { from, to });
    let losses = u32::from(with_losses);
    let step = prop_oneof![
        3 => at.clone().prop_map(|at| Step::Get { at }),
        5 => put,
        4 => sync,
        losses => at.clone().prop_map(|at| Step::Drop { at }),
        losses => at.prop_map(|at| Step::Restart { at }),
    ];
    prop::collection::vec(step, 1..40)
}

pub fn draft(value: Option<u8>) -> Draft {
    let payload = match value {
        Some(value) => Payload::Value(Bytes::copy_from_slice(&[value])),
        None => Payload::Tombstone,
    };
    Draft { payload, schema: 0, ttl_ms: None, labels: BTreeMap::new(), request: None }
}

pub const NO_LIMITS: SiblingLimits =
    SiblingLimits { siblings_max: usize::MAX, siblings_bytes_max: usize::MAX };

/// The replicas of one key, and all that was ever written.
pub struct History {
    pub survivors: Survivors,
    pub records: Vec<Option<Record>>,
    pub minters: Vec<Minter>,
    pub contexts: Vec<Context>,
    /// In the order of minting; a dot that stands twice was minted twice.
    pub minted: Vec<(Dot, Arc<Version>)>,
    /// What the writer of each had seen.
    pub seen: Vec<Context>,
    /// What a put onto a replica's object is to hold of its past.
    pub ancestors: fn(&Siblings) -> Ancestors,
}

impl History {
    pub fn new(survivors: Survivors) -> Self {
        let minter = |at| Minter::new(NodeId(at as u64 + 1), Incarnation(1));
        History {
            survivors,
            records: vec![None; REPLICAS],
            minters: (0..REPLICAS).map(minter).collect(),
            contexts: Vec::new(),
            minted: Vec::new(),
            seen: Vec::new(),
            ancestors: |_| Ancestors::NotKept,
        }
    }

    pub fn run(survivors: Survivors, steps: &[Step]) -> Self {
        let mut history = History::new(survivors);
        steps.iter().for_each(|step| history.step(step));
        history
    }

    pub fn siblings(&self, at: usize) -> Siblings {
        self.records[at].as_ref().map(|r| Siblings::clone(&r.siblings)).unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Siblings> {
        (0..REPLICAS).map(|at| self.siblings(at)).collect()
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Get { at } => self.contexts.push(Context::of(&self.siblings(at))),
            Step::Put { at, context, value, now_ms } => {
                let context = context
                    .and_then(|i| self.contexts.get(i % self.contexts.len().max(1)).cloned())
                    .unwrap_or_default();
                self.put(at, context, draft(value), now_ms);
            }
            Step::Sync { from, to } => {
                self.write(to, &Change::Sync(Arc::new(self.siblings(from))));
            }
            Step::Drop { at } => self.records[at] = None,
            Step::Restart { at } => {
                let Minter { node, incarnation, .. } = self.minters[at];
                self.minters[at] = Minter::new(node, Incarnation(incarnation.0 + 1));
            }
        }
    }

    pub fn put(&mut self, at: usize, context: Context, draft: Draft, now_ms: u64) {
        let ancestors = (self.ancestors)(&self.siblings(at));
        let limits = NO_LIMITS;
        let change = Change::Mint {
            passed_ms: 0,
            context: context.clone(),
            draft,
            now_ms,
            limits,
            ancestors,
            until_ms: u64::MAX,
            is_lent: false,
            allowance: None,
        };
        self.write(at, &change);
        self.seen.push(context);
    }

    fn write(&mut self, at: usize, change: &Change) {
        let stored = self.records[at].take();
        let written = write(stored, change, &[], self.survivors, &mut self.minters[at]).unwrap();
        if let Some(dot) = written.dot {
            let (_, version) =
                written.record.siblings.live().find(|(live, _)| *live == dot).unwrap();
            self.minted.push((dot, version.clone()));
        }
        self.records[at] = Some(written.record);
    }
}

/// What a replica holds that had `a` and is sent `b`.
pub fn joined(a: &Siblings, b: &Siblings, survivors: Survivors) -> Siblings {
    let mut joined = a.clone();
    joined.sync(b);
    joined.keep(survivors);
    joined
}

pub fn bytes(siblings: &Siblings) -> Vec<u8> {
    let mut out = Vec::new();
    siblings.encode(&mut out);
    out
}
