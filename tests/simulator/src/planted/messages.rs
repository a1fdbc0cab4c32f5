//! Bugs as what machines say to one another, or do with what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stator_core::catalogue::{Catalogue, Report, Stage};
use stator_core::collect::CollectAnswer;
use stator_core::event::{Action, Area, Event, Notice, Token};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::message::{Message, RequestId};
use stator_core::node::CANDIDATES_MAX;
use stator_core::tree::{TreeQuery, TreeRead};
use stator_core::write::Change;

use super::Planted;
use crate::machine::Machine;
use crate::world::{LATE, World, index};

/// What bugs have to know later: numbers of requests, by who sent them.
#[derive(Debug, Default)]
pub struct Noted {
    /// What a machine has its store do with what another owner holds.
    joins: BTreeSet<(usize, Token)>,
    /// Questions for the roots of a partition that the asker is to take over.
    roots: BTreeMap<(usize, RequestId), TreeRead>,
}

/// Why a machine acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was told what another one holds for a get.
    Read,
    /// It compares what it holds with another owner.
    Compared,
    /// It has joined what that one holds.
    Joined,
    /// Something else.
    Else,
}

impl Noted {
    /// Why a machine acts upon this event.
    pub(crate) fn cause(&self, machine: usize, event: &Event) -> Cause {
        match event {
            Event::Received(_, Message::ReadReply { .. }) => Cause::Read,
            Event::Received(_, Message::TreeReply { .. }) | Event::TreeRead(..) => Cause::Compared,
            Event::Written(token, _) | Event::Loaded(token, _)
                if self.joins.contains(&(machine, *token)) =>
            {
                Cause::Joined
            }
            _ => Cause::Else,
        }
    }
}

impl World {
    /// Bugs as what a machine says.
    pub(crate) fn plant_in(&mut self, from: usize, to: usize, message: &mut Message) {
        match (self.planted, message) {
            (Planted::CollectOverWrites, Message::Write(write)) => write.epoch = u64::MAX,
            (Planted::ExpireByOneClock, Message::Clocks(told)) => {
                told.iter_mut().for_each(|(_, clock_ms)| *clock_ms = u64::MAX);
            }
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
            (Planted::ResizeUncopied, Message::TreeRead { request, read, .. })
                if read.query == TreeQuery::Roots && self.is_copying_for_resize(from) =>
            {
                self.noted.roots.insert((from, *request), read.clone());
            }
            (Planted::ResizeAtOnce, Message::Catalogue { catalogue, .. }) => {
                let mut said = Catalogue::clone(catalogue);
                for (keyspace, resize) in catalogue.resizes() {
                    let (through, ring_version) = (Some(resize.stage), catalogue.ring.version());
                    let report = Report { through, is_cancelled: false, ring_version };
                    for member in catalogue.members.keys() {
                        said.go_on_resizing(&keyspace.name, *member, report);
                    }
                }
                *catalogue = Arc::new(said);
            }
            (Planted::EqualRoots, Message::TreeRead { request, read, .. })
                if read.query == TreeQuery::Roots =>
            {
                self.noted.roots.insert((from, *request), read.clone());
            }
            (
                Planted::ServeUncopied | Planted::EqualRoots | Planted::ResizeUncopied,
                Message::TreeReply { request, result: Ok(roots) },
            ) => {
                if let Some(read) = self.noted.roots.remove(&(to, *request)) {
                    *roots = self.machines[to].store.read_tree(&read, usize::MAX);
                }
            }
            _ => {}
        }
    }

    fn is_copying_for_resize(&self, machine: usize) -> bool {
        let catalogue = self.catalogue_of(machine);
        catalogue.is_some_and(|c| c.resizes().any(|(_, resize)| resize.stage == Stage::Copy))
    }

    fn takes_over(&self, machine: usize, partition: PartitionId) -> bool {
        let Machine { id, node, .. } = &self.machines[machine];
        let catalogue = node.as_ref().and_then(|node| node.catalogue());
        let moves = catalogue.map_or(&[][..], |catalogue| catalogue.ring.moves_of(partition));
        moves.iter().any(|made| made.to == Some(*id))
    }

    /// Repairs carry what their receiver holds already: those after a get, and those of owners who
    /// compare their hash trees.
    pub(crate) fn plant_wrong_side(
        &mut self,
        machine: usize,
        cause: Cause,
        actions: &mut [Action],
    ) {
        if self.planted != Planted::WrongSide {
            return;
        }
        let mut repaired: Option<NodeId> = None;
        for action in actions {
            match action {
                Action::Notice(Notice::ReadRepaired(node)) => repaired = Some(*node),
                Action::Load { token, .. } if cause == Cause::Compared => {
                    self.noted.joins.insert((machine, *token));
                }
                Action::Send(to, Message::Write(write))
                    if repaired.take() == Some(*to) || cause == Cause::Joined =>
                {
                    let key =
                        |key: &StoreKey| key.keyspace == write.keyspace && key.key == write.key;
                    let mut records = self.machines[index(*to)].store.data.records();
                    let held = records.find(|(known, _)| key(known));
                    write.siblings = held.map(|(_, record)| record.siblings).unwrap_or_default();
                }
                Action::Write {
                    token,
                    key,
                    change: Change::Sync(siblings),
                    area: Area::Data,
                    ..
                } if repaired.is_some() || matches!(cause, Cause::Read | Cause::Compared) => {
                    repaired = None;
                    self.noted.joins.insert((machine, *token));
                    let held = self.machines[machine].store.load(key, false);
                    *siblings = held.ok().flatten().unwrap_or_default();
                }
                _ => {}
            }
        }
    }

    /// Keys of a keyspace that was made anew are those of the first of its name.
    pub(crate) fn plant_in_store(&mut self, action: &mut Action) {
        if let (Planted::SameKeyspace, Action::Load { key, .. } | Action::Write { key, .. }) =
            (self.planted, action)
            && (2..9).any(|generation| key.keyspace == KeyspaceId::of(LATE, generation))
        {
            key.keyspace = KeyspaceId::of(LATE, 1);
        }
    }

    /// An owner stores what it only lends.
    pub(crate) fn plant_lent(&self, change: &mut Change) {
        if let (Planted::StoreLent, Change::Mint { is_lent, .. }) = (self.planted, change) {
            *is_lent = false;
        }
    }
}
