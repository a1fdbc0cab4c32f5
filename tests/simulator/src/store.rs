//! A machine's store: the real write path on a disk that forgets what was not synced.
//!
//! Two shelves, data and hints, each with what is applied (readers see it at once), what is
//! durable, and the steps between the two in their order. A crash keeps a prefix of those steps,
//! as a log does. Records pass through their bytes in both directions. The hash trees of the data
//! are kept in memory only: a clean stop keeps them, after any other they are counted anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use stator_core::causality::{Siblings, Survivors};
use stator_core::collect::{DuePlace, IndexPage, IndexQuery, Listed};
use stator_core::event::{Area, HeldHint, StoreFailure, Stored};
use stator_core::id::{ClusterId, Incarnation, KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::tree::{
    Addend, Held, KeyHash, ObjectHash, Part, Rebuild, TreeAnswer, TreePage, TreeQuery, TreeRead,
    Trees, bucket_of, object_hash,
};
use stator_core::write::{Change, Minter, Settled, Written, settle, write};

use super::planted::StaleActors;

/// One step of a shelf: what a key holds from then on.
#[derive(Debug, Clone)]
struct Step {
    key: StoreKey,
    record: Option<Bytes>,
}

/// One area of a store.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    applied: BTreeMap<StoreKey, Bytes>,
    durable: BTreeMap<StoreKey, Bytes>,
    unsynced: VecDeque<Step>,
    /// How many steps were ever synced.
    synced: u64,
    sequence: u64,
}

impl Shelf {
    /// The number of the last step, for [`Self::sync_through`].
    pub fn last_step(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Makes all steps up to this one durable.
    pub fn sync_through(&mut self, step: u64) {
        while self.synced < step {
            let Some(Step { key, record }) = self.unsynced.pop_front() else {
                return;
            };
            match record {
                Some(bytes) => drop(self.durable.insert(key, bytes)),
                None => drop(self.durable.remove(&key)),
            }
            self.synced += 1;
        }
    }

    /// How many steps a crash could lose.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Forgets what was not synced, but for the first `kept` steps.
    fn crash(&mut self, kept: usize) {
        self.sync_through(self.synced + kept as u64);
        self.unsynced.clear();
        self.applied = self.durable.clone();
        let sequences =
            self.applied.values().filter_map(|bytes| Record::decode(bytes.clone()).ok());
        self.sequence = sequences.map(|record| record.sequence).max().unwrap_or(0);
    }

    fn step(&mut self, key: StoreKey, record: Option<Bytes>) {
        match &record {
            Some(bytes) => drop(self.applied.insert(key.clone(), bytes.clone())),
            None => drop(self.applied.remove(&key)),
        }
        self.unsynced.push_back(Step { key, record });
    }

    fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreFailure> {
        let decode = |bytes: &Bytes| Record::decode(bytes.clone());
        self.applied.get(key).map(decode).transpose().map_err(|_| StoreFailure::Damaged)
    }

    /// The undamaged records.
    pub fn records(&self) -> impl Iterator<Item = (&StoreKey, Record)> {
        let decode = |bytes: &Bytes| Record::decode(bytes.clone()).ok();
        self.applied.iter().filter_map(move |(key, bytes)| Some((key, decode(bytes)?)))
    }

    /// The keys that it holds anything of, in order.
    pub fn keys(&self) -> impl Iterator<Item = &StoreKey> {
        self.applied.keys()
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.applied.len()
    }

    /// Whether it holds anything of a key.
    pub fn has(&self, key: &StoreKey) -> bool {
        self.applied.contains_key(key)
    }

    /// Of a planted bug: drops a key.
    pub fn forget(&mut self, key: &StoreKey) {
        self.step(key.clone(), None);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    /// Flips a bit of the `chosen`-th record, in memory and on disk. Gives its key.
    fn damage(&mut self, chosen: usize, bit: usize) -> Option<StoreKey> {
        let key = self.applied.keys().nth(chosen % self.applied.len().max(1))?.clone();
        let flip = |bytes: &mut Bytes| {
            let mut damaged = bytes.to_vec();
            let at = bit % (damaged.len() * 8);
            damaged[at / 8] ^= 1 << (at % 8);
            *bytes = damaged.into();
        };
        self.applied.get_mut(&key).map(flip);
        self.durable.get_mut(&key).map(flip);
        Some(key)
    }
}

/// The store of one machine.
#[derive(Debug, Clone)]
pub struct Store {
    /// What the machine owns.
    pub data: Shelf,
    /// What it keeps for others.
    pub hints: Shelf,
    /// The hash trees of the data.
    pub trees: Trees,
    minter: Minter,
    /// Of a planted bug: what is damaged is passed over.
    pub passes_over_damage: bool,
    /// Of a planted bug: actors of keys that the store holds no more.
    pub stale_actors: StaleActors,
}

/// How many dead actors are worth a round.
pub const DEAD_ACTORS_MIN: usize = 1;

/// The cluster that all machines are of.
pub const CLUSTER: ClusterId = ClusterId(1);

impl Store {
    /// An empty store.
    pub fn new(node: NodeId, incarnation: Incarnation) -> Self {
        let minter = Minter::new(node, incarnation);
        let trees = Trees::new(CLUSTER);
        let (data, hints) = (Shelf::default(), Shelf::default());
        Store {
            data,
            hints,
            trees,
            minter,
            stale_actors: StaleActors::default(),
            passes_over_damage: false,
        }
    }

    /// One of the two shelves.
    pub fn shelf(&self, area: Area) -> &Shelf {
        match area {
            Area::Data => &self.data,
            Area::Hints => &self.hints,
        }
    }

    /// One of the two shelves, to be changed.
    pub fn shelf_mut(&mut self, area: Area) -> &mut Shelf {
        match area {
            Area::Data => &mut self.data,
            Area::Hints => &mut self.hints,
        }
    }

    /// Stops cleanly, with everything synced, and starts again in this incarnation.
    pub fn restart_clean(&mut self, incarnation: Incarnation) {
        for area in [Area::Data, Area::Hints] {
            let shelf = self.shelf_mut(area);
            shelf.sync_through(shelf.last_step());
        }
        self.start(incarnation);
    }

    /// Loses what was not synced but for a prefix, and starts again in this incarnation.
    pub fn restart_unclean(&mut self, (data, hints): (usize, usize), incarnation: Incarnation) {
        self.data.crash(data);
        self.hints.crash(hints);
        self.trees = Trees::unknown(CLUSTER);
        self.start(incarnation);
    }

    /// Loses a disk, synced or not, and starts again in this incarnation.
    pub fn restart_empty(&mut self, with_hints: bool, incarnation: Incarnation) {
        self.data = Shelf::default();
        self.trees = Trees::new(CLUSTER);
        match with_hints {
            true => self.hints = Shelf::default(),
            false => self.hints.crash(0),
        }
        self.start(incarnation);
    }

    fn start(&mut self, incarnation: Incarnation) {
        self.minter = Minter::new(self.minter.node, incarnation);
    }

    /// Goes on in this incarnation.
    pub fn begin(&mut self, incarnation: Incarnation) {
        self.start(incarnation);
    }

    /// The present incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.minter.incarnation
    }

    /// Reads a key.
    pub fn load(
        &self,
        key: &StoreKey,
        with_hints: bool,
    ) -> Result<Option<Arc<Siblings>>, StoreFailure> {
        let own = self.data.read(key)?.map(|record| record.siblings);
        let hint = match with_hints {
            true => self.hints.read(key)?.map(|record| record.siblings),
            false => None,
        };
        Ok(match (own, hint) {
            (Some(own), Some(hint)) => {
                let mut joined = Siblings::clone(&own);
                joined.sync(&hint);
                Some(Arc::new(joined))
            }
            (own, hint) => own.or(hint),
        })
    }

    /// Runs the write path for a key.
    pub fn write(
        &mut self,
        area: Area,
        key: &StoreKey,
        change: &Change,
        targets: &[NodeId],
        survivors: Survivors,
    ) -> Result<Stored, StoreFailure> {
        // What is damaged counts as missing.
        let read = self.shelf(area).read(key);
        let (is_damaged, stored) = (read.is_err(), read.unwrap_or(None));
        let old = stored.as_ref().map(|record| record.addend(key));
        if is_damaged && matches!(change, Change::Attest(_) | Change::Collect(_)) {
            if area == Area::Data && !self.passes_over_damage {
                self.trees.met_damaged(key);
            }
            return Err(StoreFailure::Damaged);
        }
        let mut minter = self.stale_actors.minter(area, key, stored.as_ref(), &self.minter);
        let minter = minter.as_mut().unwrap_or(&mut self.minter);
        let is_held = stored.is_some();
        let Written { mut record, dot, mut is_changed, is_removed, gained_ms } =
            write(stored, change, targets, survivors, minter)?;
        let passed_ms = match change {
            Change::Expire { passed_ms, .. } if is_held => Some(*passed_ms),
            _ => is_changed.then_some(0),
        };
        if let Some(passed_ms) = passed_ms.filter(|_| area == Area::Data && !is_removed) {
            let listed = Listed::of(&record, passed_ms, DEAD_ACTORS_MIN);
            is_changed |= listed != record.listed;
            record.listed = listed;
        }
        if is_changed && area == Area::Data {
            let is_left = !is_removed;
            record.object_hash = is_left.then(|| object_hash(key, &record.siblings));
            let new = is_left.then(|| record.addend(key));
            match is_damaged {
                // What it added to the tree is not known any more.
                true if !self.passes_over_damage => self.trees.mended(key, new),
                _ => self.trees.changed(key, old, new),
            }
        }
        let shelf = self.shelf_mut(area);
        if is_changed {
            shelf.sequence += 1;
            record.sequence = shelf.sequence;
            let bytes = (!is_removed).then(|| record.encode().into());
            shelf.step(key.clone(), bytes);
        }
        Ok(Stored { siblings: record.siblings, dot, gained_ms })
    }

    /// Drops a key of which only tombstones are left: a bug as long as anyone may still hold
    /// what they stand against.
    pub fn collect(&mut self, key: &StoreKey) {
        let is_tombstone = |record: &Record| {
            record.siblings.live().all(|(_, version)| version.payload.value().is_none())
        };
        if let Ok(Some(record)) = self.data.read(key)
            && is_tombstone(&record)
        {
            self.trees.changed(key, Some(record.addend(key)), None);
            self.data.step(key.clone(), None);
        }
    }

    /// A page of the index of what collection is to look at.
    pub fn read_index(&self, query: &IndexQuery, count_max: usize) -> IndexPage {
        let records = self.data.records();
        match query {
            IndexQuery::Forgettable { from, after } => {
                let is_asked = |key: &StoreKey| match after {
                    Some(after) => key > after,
                    None => key.partition >= *from,
                };
                let listed = records
                    .filter(|(key, record)| is_asked(key) && record.listed.is_forgettable)
                    .map(|(key, r)| (key.clone(), r.object_hash(key), r.siblings.is_deleted()));
                let mut found: Vec<_> = listed.take(count_max).collect();
                if let Some(partition) = found.first().map(|(key, ..)| key.partition) {
                    found.retain(|(key, ..)| key.partition == partition);
                }
                IndexPage::Forgettable(found)
            }
            IndexQuery::Due { until_ms, after } => {
                let due = records.filter_map(|(key, r)| Some((r.listed.due_ms?, key.clone())));
                let is_asked = |place: &DuePlace| {
                    place.0 <= *until_ms && after.as_ref().is_none_or(|after| place > after)
                };
                let mut found: Vec<DuePlace> = due.filter(is_asked).collect();
                found.sort_unstable();
                found.truncate(count_max);
                IndexPage::Due(found)
            }
        }
    }

    /// Whether a shelf holds anything of a partition.
    pub fn find_any(&self, area: Area, partition: PartitionId) -> bool {
        self.shelf(area).applied.keys().any(|key| key.partition == partition)
    }

    /// Drops all that the machine holds of a partition, or of a keyspace in it.
    pub fn drop_partition(&mut self, partition: PartitionId, keyspace: Option<KeyspaceId>) {
        let goes = |key: &&StoreKey| {
            key.partition == partition && keyspace.is_none_or(|only| only == key.keyspace)
        };
        let keys: Vec<StoreKey> = self.data.applied.keys().filter(goes).cloned().collect();
        for key in keys {
            let read = self.data.read(&key);
            self.stale_actors.left(Area::Data, &key, read.as_ref().ok().and_then(Option::as_ref));
            match read {
                Ok(Some(record)) => self.trees.changed(&key, Some(record.addend(&key)), None),
                _ => self.trees.mended(&key, None),
            }
            self.data.step(key, None);
        }
    }

    /// Hints for `target`, in key order, from the first after `after`.
    pub fn list_hints(
        &self,
        target: NodeId,
        after: Option<&StoreKey>,
        count_max: usize,
    ) -> Vec<HeldHint> {
        let is_later = |key: &StoreKey| after.is_none_or(|after| key > after);
        let held = self
            .hints
            .records()
            .filter(|(key, record)| is_later(key) && record.targets.contains(&target));
        let hint = |(key, record): (&StoreKey, Record)| HeldHint {
            key: key.clone(),
            siblings: record.siblings,
            sequence: record.sequence,
        };
        held.map(hint).take(count_max).collect()
    }

    /// The commit that wrote a hint.
    pub fn hint_sequence(&self, key: &StoreKey) -> Option<u64> {
        self.hints.read(key).ok().flatten().map(|record| record.sequence)
    }

    /// Takes `target` off a hint, if that is unchanged since commit `sequence`.
    pub fn settle(&mut self, target: NodeId, key: &StoreKey, sequence: u64) -> bool {
        let Ok(Some(stored)) = self.hints.read(key) else {
            return false;
        };
        let record = match settle(&stored, target, sequence) {
            Settled::Stays => return false,
            Settled::Remains(record) => Some(record.encode().into()),
            Settled::Done => {
                self.stale_actors.left(Area::Hints, key, Some(&stored));
                None
            }
        };
        self.hints.step(key.clone(), record);
        true
    }

    /// Counts a few more records for trees that are being rebuilt.
    pub fn rebuild_trees(&mut self, count_max: usize) {
        let Some(Rebuild { first, last, behind }) = self.trees.rebuild().cloned() else { return };
        let is_asked = |key: &StoreKey| {
            (first..=last).contains(&key.partition) && behind.as_ref().is_none_or(|b| key > b)
        };
        let page: Vec<_> = self
            .data
            .applied
            .iter()
            .filter(|(key, _)| is_asked(key))
            .take(count_max)
            .map(|(key, bytes)| (key.clone(), Record::decode(bytes.clone())))
            .collect();
        let next = page.last().filter(|_| page.len() == count_max).map(|(key, _)| key.clone());
        let met = page.into_iter().map(|(key, record)| {
            let added = record.ok().map(|record| record.addend(&key));
            (key, added)
        });
        self.trees.met(met, next);
    }

    /// The trees that the records give.
    pub fn counted_trees(&self) -> Trees {
        let mut trees = Trees::new(CLUSTER);
        for (key, record) in self.data.records() {
            trees.changed(key, None, Some(Addend::of(key, &record.siblings)));
        }
        trees
    }

    /// Reads the trees, at most `count_max` records for keys.
    pub fn read_tree(&mut self, read: &TreeRead, count_max: usize) -> TreeAnswer {
        match (self.trees.answer(read.partition, &read.query), &read.query) {
            (Some(answer), _) => answer,
            (None, TreeQuery::Keys(part)) => {
                TreeAnswer::Keys(self.tree_page(read.partition, part, count_max))
            }
            (None, TreeQuery::Objects(keyspace, keys)) => {
                let keys = keys.iter().take(count_max.max(1));
                let place = |key: &Bytes| StoreKey {
                    partition: read.partition,
                    keyspace: *keyspace,
                    key: key.clone(),
                };
                TreeAnswer::Objects(keys.map(|key| self.held(&place(key))).collect())
            }
            (None, _) => TreeAnswer::NotReady,
        }
    }

    fn held(&mut self, key: &StoreKey) -> Held {
        match self.data.read(key) {
            Ok(None) => Held::Nothing,
            Ok(Some(record)) => Held::Whole(record.siblings),
            Err(_) => {
                if !self.passes_over_damage {
                    self.trees.met_damaged(key);
                }
                Held::Damaged
            }
        }
    }

    fn tree_page(&mut self, partition: PartitionId, part: &Part, count_max: usize) -> TreePage {
        let mut page = TreePage::default();
        let is_asked = |key: &StoreKey| {
            key.partition == partition
                && key.keyspace == part.keyspace
                && part.after.as_ref().is_none_or(|after| key.key > *after)
                && part.until.as_ref().is_none_or(|until| key.key <= *until)
        };
        let records = self.data.applied.iter().filter(|(key, _)| is_asked(key));
        for (count, (key, bytes)) in records.enumerate() {
            if part.buckets.contains(&bucket_of(key)) {
                let record = Record::decode(bytes.clone()).ok();
                if record.is_none() && !self.passes_over_damage {
                    self.trees.met_damaged(key);
                }
                let hash: Option<ObjectHash> = record.map(|record| record.object_hash(key));
                page.keys.push(KeyHash { key: key.key.clone(), hash });
            }
            if count + 1 == count_max {
                page.next = Some(key.key.clone());
                break;
            }
        }
        page
    }

    /// Damages one of the machine's own records, chosen by these numbers.
    pub fn damage(&mut self, chosen: usize, bit: usize) -> Option<StoreKey> {
        self.data.damage(chosen, bit)
    }
}
