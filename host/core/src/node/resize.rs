//! A keyspace's n becomes another one while clients read and write.
//!
//! The owners of a key are the first n of its partition's owners, so another n is another prefix of the
//! same list: some become owners of the keyspace that hold nothing of it, or some that hold it are
//! owners no more. The paper fixes n for good. What is promised in between is what is promised before
//! and after: nothing that was acknowledged is lost, and where r + w > n with both n, a strict get sees
//! every strict put that was acknowledged before it began.
//!
//! # Stages
//! Quorums of the old n need not meet those of the new one. So puts reach both while some gets ask the
//! one and some the other, as joint consensus does it (Ongaro and Ousterhout, "In Search of an
//! Understandable Consensus Algorithm", USENIX ATC 2014, section 6), and no node is more than a stage
//! ahead of another one, as in Rae et al., "Online, Asynchronous Schema Change in F1" (VLDB 2013):
//!
//! | stage | gets | puts must reach | a member is through when |
//! |---|---|---|---|
//! | 0 (no change) | r of n | w of n | |
//! | [`Stage::Spread`] | r of n | w of n, w' of n' | its puts of before have been answered |
//! | [`Stage::Copy`] | r of n | both | it has read all old owners of what it owns by n' |
//! | [`Stage::Agree`] | r of n | both | it knows |
//! | [`Stage::Turn`] | r' of n' | both | it knows |
//! | [`Stage::Settle`] | r' of n' | w' of n' | it knows |
//!
//! The next stage begins when all members have said that they are through, each once its catalogue with
//! the present stage is durable: what they say is in the catalogue (`Report`), and any node that
//! sees it complete brings the next stage about and tells everyone. So that a stage costs as many
//! messages as there are members, and not their square, each tells only the first one in reach; the others
//! hear it by gossip. Whoever joins the cluster meanwhile gets a catalogue that
//! says at least what its teacher has said, so it is counted by all who count that.
//!
//! Why a get sees what it must. Two stages that follow one another are compatible: their gets and puts
//! ask quorums of one n, or the puts both. Two that do not are never there at the same time. What remains
//! is a put of stage 0 and a get of the new n: when `Copy` begins no put of stage 0 can be acknowledged
//! any more, and when it ends each of the n' owners has exchanged the keyspace ([`super::exchange`]) with
//! all n old ones, so any of them holds it. What is acknowledged since is held by w' of them.
//!
//! Why nothing is lost: whatever is acknowledged at `Copy` or later is held by w' of the new owners, what was
//! before is held by all of them, and who goes gives them what it holds. Hints for who is an owner no more
//! go to all owners ([`super::handoff`]). Why nothing comes back: whoever holds a copy owns the
//! partition, before, meanwhile and afterwards, and collection asks all of these, whatever n is
//! ([`super::collect`]); a round that spans a change is void, as n is part of what it depends on.
//!
//! # What else knows of it
//! `Keyspace::holders`, the larger n, is whom replica writes, hints, exchanges and fills concern; an owner
//! that does not count for gets yet gives a dot only if no other can. Clients that read replicas
//! themselves are answered by who counts for gets only. Nothing is folded meanwhile.
//! A node whose copy is counted on, and that loses it, is filled by all others ([`super::catchup`]).
//!
//! # Rings that change meanwhile
//! A change begins among no moves. If another ring is committed, what was copied counts for nothing: it is
//! copied once more when the moves are made. From `Agree` on moves carry it from place to place like
//! all else.
//!
//! # Cancelling
//! Until `Agree` has ended a change can be taken back. Who knows of that says so and agrees to nothing
//! more; as all must agree, the first that says it ends the change. Stage 0 fits all stages before `Turn`.
//!
//! # What is left behind
//! Who held a keyspace and is not one of its n owners any more gives its copy to all of them and drops it
//! ([`super::transfer`], `leavings`).
//!
//! Left out: a change goes on only while all members can be heard of, if only now and then; one that will
//! not return has to be removed, or the change cancelled. What clients asked of r and w themselves holds
//! for the n that there is at the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::exchange::ExchangeReason;
use super::{InFlight, Node, Purpose};
use crate::catalogue::{Catalogue, Keyspace, Report, Resize, Stage};
use crate::event::{Action, ExchangeOutcome, Notice, ResizeFigures, Token};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::Message;

/// The most exchanges that a change of n has under way on a node.
pub const STREAMS_MAX: usize = 2;
/// How long an owner is left alone after an exchange with it failed.
const REST_MS: u64 = 1_000;

/// What this node has to do for a change of n.
#[derive(Debug, Default)]
pub(super) struct Resizing {
    works: BTreeMap<KeyspaceId, Work>,
    told: Vec<ResizeFigures>,
}

/// What a catalogue says of a change, as far as a member has to know it before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    number: u64,
    stage: Stage,
    is_cancelled: bool,
    ring_version: u64,
}

/// A change of n at its present stage.
#[derive(Debug)]
struct Work {
    known: Known,
    /// The last number that this node had used when it learned of that: what is saved under a later
    /// one says it, and requests with an earlier one do not know it.
    since: Token,
    is_saved: bool,
    copying: Option<Copying>,
}

/// What is to be read of the old owners.
#[derive(Debug, Default)]
struct Copying {
    left: BTreeMap<PartitionId, BTreeSet<NodeId>>,
    partitions: usize,
    keys_copied: u64,
    rests: BTreeMap<NodeId, u64>,
}

impl Copying {
    /// All that this node owns by the new n is to be read of all others that own it by the old one.
    fn new(catalogue: &Catalogue, (keyspace, resize): (&Keyspace, &Resize), me: NodeId) -> Self {
        let (old, new) = (keyspace.quorums.value.n as usize, resize.to.n as usize);
        let others = |partition: PartitionId| {
            let owners: Vec<NodeId> = catalogue.ring.owners(partition).collect();
            let is_ours = owners.iter().take(new).any(|owner| *owner == me);
            let mut others: BTreeSet<NodeId> = owners.into_iter().take(old).collect();
            others.remove(&me);
            (is_ours && !others.is_empty()).then_some((partition, others))
        };
        let left: BTreeMap<_, _> = catalogue.ring.partition_ids().filter_map(others).collect();
        Copying { partitions: left.len(), left, ..Copying::default() }
    }

    /// The next one to be read, of those that can be.
    fn next(
        &self,
        now_ms: u64,
        is_possible: impl Fn(PartitionId, NodeId) -> bool,
    ) -> Option<(PartitionId, NodeId)> {
        let is_resting = |peer: &NodeId| self.rests.get(peer).is_some_and(|until| now_ms < *until);
        let pairs = self.left.iter().flat_map(|(p, others)| others.iter().map(|o| (*p, *o)));
        pairs.into_iter().find(|(p, other)| !is_resting(other) && is_possible(*p, *other))
    }

    fn has_read(&mut self, partition: PartitionId, peer: NodeId) {
        if let Some(others) = self.left.get_mut(&partition) {
            others.remove(&peer);
            if others.is_empty() {
                self.left.remove(&partition);
            }
        }
    }
}

impl Node {
    /// How far this node is with copying for changes of n.
    pub fn resizes(&self) -> Vec<ResizeFigures> {
        let figures = |(keyspace, work): (&KeyspaceId, &Work)| {
            let Copying { left, partitions, keys_copied, .. } = work.copying.as_ref()?;
            let (partitions_left, keys_copied) = (left.len(), *keys_copied);
            let (keyspace, partitions) = (*keyspace, *partitions);
            Some(ResizeFigures { keyspace, partitions, partitions_left, keys_copied })
        };
        self.resizing.works.iter().filter_map(figures).collect()
    }

    /// Another catalogue stands; the first one is the one that was saved.
    pub(super) fn resizes_taken_over(&mut self, is_first: bool) {
        let ring_version = self.ring_version();
        let known = |keyspace: &Keyspace| {
            let Resize { stage, is_cancelled, .. } = keyspace.resizes.present.as_ref()?;
            let (number, stage) = (keyspace.resizes.number, *stage);
            Some(Known { number, stage, is_cancelled: *is_cancelled, ring_version })
        };
        let present = self.keyspaces.iter().filter_map(|(id, k)| Some((*id, known(k)?)));
        let present: BTreeMap<KeyspaceId, Known> = present.collect();
        let works = &mut self.resizing.works;
        let before = works.len();
        works.retain(|keyspace, _| present.contains_key(keyspace));
        let is_one_over = works.len() < before;
        for (keyspace, known) in present {
            if works.get(&keyspace).is_none_or(|work| work.known != known) {
                let (since, copying) = (self.last_number, None);
                works.insert(keyspace, Work { known, since, is_saved: is_first, copying });
            }
        }
        if is_one_over {
            self.check_all_leavings();
        }
    }

    /// What the catalogue said when this token was given out is durable.
    pub(super) fn resizes_saved(&mut self, token: Token) {
        let mut is_news = false;
        for work in self.resizing.works.values_mut().filter(|work| work.since < token) {
            is_news |= !work.is_saved;
            work.is_saved = true;
        }
        if is_news {
            self.go_on_resizing();
        }
    }

    /// Looks at what no event tells, and says what this node is through with.
    pub(super) fn go_on_resizing(&mut self) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        let may_say = !self.was_removed() && !self.is_stopping && self.may_write().is_ok();
        if self.resizing.works.is_empty() || !may_say {
            return self.tell_resizes();
        }
        let (mut changed, mut is_next) = (None, false);
        for (keyspace, resize) in catalogue.resizes() {
            self.copy_for_resize(&catalogue, (keyspace, resize));
            let Some(report) = self.report_of((keyspace, resize)) else { continue };
            let said = resize.reports.get(&self.id);
            let version = catalogue.ring.version();
            // What others have said may be complete, though this node has nothing new to say.
            let is_over = resize.outlook(catalogue.members.keys(), version).is_news();
            if said < Some(&report) || is_over {
                let changed = changed.get_or_insert_with(|| Catalogue::clone(&catalogue));
                changed.go_on_resizing(&keyspace.name, self.id, report);
                let now = changed.keyspace(&keyspace.name).and_then(|k| k.resizes.present.as_ref());
                is_next |= now.map(|now| now.stage) != Some(resize.stage);
            }
        }
        match changed {
            Some(changed) if is_next => self.publish(changed, Purpose::Gossip),
            Some(changed) => self.tell_first(changed),
            None => {}
        }
        self.tell_resizes();
    }

    /// Takes over what this node has said, keeps it, and tells the first member in reach.
    fn tell_first(&mut self, changed: Catalogue) {
        let changed = Arc::new(changed);
        self.take_over(changed.clone());
        let token = self.effect(Purpose::Gossip);
        self.act(Action::Persist(token, changed.clone()));
        let first = changed.members.keys().find(|member| self.is_reachable(**member));
        if let Some(first) = first.copied().filter(|first| *first != self.id) {
            let told = Message::Catalogue { catalogue: changed, is_reply_wanted: false };
            self.send(first, told);
        }
    }

    /// What this node has to say of a change; nothing if it does not know it durably.
    fn report_of(&self, (keyspace, resize): (&Keyspace, &Resize)) -> Option<Report> {
        let work = self.resizing.works.get(&keyspace.id).filter(|work| work.is_saved)?;
        let Known { stage, is_cancelled, ring_version, .. } = work.known;
        let said = resize.reports.get(&self.id).copied().unwrap_or_default();
        let is_through = match stage {
            _ if is_cancelled && stage < Stage::Turn => false,
            Stage::Spread => {
                let is_dropping = self.is_dropping_of(keyspace.id, None);
                !is_dropping && !self.puts_of_before(keyspace.id, work.since)
            }
            Stage::Copy => work.copying.as_ref().is_some_and(|copying| copying.left.is_empty()),
            Stage::Agree | Stage::Turn | Stage::Settle => true,
        };
        Some(match is_through {
            true => Report { through: Some(stage), is_cancelled, ring_version }.max(said),
            false => Report { is_cancelled: is_cancelled || said.is_cancelled, ..said },
        })
    }

    /// Whether a put is under way that does not know of the change, and has not been answered.
    fn puts_of_before(&self, keyspace: KeyspaceId, since: Token) -> bool {
        self.requests.range(..=since).any(|(_, request)| match request {
            InFlight::Put(put) => put.key.keyspace == keyspace && !put.is_answered(),
            InFlight::Get(_) => false,
        })
    }

    /// Reads on what old owners hold, while it is the time for that.
    fn copy_for_resize(&mut self, catalogue: &Catalogue, wanted: (&Keyspace, &Resize)) {
        let (keyspace, resize) = (wanted.0.id, wanted.1);
        let Some(mut work) = self.resizing.works.remove(&keyspace) else { return };
        let is_time = work.known.stage == Stage::Copy
            && work.is_saved
            && catalogue.ring.moves().is_empty()
            && !resize.is_cancelled
            && !resize.is_through(self.id, catalogue.ring.version());
        match is_time {
            true => {
                let new = || Copying::new(catalogue, wanted, self.id);
                let copying = work.copying.get_or_insert_with(new);
                let next = self.next_copies(keyspace, copying);
                self.resizing.works.insert(keyspace, work);
                for (partition, peer) in next {
                    self.start_exchange_of(keyspace, (partition, peer));
                }
            }
            false => {
                work.copying = None;
                self.resizing.works.insert(keyspace, work);
            }
        }
    }

    fn next_copies(&self, keyspace: KeyspaceId, of: &Copying) -> Vec<(PartitionId, NodeId)> {
        let mut busy = self.exchanges.made_for(ExchangeReason::Resize(keyspace));
        let free = self.admission.window(STREAMS_MAX).saturating_sub(busy.len());
        let mut next = Vec::new();
        for _ in 0..free {
            let is_possible = |partition, peer| {
                !busy.contains(&(partition, peer))
                    && self.is_reachable(peer)
                    && !self.is_filling(partition)
            };
            let Some(pair) = of.next(self.now.monotonic_ms, is_possible) else { break };
            busy.push(pair);
            next.push(pair);
        }
        next
    }

    /// All that `peer` holds of a keyspace in a partition was read, or could not be.
    pub(super) fn resize_exchange_ended(
        &mut self,
        keyspace: KeyspaceId,
        (partition, peer): (PartitionId, NodeId),
        outcome: ExchangeOutcome,
    ) {
        let rest_ms = self.in_ms(REST_MS);
        let work = self.resizing.works.get_mut(&keyspace);
        let Some(copying) = work.and_then(|work| work.copying.as_mut()) else { return };
        copying.keys_copied += outcome.figures.keys_repaired;
        match outcome.is_compared() {
            true => copying.has_read(partition, peer),
            false => drop(copying.rests.insert(peer, rest_ms)),
        }
        self.go_on_resizing();
    }

    fn tell_resizes(&mut self) {
        let figures = self.resizes();
        if figures != self.resizing.told {
            self.resizing.told.clone_from(&figures);
            self.notice(Notice::Resizing(figures));
        }
    }
}
