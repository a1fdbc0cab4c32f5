//! One exchange: its steps, what two answers mean, and what is asked next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::repair::Repair;
use super::{ExchangeId, ExchangeReason, Pair, Told, Wish};
use crate::causality::Siblings;
use crate::event::ExchangeEnd;
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::message::{ExchangeFigures, ReplicaError};
use crate::node::surroundings::Surroundings;
use crate::tree::{
    Buckets, KeyHash, LEAF_LEVEL, Part, Sum, TreeAnswer, TreeKey, TreeNode, TreePage, TreeQuery,
    bucket_of,
};

/// One exchange under way.
#[derive(Debug)]
pub(super) struct Exchange {
    id: ExchangeId,
    pub(super) partition: PartitionId,
    pub(super) peer: NodeId,
    pub(super) reason: ExchangeReason,
    /// Of one keyspace only.
    only: Option<KeyspaceId>,
    pub(super) step: Step,
    /// The answers to the present question.
    ours: Option<TreeAnswer>,
    theirs: Option<TreeAnswer>,
    /// Keyspaces that differ, the present one first.
    pub(super) keyspaces: VecDeque<KeyspaceId>,
    walk: Walk,
    /// Keys to be repaired, with whether the peer has something under them, and those that are.
    pub(super) differing: VecDeque<(Bytes, bool)>,
    pub(super) repairs: BTreeMap<Bytes, Repair>,
    pub(super) figures: ExchangeFigures,
    pub(super) is_peer_whole: bool,
    pub(super) wishes: Vec<Wish>,
    /// How it ended, if it has.
    pub(super) end: Option<ExchangeEnd>,
}

/// Where an exchange is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Roots,
    Sums(Vec<TreeNode>),
    /// A page of the peer's keys is asked for.
    TheirKeys,
    /// The own keys of the range of the peer's page are being read.
    OurKeys {
        theirs: TreePage,
        ours: Vec<KeyHash>,
    },
    /// The peer's objects of these keys are asked for.
    Objects {
        asked: Vec<Bytes>,
        /// Where the next page of keys starts, if there is one.
        next: Option<Bytes>,
    },
    Repairs {
        next: Option<Bytes>,
    },
    /// The own buckets are read once more, because no key differed.
    Doubt,
    LastRoots,
}

/// What is known of the present keyspace.
#[derive(Debug, Default)]
struct Walk {
    buckets: Buckets,
    after: Option<Bytes>,
    /// What the own tree says of the buckets, and what its keys add up to.
    seen: BTreeMap<u16, Sum>,
    listed: BTreeMap<u16, Sum>,
    /// Whether a key differed, or a record was damaged.
    is_explained: bool,
}

impl Exchange {
    pub(super) fn new(
        id: ExchangeId,
        (partition, peer): Pair,
        only: Option<KeyspaceId>,
        reason: ExchangeReason,
    ) -> Self {
        let mut exchange = Exchange {
            id,
            partition,
            peer,
            reason,
            only,
            step: Step::Roots,
            ours: None,
            theirs: None,
            keyspaces: VecDeque::new(),
            walk: Walk::default(),
            differing: VecDeque::new(),
            repairs: BTreeMap::new(),
            figures: ExchangeFigures::default(),
            is_peer_whole: true,
            wishes: Vec::new(),
            end: None,
        };
        exchange.ask_both(TreeQuery::Roots);
        exchange
    }

    pub(super) fn end(&mut self, end: ExchangeEnd) {
        self.end = Some(end);
    }

    /// Asks the peer, and the own store the same.
    fn ask_both(&mut self, query: TreeQuery) {
        self.ask_peer(query.clone());
        self.ask_store(query);
    }

    fn ask_peer(&mut self, query: TreeQuery) {
        self.figures.questions += 1;
        let pair = (self.partition, self.peer);
        self.wishes.push(Wish::AskPeer(self.id, pair, self.reason, query));
    }

    fn ask_store(&mut self, query: TreeQuery) {
        self.wishes.push(Wish::AskStore(self.id, self.partition, query));
    }

    /// Asks the peer for its objects of these keys of the present keyspace.
    pub(super) fn ask_for_objects(&mut self, keys: Vec<Bytes>) {
        if let Some(keyspace) = self.keyspaces.front() {
            self.ask_peer(TreeQuery::Objects(*keyspace, keys));
        }
    }

    /// Reads the own object of a key of the present keyspace, joined with what the peer holds.
    pub(super) fn join(&mut self, key: Bytes, theirs: Option<Arc<Siblings>>) {
        let Some(key) = self.key(key) else { return };
        self.wishes.push(match theirs {
            Some(siblings) => Wish::Join(self.id, key, siblings),
            None => Wish::Load(self.id, key),
        });
    }

    /// Sends the peer the object of a key of the present keyspace.
    pub(super) fn give(&mut self, key: Bytes, siblings: Arc<Siblings>) {
        let Some(key) = self.key(key) else { return };
        self.wishes.push(Wish::Give(self.id, self.peer, key, siblings));
    }

    fn key(&self, key: Bytes) -> Option<StoreKey> {
        let keyspace = *self.keyspaces.front()?;
        Some(StoreKey { partition: self.partition, keyspace, key })
    }

    /// Something that it wanted has come, or does not.
    pub(super) fn told(&mut self, around: &dyn Surroundings, told: Told) {
        match told {
            Told::Ours(Ok(TreeAnswer::NotReady))
            | Told::Theirs(
                Ok(TreeAnswer::NotReady)
                | Err(ReplicaError::Filling | ReplicaError::NotOwner { .. }),
            ) => self.end(ExchangeEnd::Skipped),
            Told::Ours(Err(_)) | Told::Theirs(Err(_)) => self.end(ExchangeEnd::Failed),
            Told::Ours(Ok(answer)) => {
                self.ours = Some(answer);
                self.compare(around);
            }
            Told::Theirs(Ok(answer)) => {
                self.theirs = Some(answer);
                self.compare(around);
            }
            Told::Joined(key, result) => self.joined(around, &key, result),
            Told::Given(key, is_synced) => self.given(around, &key, is_synced),
        }
    }

    /// Goes on if the present question is answered.
    fn compare(&mut self, around: &dyn Surroundings) {
        let is_both = self.ours.is_some() && self.theirs.is_some();
        let is_answered = match &self.step {
            Step::Roots | Step::LastRoots | Step::Sums(_) => is_both,
            Step::TheirKeys | Step::Objects { .. } => self.theirs.is_some(),
            Step::OurKeys { .. } | Step::Doubt => self.ours.is_some(),
            Step::Repairs { .. } => false,
        };
        if !is_answered {
            return;
        }
        let (ours, theirs) = (self.ours.take(), self.theirs.take());
        let step = std::mem::replace(&mut self.step, Step::Roots);
        use TreeAnswer::{Keys, Objects, Roots, Sums};
        match (step, ours, theirs) {
            (Step::Roots, Some(Roots(ours)), Some(Roots(theirs))) => {
                self.is_peer_whole &= theirs.damaged == 0;
                if self.is_behind(around, &theirs.sums) {
                    return self.end(ExchangeEnd::Skipped);
                }
                let differing = self.differing_keyspaces(around, &ours.sums, &theirs.sums);
                match differing.is_empty() {
                    true => self.end(ExchangeEnd::Equal),
                    false => {
                        self.keyspaces = differing;
                        self.walk_keyspace();
                    }
                }
            }
            (Step::LastRoots, Some(Roots(ours)), Some(Roots(theirs))) => {
                match self.differing_keyspaces(around, &ours.sums, &theirs.sums).is_empty() {
                    true => self.end(ExchangeEnd::Equal),
                    false => self.end(ExchangeEnd::Different),
                }
            }
            (Step::Sums(nodes), Some(Sums(ours)), Some(Sums(theirs)))
                if ours.len() == nodes.len() && theirs.len() == nodes.len() =>
            {
                self.compare_sums(&nodes, (&ours, &theirs));
            }
            (Step::TheirKeys, _, Some(Keys(theirs))) => self.read_our_keys(theirs),
            (Step::OurKeys { theirs, ours }, Some(Keys(page)), _) => {
                self.our_keys_read(around, theirs, ours, page);
            }
            (Step::Objects { asked, next }, _, Some(Objects(theirs))) => {
                self.objects_read(around, &asked, theirs, next);
            }
            (Step::Doubt, Some(Sums(now)), _) => self.judge_own_tree(&now),
            // An answer to something else: the peer is not what it says it is.
            _ => self.end(ExchangeEnd::Failed),
        }
    }

    /// The keyspaces that both are to hold of the partition and whose roots differ.
    fn differing_keyspaces(
        &self,
        around: &dyn Surroundings,
        ours: &[(KeyspaceId, Sum)],
        theirs: &[(KeyspaceId, Sum)],
    ) -> VecDeque<KeyspaceId> {
        let ours: BTreeMap<KeyspaceId, Sum> = ours.iter().copied().collect();
        let theirs: BTreeMap<KeyspaceId, Sum> = theirs.iter().copied().collect();
        let is_concerned = |keyspace: KeyspaceId| match self.reason {
            // Whoever has something: an owner of before may be one beyond n.
            ExchangeReason::Fill => {
                theirs.contains_key(&keyspace) && self.is_replica(around, keyspace)
            }
            _ => {
                self.both_hold(around, keyspace)
                    || self.holds_beyond(around, keyspace, ours.get(&keyspace))
            }
        };
        let is_differing = |keyspace: &KeyspaceId| {
            self.only.is_none_or(|only| only == *keyspace)
                && ours.get(keyspace) != theirs.get(keyspace)
                && is_concerned(*keyspace)
        };
        around.keyspaces().keys().copied().filter(is_differing).collect()
    }

    /// Whether a keyspace's keys in the partition are for this node to hold.
    fn is_replica(&self, around: &dyn Surroundings, keyspace: KeyspaceId) -> bool {
        let Some(n) = around.replicas(keyspace) else { return false };
        around.owners(self.partition).iter().take(n).any(|owner| *owner == around.me())
    }

    /// Whether a keyspace's keys in the partition are for both nodes to hold: one that owns the
    /// partition beyond the keyspace's n does not.
    fn both_hold(&self, around: &dyn Surroundings, keyspace: KeyspaceId) -> bool {
        let (Some(catalogue), Some(n)) = (around.catalogue(), around.replicas(keyspace)) else {
            return false;
        };
        let (ring, me) = (&catalogue.ring, around.me());
        let mut beyond = ring.owners(self.partition).skip(n);
        // Who is to own it is asked for as what it will be.
        let is_next_beyond = ring.is_next_owner(self.partition, me)
            && ring.planned_owners(self.partition).skip(n).any(|owner| owner == me);
        !is_next_beyond && beyond.all(|owner| owner != me && owner != self.peer)
    }

    /// Whether this node holds something of a keyspace though it owns the partition beyond the
    /// keyspace's n: it was one of the n in an earlier ring. That is kept like the others' until
    /// it is deleted, or the partition given away.
    fn holds_beyond(
        &self,
        around: &dyn Surroundings,
        keyspace: KeyspaceId,
        ours: Option<&Sum>,
    ) -> bool {
        let Some(n) = around.replicas(keyspace) else { return false };
        let owners = around.owners(self.partition);
        let (within, beyond) = owners.split_at(owners.len().min(n));
        ours.is_some_and(|sum| *sum != Sum::default())
            && beyond.contains(&around.me())
            && within.contains(&self.peer)
    }

    /// Whether the peer holds a keyspace that this node is to take over and does not know yet.
    fn is_behind(&self, around: &dyn Surroundings, theirs: &[(KeyspaceId, Sum)]) -> bool {
        let is_new = |id| !around.keyspaces().contains_key(&id) && !around.is_deleted(id);
        matches!(self.reason, ExchangeReason::Transfer | ExchangeReason::Fill)
            && theirs.iter().any(|(id, _)| is_new(*id))
    }

    /// Walks the tree of the first keyspace that is left, or asks how the roots are now.
    fn walk_keyspace(&mut self) {
        self.walk = Walk::default();
        match self.keyspaces.is_empty() {
            true => {
                self.step = Step::LastRoots;
                self.ask_both(TreeQuery::Roots);
            }
            false => self.ask_below(&[TreeNode::ROOT]),
        }
    }

    fn next_keyspace(&mut self) {
        self.keyspaces.pop_front();
        self.walk_keyspace();
    }

    fn ask_below(&mut self, differing: &[TreeNode]) {
        let Some(keyspace) = self.keyspaces.front().copied() else { return };
        let nodes: Vec<TreeNode> = differing.iter().flat_map(TreeNode::children).collect();
        self.step = Step::Sums(nodes.clone());
        self.ask_both(TreeQuery::Sums(keyspace, nodes));
    }

    fn compare_sums(&mut self, nodes: &[TreeNode], sums: (&[Sum], &[Sum])) {
        let both = nodes.iter().zip(sums.0.iter().zip(sums.1));
        let differing = both.filter(|(_, (ours, theirs))| ours != theirs);
        let differing: Vec<(TreeNode, Sum)> =
            differing.map(|(node, (ours, _))| (*node, *ours)).collect();
        let is_bottom = nodes.first().is_none_or(|node| node.level() == LEAF_LEVEL);
        if differing.is_empty() {
            // What was on its way has arrived.
            self.next_keyspace();
        } else if is_bottom {
            self.walk.buckets = differing.iter().map(|(node, _)| node.index()).collect();
            self.walk.seen = differing.iter().map(|(node, s)| (node.index(), *s)).collect();
            self.ask_for_keys();
        } else {
            let nodes: Vec<TreeNode> = differing.into_iter().map(|(node, _)| node).collect();
            self.ask_below(&nodes);
        }
    }

    fn ask_for_keys(&mut self) {
        self.step = Step::TheirKeys;
        if let Some(part) = self.part(self.walk.after.clone(), None) {
            self.ask_peer(TreeQuery::Keys(part));
        }
    }

    /// The peer's page is here: the own keys of the same range are read.
    fn read_our_keys(&mut self, theirs: TreePage) {
        let after = self.walk.after.clone();
        // A page that does not get on would be asked for for ever.
        if theirs.next.is_some() && theirs.next <= after {
            return self.end(ExchangeEnd::Failed);
        }
        self.read_our_keys_behind(after, theirs, Vec::new());
    }

    fn read_our_keys_behind(&mut self, after: Option<Bytes>, theirs: TreePage, ours: Vec<KeyHash>) {
        if let Some(part) = self.part(after, theirs.next.clone()) {
            self.ask_store(TreeQuery::Keys(part));
        }
        self.step = Step::OurKeys { theirs, ours };
    }

    fn our_keys_read(
        &mut self,
        around: &dyn Surroundings,
        theirs: TreePage,
        mut ours: Vec<KeyHash>,
        page: TreePage,
    ) {
        ours.extend(page.keys);
        let is_end = page.next.is_none() || (theirs.next.is_some() && page.next >= theirs.next);
        match is_end {
            true => self.compare_keys(around, theirs, &ours),
            false => self.read_our_keys_behind(page.next, theirs, ours),
        }
    }

    fn compare_keys(&mut self, around: &dyn Surroundings, mut theirs: TreePage, ours: &[KeyHash]) {
        let (Some(catalogue), Some(keyspace)) = (around.catalogue(), self.keyspaces.front()) else {
            return;
        };
        // What the peer has elsewhere is not to be stored here.
        let is_here = |key: &Bytes| catalogue.ring.partition(*keyspace, key) == self.partition;
        theirs.keys.retain(|known| is_here(&known.key));
        self.add_up(ours, TreeKey::of(catalogue.cluster));
        let mut both: BTreeMap<&Bytes, [Option<&KeyHash>; 2]> = BTreeMap::new();
        for (side, keys) in [ours, &theirs.keys].into_iter().enumerate() {
            keys.iter().for_each(|known| both.entry(&known.key).or_default()[side] = Some(known));
        }
        let hash = |side: Option<&KeyHash>| side.and_then(|known| known.hash);
        let is_differing = |[ours, theirs]: &[Option<&KeyHash>; 2]| {
            // A damaged record has no hash, and equals nothing.
            hash(*ours).is_none() || hash(*ours) != hash(*theirs)
        };
        self.figures.keys_compared += both.len() as u64;
        let differing: Vec<_> = both.into_iter().filter(|(_, pair)| is_differing(pair)).collect();
        self.walk.is_explained |= !differing.is_empty();
        let is_damaged = |known: &KeyHash| known.hash.is_none();
        self.is_peer_whole &= !theirs.keys.iter().any(is_damaged);
        // Who is about to drop its copy wants nothing for it, and who fills gives nothing.
        let reason = self.reason;
        let wanted = differing.into_iter().filter(|(_, [ours, theirs])| match reason {
            ExchangeReason::Leave => ours.is_some(),
            ExchangeReason::Fill => theirs.is_some(),
            _ => true,
        });
        self.differing = wanted.map(|(key, [_, theirs])| (key.clone(), theirs.is_some())).collect();
        self.figures.keys_differed += self.differing.len() as u64;
        self.step = Step::Repairs { next: theirs.next };
        self.go_on_repairing(around);
    }

    /// A page is repaired: the next one, or the next keyspace.
    pub(super) fn page_ended(&mut self, next: Option<Bytes>) {
        if next.is_some() {
            self.walk.after = next;
            return self.ask_for_keys();
        }
        if self.walk.is_explained {
            return self.next_keyspace();
        }
        self.step = Step::Doubt;
        let buckets = self.walk.buckets.iter();
        let nodes = buckets.filter_map(|bucket| TreeNode::new(LEAF_LEVEL, *bucket)).collect();
        if let Some(keyspace) = self.keyspaces.front() {
            self.ask_store(TreeQuery::Sums(*keyspace, nodes));
        }
    }

    /// No key differed: either what was on its way has arrived, or a tree is wrong.
    fn judge_own_tree(&mut self, now: &[Sum]) {
        let Walk { buckets, seen, listed, .. } = &self.walk;
        let is_wrong = buckets.iter().zip(now).any(|(bucket, now)| {
            let listed = listed.get(bucket).copied().unwrap_or_default();
            seen.get(bucket) == Some(now) && listed != *now
        });
        if is_wrong {
            self.wishes.push(Wish::Rebuild(self.partition));
            return self.end(ExchangeEnd::Skipped);
        }
        self.next_keyspace();
    }

    fn part(&self, after: Option<Bytes>, until: Option<Bytes>) -> Option<Part> {
        let keyspace = *self.keyspaces.front()?;
        Some(Part { keyspace, buckets: self.walk.buckets.clone(), after, until })
    }

    /// Adds the own keys up, per bucket, as the own tree should have.
    fn add_up(&mut self, ours: &[KeyHash], sums: TreeKey) {
        for KeyHash { key, hash } in ours {
            let Some(key) = self.key(key.clone()) else { return };
            let sum = self.walk.listed.entry(bucket_of(&key)).or_default();
            *sum = sum.plus(hash.map_or(Sum::default(), |hash| sums.sum(hash)));
            self.walk.is_explained |= hash.is_none();
        }
    }
}
