//! The hash trees of a host: counted from its records when they are asked for, and kept up to
//! date by its writes from then on.

use std::ops::Bound;

use stator_core::collect::{DuePlace, IndexPage, IndexQuery, Listed};
use stator_core::event::Area;
use stator_core::id::{ClusterId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::tree::{
    Addend, Held, KeyHash, Part, TreeAnswer, TreePage, TreeQuery, TreeRead, Trees, bucket_of,
    object_hash,
};

use super::Host;

impl Host {
    fn trees(&mut self) -> &mut Trees {
        let (store, damaged) = (&self.store, &self.damaged);
        let data = || store.iter().filter(|((area, _), _)| *area == Area::Data);
        let trees = self.trees.get_or_insert_with(|| {
            let mut trees = Trees::new(ClusterId(1));
            // What has rotted was counted before.
            data().for_each(|((_, key), record)| {
                trees.changed(key, None, Some(Addend::of(key, &record.siblings)));
            });
            trees
        });
        // What is distrusted is counted anew at once.
        while let Some(rebuild) = trees.rebuild().cloned() {
            let range = rebuild.first..=rebuild.last;
            let asked = data().filter(|((_, key), _)| range.contains(&key.partition));
            let met = asked.map(|((_, key), record)| {
                let is_whole = !damaged.contains(&key.key);
                (key.clone(), is_whole.then(|| Addend::of(key, &record.siblings)))
            });
            trees.met(met, None);
        }
        trees
    }

    /// What collection is to look at, found by reading everything.
    pub(super) fn read_index(&self, query: &IndexQuery, count_max: usize) -> IndexPage {
        let data = self.store.iter().filter(|((area, _), _)| *area == Area::Data);
        let listed = data.map(|((_, key), record)| (key, record, Listed::of(record, 0, 8)));
        match query {
            IndexQuery::Forgettable { from, after } => {
                let is_asked = |key: &StoreKey| match after {
                    Some(after) => key > after,
                    None => key.partition >= *from,
                };
                let found = listed
                    .filter(|(key, _, l)| l.is_forgettable && is_asked(key))
                    .map(|(key, r, _)| (key.clone(), r.object_hash(key), r.siblings.is_deleted()));
                let mut found: Vec<_> = found.take(count_max).collect();
                let first = found.first().map(|(key, ..)| key.partition);
                found.retain(|(key, ..)| Some(key.partition) == first);
                IndexPage::Forgettable(found)
            }
            IndexQuery::Due { until_ms, after } => {
                let due = listed.filter_map(|(key, _, l)| Some((l.due_ms?, key.clone())));
                let is_asked = |place: &DuePlace| {
                    place.0 <= *until_ms && after.as_ref().is_none_or(|after| place > after)
                };
                IndexPage::Due(due.filter(is_asked).take(count_max).collect())
            }
        }
    }

    pub(super) fn read_tree(&mut self, read: &TreeRead) -> TreeAnswer {
        match (self.trees().answer(read.partition, &read.query), &read.query) {
            (Some(answer), _) => answer,
            (None, TreeQuery::Keys(part)) => TreeAnswer::Keys(self.keys(read.partition, part)),
            (None, TreeQuery::Objects(keyspace, keys)) => {
                let place = |key: &bytes::Bytes| StoreKey {
                    partition: read.partition,
                    keyspace: *keyspace,
                    key: key.clone(),
                };
                let keys: Vec<StoreKey> = keys.iter().take(self.page_max).map(place).collect();
                TreeAnswer::Objects(keys.into_iter().map(|key| self.held(key)).collect())
            }
            (None, _) => panic!("trees answer all but keys and objects"),
        }
    }

    fn held(&mut self, key: StoreKey) -> Held {
        if self.damaged.contains(&key.key) {
            self.trees().met_damaged(&key);
            return Held::Damaged;
        }
        let record = self.store.get(&(Area::Data, key));
        record.map_or(Held::Nothing, |record| Held::Whole(record.siblings.clone()))
    }

    /// Looks at [`Host::page_max`] records at most.
    fn keys(&mut self, partition: PartitionId, part: &Part) -> TreePage {
        let keyspace = part.keyspace;
        let place =
            |key: &bytes::Bytes| (Area::Data, StoreKey { partition, keyspace, key: key.clone() });
        let from = match &part.after {
            Some(after) => Bound::Excluded(place(after)),
            None => Bound::Included(place(&bytes::Bytes::new())),
        };
        let (mut page, mut damaged) = (TreePage::default(), Vec::new());
        for (count, ((area, key), record)) in self.store.range((from, Bound::Unbounded)).enumerate()
        {
            let is_behind = part.until.as_ref().is_some_and(|until| key.key > *until);
            if (*area, key.partition, key.keyspace) != (Area::Data, partition, keyspace)
                || is_behind
            {
                break;
            }
            if part.buckets.contains(&bucket_of(key)) {
                let is_damaged = self.damaged.contains(&key.key);
                damaged.extend(is_damaged.then(|| key.clone()));
                let hash = (!is_damaged).then(|| object_hash(key, &record.siblings));
                page.keys.push(KeyHash { key: key.key.clone(), hash });
            }
            if count + 1 == self.page_max {
                page.next = Some(key.key.clone());
                break;
            }
        }
        damaged.iter().for_each(|key| self.trees().met_damaged(key));
        page
    }
}
