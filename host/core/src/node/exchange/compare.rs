//! The steps of an exchange: what two answers mean, and what is asked next.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Exchange, ExchangeId, ExchangeReason, Step, Walk};
use crate::event::{Action, ExchangeEnd};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::node::Node;
use crate::tree::{
    KeyHash, LEAF_LEVEL, Part, Sum, TreeAnswer, TreeKey, TreeNode, TreePage, TreeQuery, bucket_of,
};

impl Node {
    /// Goes on if the present question is answered.
    pub(super) fn compare(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let is_both = exchange.ours.is_some() && exchange.theirs.is_some();
        let is_answered = match &exchange.step {
            Step::Roots | Step::LastRoots | Step::Sums(_) => is_both,
            Step::TheirKeys | Step::Objects { .. } => exchange.theirs.is_some(),
            Step::OurKeys { .. } | Step::Doubt => exchange.ours.is_some(),
            Step::Repairs { .. } => false,
        };
        if !is_answered {
            return;
        }
        let (ours, theirs) = (exchange.ours.take(), exchange.theirs.take());
        let step = std::mem::replace(&mut exchange.step, Step::Roots);
        use TreeAnswer::{Keys, Objects, Roots, Sums};
        match (step, ours, theirs) {
            (Step::Roots, Some(Roots(ours)), Some(Roots(theirs))) => {
                exchange.is_peer_whole &= theirs.damaged == 0;
                if self.is_behind(id, &theirs.sums) {
                    return self.end_exchange(id, ExchangeEnd::Skipped);
                }
                let differing = self.differing_keyspaces(id, &ours.sums, &theirs.sums);
                self.compare_keyspaces(id, differing);
            }
            (Step::LastRoots, Some(Roots(ours)), Some(Roots(theirs))) => {
                let is_equal = self.differing_keyspaces(id, &ours.sums, &theirs.sums).is_empty();
                let end = if is_equal { ExchangeEnd::Equal } else { ExchangeEnd::Different };
                self.end_exchange(id, end);
            }
            (Step::Sums(nodes), Some(Sums(ours)), Some(Sums(theirs)))
                if ours.len() == nodes.len() && theirs.len() == nodes.len() =>
            {
                self.compare_sums(id, &nodes, (&ours, &theirs));
            }
            (Step::TheirKeys, _, Some(Keys(theirs))) => self.read_our_keys(id, theirs),
            (Step::OurKeys { theirs, ours }, Some(Keys(page)), _) => {
                self.our_keys_read(id, theirs, ours, page);
            }
            (Step::Objects { asked, next }, _, Some(Objects(theirs))) => {
                self.objects_read(id, &asked, theirs, next);
            }
            (Step::Doubt, Some(Sums(now)), _) => self.judge_own_tree(id, &now),
            // An answer to something else: the peer is not what it says it is.
            _ => self.end_exchange(id, ExchangeEnd::Failed),
        }
    }

    /// The keyspaces that both are to hold of the partition and whose roots differ.
    fn differing_keyspaces(
        &self,
        id: ExchangeId,
        ours: &[(KeyspaceId, Sum)],
        theirs: &[(KeyspaceId, Sum)],
    ) -> Vec<KeyspaceId> {
        let Some(exchange) = self.exchanges.running.get(&id) else { return Vec::new() };
        let ours: BTreeMap<KeyspaceId, Sum> = ours.iter().copied().collect();
        let theirs: BTreeMap<KeyspaceId, Sum> = theirs.iter().copied().collect();
        let pair = (exchange.partition, exchange.peer);
        let is_concerned = |keyspace: &KeyspaceId| match exchange.reason {
            // Whoever has something: an owner of before may be one beyond n.
            ExchangeReason::Fill => {
                theirs.contains_key(keyspace) && self.is_replica(*keyspace, exchange.partition)
            }
            _ => {
                self.both_hold(*keyspace, exchange.partition, exchange.peer)
                    || self.holds_beyond(*keyspace, pair, ours.get(keyspace))
            }
        };
        let is_differing = |keyspace: &KeyspaceId| {
            exchange.only.is_none_or(|only| only == *keyspace)
                && ours.get(keyspace) != theirs.get(keyspace)
                && is_concerned(keyspace)
        };
        self.keyspaces.keys().copied().filter(is_differing).collect()
    }

    /// Whether a keyspace's keys in `partition` are for this node to hold.
    fn is_replica(&self, keyspace: KeyspaceId, partition: PartitionId) -> bool {
        let Ok((catalogue, keyspace)) = self.keyspace(keyspace) else { return false };
        let n = keyspace.quorums.value.n as usize;
        catalogue.ring.owners(partition).take(n).any(|owner| owner == self.id)
    }

    /// Whether a keyspace's keys in `partition` are for both nodes to hold: one that owns the
    /// partition beyond the keyspace's n does not.
    fn both_hold(&self, keyspace: KeyspaceId, partition: PartitionId, peer: NodeId) -> bool {
        let Ok((catalogue, keyspace)) = self.keyspace(keyspace) else { return false };
        let n = keyspace.quorums.value.n as usize;
        let (ring, id) = (&catalogue.ring, self.id);
        let mut beyond = ring.owners(partition).skip(n);
        // Who is to own it is asked for as what it will be.
        let is_next_beyond = ring.is_next_owner(partition, id)
            && ring.planned_owners(partition).skip(n).any(|owner| owner == id);
        !is_next_beyond && beyond.all(|owner| owner != id && owner != peer)
    }

    /// Whether this node holds something of a keyspace though it owns the partition beyond the
    /// keyspace's n: it was one of the n in an earlier ring. That is kept like the others' until
    /// it is deleted, or the partition given away.
    fn holds_beyond(
        &self,
        keyspace: KeyspaceId,
        (partition, peer): (PartitionId, NodeId),
        ours: Option<&Sum>,
    ) -> bool {
        let Ok((catalogue, keyspace)) = self.keyspace(keyspace) else { return false };
        let owners: Vec<NodeId> = catalogue.ring.owners(partition).collect();
        let (within, beyond) = owners.split_at(owners.len().min(keyspace.quorums.value.n as usize));
        ours.is_some_and(|sum| *sum != Sum::default())
            && beyond.contains(&self.id)
            && within.contains(&peer)
    }

    /// Whether the peer holds a keyspace that this node is to take over and does not know yet.
    fn is_behind(&self, id: ExchangeId, theirs: &[(KeyspaceId, Sum)]) -> bool {
        let Some(exchange) = self.exchanges.running.get(&id) else { return false };
        let is_new = |id: KeyspaceId| !self.keyspaces.contains_key(&id) && !self.is_deleted(id);
        matches!(exchange.reason, ExchangeReason::Transfer | ExchangeReason::Fill)
            && theirs.iter().any(|(id, _)| is_new(*id))
    }

    fn compare_keyspaces(&mut self, id: ExchangeId, differing: Vec<KeyspaceId>) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        if differing.is_empty() {
            return self.end_exchange(id, ExchangeEnd::Equal);
        }
        exchange.keyspaces = differing.into();
        self.next_keyspace(id);
    }

    /// Walks the tree of the first keyspace that is left, or asks how the roots are now.
    fn next_keyspace(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        exchange.walk = Walk::default();
        match exchange.keyspaces.is_empty() {
            true => {
                exchange.step = Step::LastRoots;
                self.ask_both(id, TreeQuery::Roots);
            }
            false => self.ask_below(id, &[TreeNode::ROOT]),
        }
    }

    fn ask_below(&mut self, id: ExchangeId, differing: &[TreeNode]) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Some(keyspace) = exchange.keyspaces.front().copied() else { return };
        let nodes: Vec<TreeNode> = differing.iter().flat_map(TreeNode::children).collect();
        exchange.step = Step::Sums(nodes.clone());
        self.ask_both(id, TreeQuery::Sums(keyspace, nodes));
    }

    fn compare_sums(&mut self, id: ExchangeId, nodes: &[TreeNode], sums: (&[Sum], &[Sum])) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let both = nodes.iter().zip(sums.0.iter().zip(sums.1));
        let differing: Vec<(TreeNode, Sum)> = both
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(node, (ours, _))| (*node, *ours))
            .collect();
        let is_bottom = nodes.first().is_none_or(|node| node.level() == LEAF_LEVEL);
        if differing.is_empty() {
            // What was on its way has arrived.
            exchange.keyspaces.pop_front();
            self.next_keyspace(id);
        } else if is_bottom {
            exchange.walk.buckets = differing.iter().map(|(node, _)| node.index()).collect();
            exchange.walk.seen = differing.iter().map(|(node, s)| (node.index(), *s)).collect();
            self.ask_for_keys(id);
        } else {
            let nodes: Vec<TreeNode> = differing.into_iter().map(|(node, _)| node).collect();
            self.ask_below(id, &nodes);
        }
    }

    fn ask_for_keys(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        exchange.step = Step::TheirKeys;
        if let Some(part) = exchange.part(exchange.walk.after.clone(), None) {
            self.ask_peer(id, TreeQuery::Keys(part));
        }
    }

    /// The peer's page is here: the own keys of the same range are read.
    fn read_our_keys(&mut self, id: ExchangeId, theirs: TreePage) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let after = exchange.walk.after.clone();
        // A page that does not get on would be asked for for ever.
        if theirs.next.is_some() && theirs.next <= after {
            return self.end_exchange(id, ExchangeEnd::Failed);
        }
        let part = exchange.part(after, theirs.next.clone());
        exchange.step = Step::OurKeys { theirs, ours: Vec::new() };
        if let Some(part) = part {
            self.ask_store(id, TreeQuery::Keys(part));
        }
    }

    fn our_keys_read(
        &mut self,
        id: ExchangeId,
        theirs: TreePage,
        mut ours: Vec<KeyHash>,
        page: TreePage,
    ) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        ours.extend(page.keys);
        let is_end = page.next.is_none() || (theirs.next.is_some() && page.next >= theirs.next);
        if !is_end {
            let part = exchange.part(page.next, theirs.next.clone());
            exchange.step = Step::OurKeys { theirs, ours };
            if let Some(part) = part {
                self.ask_store(id, TreeQuery::Keys(part));
            }
            return;
        }
        self.compare_keys(id, theirs, &ours);
    }

    fn compare_keys(&mut self, id: ExchangeId, mut theirs: TreePage, ours: &[KeyHash]) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        let sums = TreeKey::of(catalogue.cluster);
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Some(keyspace) = exchange.keyspaces.front().copied() else { return };
        // What the peer has elsewhere is not to be stored here.
        theirs
            .keys
            .retain(|known| catalogue.ring.partition(keyspace, &known.key) == exchange.partition);
        exchange.add_up(ours, sums);
        let mut both: BTreeMap<&Bytes, [Option<&KeyHash>; 2]> = BTreeMap::new();
        for (side, keys) in [ours, &theirs.keys].into_iter().enumerate() {
            keys.iter().for_each(|known| both.entry(&known.key).or_default()[side] = Some(known));
        }
        let hash = |side: Option<&KeyHash>| side.and_then(|known| known.hash);
        let is_differing = |[ours, theirs]: &[Option<&KeyHash>; 2]| {
            // A damaged record has no hash, and equals nothing.
            hash(*ours).is_none() || hash(*ours) != hash(*theirs)
        };
        exchange.figures.keys_compared += both.len() as u64;
        let differing: Vec<_> = both.into_iter().filter(|(_, pair)| is_differing(pair)).collect();
        exchange.walk.is_explained |= !differing.is_empty();
        let is_damaged = |known: &KeyHash| known.hash.is_none();
        exchange.is_peer_whole &= !theirs.keys.iter().any(is_damaged);
        // Who is about to drop its copy wants nothing for it, and who fills gives nothing.
        let reason = exchange.reason;
        let wanted = differing.into_iter().filter(|(_, [ours, theirs])| match reason {
            ExchangeReason::Leave => ours.is_some(),
            ExchangeReason::Fill => theirs.is_some(),
            _ => true,
        });
        exchange.differing =
            wanted.map(|(key, [_, theirs])| (key.clone(), theirs.is_some())).collect();
        exchange.figures.keys_differed += exchange.differing.len() as u64;
        exchange.step = Step::Repairs { next: theirs.next };
        self.go_on_repairing(id);
    }

    /// A page is repaired: the next one, or the next keyspace.
    pub(super) fn page_ended(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Step::Repairs { next } = &mut exchange.step else { return };
        if let Some(next) = next.take() {
            exchange.walk.after = Some(next);
            return self.ask_for_keys(id);
        }
        if exchange.walk.is_explained {
            exchange.keyspaces.pop_front();
            return self.next_keyspace(id);
        }
        exchange.step = Step::Doubt;
        let buckets = exchange.walk.buckets.iter();
        let nodes = buckets.filter_map(|bucket| TreeNode::new(LEAF_LEVEL, *bucket)).collect();
        if let Some(keyspace) = exchange.keyspaces.front() {
            let query = TreeQuery::Sums(*keyspace, nodes);
            self.ask_store(id, query);
        }
    }

    /// No key differed: either what was on its way has arrived, or a tree is wrong.
    fn judge_own_tree(&mut self, id: ExchangeId, now: &[Sum]) {
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Walk { buckets, seen, listed, .. } = &exchange.walk;
        let is_wrong = buckets.iter().zip(now).any(|(bucket, now)| {
            let listed = listed.get(bucket).copied().unwrap_or_default();
            seen.get(bucket) == Some(now) && listed != *now
        });
        let partition = exchange.partition;
        exchange.keyspaces.pop_front();
        if is_wrong {
            self.act(Action::RebuildTree(partition));
            return self.end_exchange(id, ExchangeEnd::Skipped);
        }
        self.next_keyspace(id);
    }
}

impl Exchange {
    fn part(&self, after: Option<Bytes>, until: Option<Bytes>) -> Option<Part> {
        let keyspace = *self.keyspaces.front()?;
        Some(Part { keyspace, buckets: self.walk.buckets.clone(), after, until })
    }

    /// Adds the own keys up, per bucket, as the own tree should have.
    fn add_up(&mut self, ours: &[KeyHash], sums: TreeKey) {
        let Some(keyspace) = self.keyspaces.front().copied() else { return };
        for KeyHash { key, hash } in ours {
            let key = StoreKey { partition: self.partition, keyspace, key: key.clone() };
            let sum = self.walk.listed.entry(bucket_of(&key)).or_default();
            *sum = sum.plus(hash.map_or(Sum::default(), |hash| sums.sum(hash)));
            self.walk.is_explained |= hash.is_none();
        }
    }
}
