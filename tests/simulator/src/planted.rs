//! Bugs that are planted to show that the checkers would find one like them.
//!
//! None of them is in the core: the world around it alters an event, an action or a message at
//! the edge, so that no build of the product can contain one. Each names the scenario in which it
//! is looked for, the rules that it may break, and within how many seeds it must be found.
//!
//! Left out: bugs that need the inside of an effect that the core carries out in one step, such
//! as a merge of vectors that forgets an entry; the oracle tests of the core look for those.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use stator_core::collect::CollectAnswer;
use stator_core::event::{Action, Area, Notice};
use stator_core::id::{Actor, Incarnation, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::message::{Message, RequestId};
use stator_core::node::CANDIDATES_MAX;
use stator_core::record::{Mark, Record};
use stator_core::tree::{TreeQuery, TreeRead};
use stator_core::write::Change;

use super::Planted;
use super::checkers::{
    CONVERGED, DOT, EXCHANGED, HANDED_OFF, LOST, ONE_RING, PANICKED, RESTS, REVIVED, SIBLINGS,
    STRICT, TREES,
};
use super::machine::Machine;
use super::world::{Arrival, Happening, World, index};

/// A bug and how it is found.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// What is wrong, in words.
    pub name: &'static str,
    /// How the world plants it.
    pub planted: Planted,
    /// Where it is looked for.
    pub scenario: &'static str,
    /// Within the first so many seeds it must be found.
    pub seeds: u64,
    /// Rules that it may break.
    pub rules: &'static [&'static str],
}

const fn bug(
    name: &'static str,
    planted: Planted,
    (scenario, seeds): (&'static str, u64),
    rules: &'static [&'static str],
) -> Bug {
    Bug { name, planted, scenario, seeds, rules }
}

/// All bugs.
pub const BUGS: &[Bug] = &[
    bug("forget a hint", Planted::DropHints, ("partitions", 20), &[HANDED_OFF]),
    bug(
        "delete a hint that changed while it was sent",
        Planted::SettleChanged,
        ("one way", 200),
        &[HANDED_OFF],
    ),
    bug("go on in the old life after a crash", Planted::OldActor, ("buffered", 40), &[DOT]),
    bug(
        "go on in the old life on a restored copy",
        Planted::OldActor,
        ("restored copy", 20),
        &[DOT],
    ),
    bug(
        "reuse an actor after disk loss",
        Planted::ActorAfterLoss,
        ("lost disks", 20),
        &[DOT, PANICKED],
    ),
    bug(
        "reuse an actor after a partition came back",
        Planted::ActorAfterReturn,
        ("ring changes", 100),
        &[DOT, PANICKED],
    ),
    bug("reuse an actor on a fallback", Planted::ActorOnFallback, ("partitions", 100), &[DOT]),
    bug("acknowledge before the sync", Planted::EagerAck, ("one", 20), &[LOST]),
    bug("collect a tombstone too early", Planted::EarlyCollection, ("one", 20), &[REVIVED]),
    bug(
        "collect while a hint holds the value",
        Planted::CollectOverHints,
        ("partitions", 20),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect while an ex-owner holds the value",
        Planted::CollectOverLeavings,
        ("ring changes", 200),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect while a replica write is on its way",
        Planted::CollectOverWrites,
        ("late", 40),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect what an owner does not hold so",
        Planted::CollectUnmarked,
        ("crashes", 100),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "serve a partition before it was copied",
        Planted::ServeUncopied,
        ("ring changes", 100),
        &[LOST, STRICT],
    ),
    bug("drop the context of a put", Planted::DropContext, ("calm", 20), &[SIBLINGS]),
    bug(
        "drop the context of a delete",
        Planted::DropDeleteContext,
        ("calm", 20),
        &[SIBLINGS, REVIVED],
    ),
    bug(
        "return a context from a put with siblings left",
        Planted::ContextWithSiblings,
        ("calm", 20),
        &[LOST, STRICT],
    ),
    bug(
        "repair with the wrong side",
        Planted::WrongSide,
        ("crashes", 40),
        &[CONVERGED, EXCHANGED, RESTS],
    ),
    bug("skip the mark in the hash tree", Planted::SkipTree, ("crashes", 20), &[TREES]),
    bug("compare no hash trees", Planted::NoExchange, ("crashes", 40), &[RESTS]),
    bug(
        "count a node before its fill",
        Planted::CountBeforeFill,
        ("lost disks", 200),
        &[STRICT, LOST],
    ),
    bug(
        "commit two rings of one version",
        Planted::ForgetPromise,
        ("ring changes", 40),
        &[ONE_RING],
    ),
    bug(
        "retry a forward that may have arrived",
        Planted::RetryForward,
        ("calm", 40),
        &[SIBLINGS, REVIVED],
    ),
    bug("write a fold under a dot of its own", Planted::FreshDot, ("fold race", 100), &[REVIVED]),
];

/// Actors of keys whose records have left a store, to be used again by a bug. Empty without one.
#[derive(Debug, Clone, Default)]
pub struct StaleActors {
    area: Option<Area>,
    actors: BTreeMap<StoreKey, Actor>,
}

impl StaleActors {
    /// From now on actors are kept, if `planted` is such a bug.
    pub(super) fn plant(&mut self, planted: Planted) {
        self.area = match planted {
            Planted::ActorAfterReturn => Some(Area::Data),
            Planted::ActorOnFallback => Some(Area::Hints),
            _ => None,
        };
    }

    /// The record of a key leaves a store.
    pub(super) fn left(&mut self, area: Area, key: &StoreKey, record: Option<&Record>) {
        if let Some(mark) =
            record.and_then(|record| record.mark).filter(|_| self.area == Some(area))
        {
            self.actors.insert(key.clone(), mark.actor);
        }
    }

    /// The record with a mark that begins with the old actor of its key again, if the key was
    /// gone since.
    pub(super) fn marked(
        &self,
        area: Area,
        key: &StoreKey,
        stored: Option<Record>,
        incarnation: Incarnation,
    ) -> Option<Record> {
        let has_mark = stored.as_ref().is_some_and(|record| record.mark.is_some());
        let actor = self.actors.get(key).filter(|_| !has_mark && self.area == Some(area));
        let Some(&actor) = actor.filter(|actor| actor.incarnation == incarnation) else {
            return stored;
        };
        Some(Record { mark: Some(Mark { actor, counter: 0 }), ..stored.unwrap_or_default() })
    }
}

/// What bugs have to know later: numbers of requests, by who sent them.
#[derive(Debug, Default)]
pub struct Noted {
    reads: BTreeSet<(usize, RequestId)>,
    /// Questions for the roots of a partition that the asker is to take over.
    roots: BTreeMap<(usize, RequestId), TreeRead>,
}

impl World {
    /// Bugs as what a machine says.
    pub(super) fn plant_in(&mut self, from: usize, to: usize, message: &mut Message) {
        match (self.planted, message) {
            (Planted::CollectOverWrites, Message::Write(write)) => write.epoch = u64::MAX,
            (
                Planted::CollectUnmarked,
                Message::CollectReply {
                    result:
                        Ok(CollectAnswer::Marked { agreed, .. } | CollectAnswer::Sealed { agreed }),
                    ..
                },
            ) => *agreed = (0..CANDIDATES_MAX as u32).collect(),
            (Planted::ServeUncopied, Message::TreeRead { request, read, .. })
                if read.query == TreeQuery::Roots && self.takes_over(from, read.partition) =>
            {
                self.noted.roots.insert((from, *request), read.clone());
            }
            (Planted::ServeUncopied, Message::TreeReply { request, result: Ok(roots) }) => {
                if let Some(read) = self.noted.roots.remove(&(to, *request)) {
                    *roots = self.machines[to].store.read_tree(&read, usize::MAX);
                }
            }
            _ => {}
        }
    }

    fn takes_over(&self, machine: usize, partition: PartitionId) -> bool {
        let Machine { id, node, .. } = &self.machines[machine];
        let catalogue = node.as_ref().and_then(|node| node.catalogue());
        let moves = catalogue.map_or(&[][..], |catalogue| catalogue.ring.moves_of(partition));
        moves.iter().any(|made| made.to == Some(*id))
    }

    /// Repairs carry what their receiver holds already: those after a get, and those of owners who
    /// compare their hash trees.
    pub(super) fn plant_wrong_side(
        &mut self,
        machine: usize,
        is_read: bool,
        actions: &mut [Action],
    ) {
        if self.planted != Planted::WrongSide {
            return;
        }
        let mut repaired: Option<NodeId> = None;
        for action in actions {
            match action {
                Action::Notice(Notice::ReadRepaired(node)) => repaired = Some(*node),
                // Owners who compare write what they joined under the number they read it with.
                Action::Send(_, Message::Read { request, .. }) => {
                    self.noted.reads.insert((machine, *request));
                }
                Action::Send(to, Message::Write(write))
                    if repaired.take() == Some(*to)
                        || self.noted.reads.contains(&(machine, write.request)) =>
                {
                    let key =
                        |key: &StoreKey| key.keyspace == write.keyspace && key.key == write.key;
                    let mut records = self.machines[index(*to)].store.data.records();
                    let held = records.find(|(known, _)| key(known));
                    write.siblings = held.map(|(_, record)| record.siblings).unwrap_or_default();
                }
                Action::Write { key, change: Change::Sync(siblings), area: Area::Data, .. }
                    if repaired.is_some() || is_read =>
                {
                    repaired = None;
                    let held = self.machines[machine].store.load(key, false);
                    *siblings = held.ok().flatten().unwrap_or_default();
                }
                _ => {}
            }
        }
    }

    /// A forward goes to another node as well.
    pub(super) fn plant_retry(&mut self, from: usize, message: &Message) {
        if self.planted != Planted::RetryForward || !matches!(message, Message::Forward { .. }) {
            return;
        }
        let other = self.rng.random_range(0..self.machines.len());
        if other != from && self.rng.random_bool(0.3) {
            let at_us = self.now_us + self.rng.random_range(1_000..400_000);
            let arrival = Arrival::Message(self.machines[from].id, message.clone());
            self.queue.plan(at_us, Happening::To(other, arrival));
        }
    }
}
