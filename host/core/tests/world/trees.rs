//! The hash trees of a host: counted from its records when they are asked for, and kept up to
//! date by its writes from then on.

use std::ops::Bound;

use stator_core::event::Area;
use stator_core::id::{ClusterId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::tree::{
    KeyHash, Part, TreeAnswer, TreePage, TreeQuery, TreeRead, Trees, bucket_of, object_hash,
};

use super::Host;

impl Host {
    fn trees(&mut self) -> &Trees {
        let store = &self.store;
        self.trees.get_or_insert_with(|| {
            let mut trees = Trees::new(ClusterId(1));
            let data = store.iter().filter(|((area, _), _)| *area == Area::Data);
            data.for_each(|((_, key), record)| {
                trees.changed(key, None, Some(object_hash(key, &record.siblings)));
            });
            trees
        })
    }

    pub(super) fn read_tree(&mut self, read: &TreeRead) -> TreeAnswer {
        match (self.trees().answer(read.partition, &read.query), &read.query) {
            (Some(answer), _) => answer,
            (None, TreeQuery::Keys(part)) => TreeAnswer::Keys(self.keys(read.partition, part)),
            (None, _) => panic!("trees answer all but keys"),
        }
    }

    /// Looks at [`Host::page_max`] records at most.
    fn keys(&self, partition: PartitionId, part: &Part) -> TreePage {
        let keyspace = part.keyspace;
        let place =
            |key: &bytes::Bytes| (Area::Data, StoreKey { partition, keyspace, key: key.clone() });
        let from = match &part.after {
            Some(after) => Bound::Excluded(place(after)),
            None => Bound::Included(place(&bytes::Bytes::new())),
        };
        let mut page = TreePage::default();
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
                let hash = (!is_damaged).then(|| object_hash(key, &record.siblings));
                page.keys.push(KeyHash { key: key.key.clone(), hash });
            }
            if count + 1 == self.page_max {
                page.next = Some(key.key.clone());
                break;
            }
        }
        page
    }
}
