//! Records in one store: the engine, the record format over it, and what is known of its health.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use stator_core::codec::DecodeError;
use stator_core::keys::StoreKey;
use stator_core::record::Record;

use super::cache::{RECORD_BYTES_MAX, RecordCache};
use super::chunks::{self, Stored};
use super::engine::{Batch, Engine, EngineError, Fault};
use super::job::{Area, StoreFigures};
use super::meta::{self, Meta};
use super::{Effect, StoreError};
use crate::budget::{ByteBudget, NoRoom};

/// One store as its threads share it.
pub(super) struct Records {
    pub(super) area: Area,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) health: Arc<Health>,
    /// Of the data store.
    pub(super) cache: Option<Arc<RecordCache>>,
}

/// Counters and the reason why a store is out of service. Outlives the engine.
#[derive(Debug, Default)]
pub(super) struct Health {
    objects: AtomicU64,
    sequence: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    damaged: AtomicU64,
    /// The first failure of the engine at a write, until the engine was reopened.
    failure: RwLock<Option<Arc<EngineError>>>,
    reopened: AtomicU64,
    set_aside: RwLock<Option<String>>,
}

impl Health {
    /// Takes the store out of service for writes. The answer is for the job that met `error`.
    pub(super) fn fail(&self, area: Area, error: EngineError, effect: Effect) -> StoreError {
        let store = area.name();
        let mut failure = self.failure.write().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(store, %error, "the store takes no more writes; it still serves reads");
        }
        let why = failure.get_or_insert_with(|| Arc::new(error)).clone();
        StoreError::OutOfService { store, why, effect }
    }

    /// Why the store takes no writes, if it does not.
    pub(super) fn failure(&self) -> Option<Arc<EngineError>> {
        self.failure.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another reason why it takes no writes.
    pub(super) fn fail_for(&self, why: EngineError) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(why));
    }

    /// The engine was reopened: the store takes writes again.
    pub(super) fn recover(&self) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.reopened.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the store was ever out of service in this life.
    pub(super) fn was_reopened(&self) -> bool {
        self.reopened.load(Ordering::Relaxed) > 0
    }

    /// Shows that the store is an empty one in the place of another, or that it no longer is.
    pub(super) fn show_set_aside(&self, why: Option<String>) {
        *self.set_aside.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The error that every write gets, if the store is out of service.
    pub(super) fn out_of_service(&self, area: Area) -> Option<StoreError> {
        let store = area.name();
        let why = self.failure()?;
        Some(StoreError::OutOfService { store, why, effect: Effect::None })
    }

    /// Shows what the store holds after a commit.
    pub(super) fn show(&self, meta: &Meta) {
        self.objects.store(meta.objects, Ordering::Relaxed);
        self.sequence.store(meta.sequence, Ordering::Release);
    }

    /// The number of the latest commit.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    pub(super) fn figures(&self) -> StoreFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreFigures {
            objects: read(&self.objects),
            sequence: read(&self.sequence),
            commits: read(&self.commits),
            syncs: read(&self.syncs),
            damaged_records: read(&self.damaged),
            out_of_service: self.failure().map(|error| format!("{error}; {}", error.cure())),
            reopened: read(&self.reopened),
            set_aside: self.set_aside.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// A record as it was found, with the count of its chunks.
pub(super) enum Found {
    /// Nothing is under the key.
    Missing,
    /// The record.
    Whole(Record, u32),
    /// Something that cannot be read.
    Damaged(DecodeError, u32),
}

impl From<Option<Arc<Record>>> for Found {
    fn from(seen: Option<Arc<Record>>) -> Self {
        seen.map_or(Found::Missing, |record| Found::Whole(Record::clone(&record), 0))
    }
}

/// What was found of a store's counters when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The store was never opened before.
    Nothing,
    /// Its note, as of the last commit that is not lost.
    Noted(Meta),
    /// The note was unreadable: what the records tell.
    Rebuilt(Meta),
}

impl Kept {
    /// The counters as they were found.
    pub(super) fn meta(self) -> Meta {
        match self {
            Kept::Nothing => Meta::default(),
            Kept::Noted(meta) | Kept::Rebuilt(meta) => meta,
        }
    }

    /// The counters to go on with if commits may have been lost: no number is used twice.
    pub(super) fn after_unclean_stop(self) -> Meta {
        match self {
            Kept::Nothing => Meta::default(),
            Kept::Noted(meta) | Kept::Rebuilt(meta) => meta.after_unclean_stop(),
        }
    }
}

impl Records {
    /// The same store, for another thread.
    pub(super) fn share(&self) -> Self {
        Records {
            area: self.area,
            engine: self.engine.clone(),
            health: self.health.clone(),
            cache: self.cache.clone(),
        }
    }

    /// The record of `key`.
    pub(super) fn find(&self, key: &StoreKey) -> Result<Found, EngineError> {
        match self.stored(key, |_| Ok::<_, Infallible>(())) {
            Ok(Ok(stored)) => Ok(self.judge(key, stored)),
            Err(error) => self.unread(key, error),
        }
    }

    /// The record of `key`, from memory if it is kept there. Else its bytes are charged to `budget`
    /// if they are many; none of them is read if they do not fit.
    pub(super) fn find_in(
        &self,
        key: &StoreKey,
        budget: &ByteBudget,
    ) -> Result<Result<Found, NoRoom>, EngineError> {
        let Some(cache) = &self.cache else { return self.read_in(key, budget) };
        let keep = |read: &Result<Result<Found, NoRoom>, EngineError>| match read {
            Ok(Ok(Found::Missing)) => Some((None, 0)),
            Ok(Ok(Found::Whole(record, 0))) => {
                let bytes = record.siblings.weight_bytes();
                (bytes <= RECORD_BYTES_MAX).then(|| (Some(Arc::new(record.clone())), bytes))
            }
            _ => None,
        };
        match cache.get(key) {
            Some(seen) => Ok(Ok(Found::from(seen))),
            None => cache.fill(key, || self.read_in(key, budget), keep),
        }
    }

    fn read_in(
        &self,
        key: &StoreKey,
        budget: &ByteBudget,
    ) -> Result<Result<Found, NoRoom>, EngineError> {
        match self.stored(key, |bytes| budget.check(bytes)) {
            // It may stay in memory, which has a bound of its own.
            Ok(Ok(Stored::Whole(bytes, 0))) if bytes.len() <= RECORD_BYTES_MAX => {
                Ok(Ok(self.judge(key, Stored::Whole(bytes, 0))))
            }
            Ok(Ok(Stored::Whole(bytes, count))) => Ok(budget
                .charge(bytes)
                .map(|charged| self.judge(key, Stored::Whole(charged, count)))),
            Ok(Ok(other)) => Ok(Ok(self.judge(key, other))),
            Ok(Err(no_room)) => Ok(Err(no_room)),
            Err(error) => self.unread(key, error).map(Ok),
        }
    }

    fn stored<E>(
        &self,
        key: &StoreKey,
        fits: impl Fn(usize) -> Result<(), E>,
    ) -> Result<Result<Stored, E>, EngineError> {
        let read = || chunks::get(&*self.engine, &key.encode(), &fits);
        // A medium may fail once and read the next time.
        read().or_else(|error| match error.fault {
            Fault::Medium => read(),
            _ => Err(error),
        })
    }

    fn unread(&self, key: &StoreKey, error: EngineError) -> Result<Found, EngineError> {
        if !matches!(error.fault, Fault::Damage | Fault::Medium) {
            return Err(error);
        }
        tracing::warn!(store = self.area.name(), %error, "a record cannot be read");
        Ok(self.damaged(key, DecodeError::Damaged { what: "place on disk" }, 0))
    }

    /// Keeps what was written, where it is small.
    pub(super) fn keep(&self, written: Vec<(&StoreKey, Option<Bytes>)>) {
        let Some(cache) = &self.cache else { return };
        for (key, bytes) in written {
            match bytes.filter(|bytes| bytes.len() <= RECORD_BYTES_MAX) {
                Some(bytes) => cache.put(key, bytes),
                None => cache.remove(key),
            }
        }
    }

    /// It is unknown what the engine holds.
    pub(super) fn forget_kept(&self) {
        self.cache.iter().for_each(|cache| cache.clear());
    }

    /// Decodes `stored`; damage is counted and told.
    pub(super) fn judge(&self, key: &StoreKey, stored: Stored) -> Found {
        match stored {
            Stored::Missing => Found::Missing,
            Stored::Torn(count) => {
                self.damaged(key, DecodeError::Damaged { what: "chunked record" }, count)
            }
            Stored::Whole(bytes, count) => match Record::decode(bytes) {
                Ok(record) => Found::Whole(record, count),
                Err(why) => self.damaged(key, why, count),
            },
        }
    }

    fn damaged(&self, key: &StoreKey, why: DecodeError, count: u32) -> Found {
        self.health.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            store = self.area.name(),
            partition = %key.partition,
            keyspace = %key.keyspace,
            key = %key.key.escape_ascii(),
            %why,
            "a record is damaged and counts as missing"
        );
        Found::Damaged(why, count)
    }

    /// Visits every key from the first on, with its record.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(StoreKey, Found),
    ) -> Result<(), EngineError> {
        /// Records of 1 MiB make a page of 64 MiB.
        const PAGE: usize = 64;
        let mut from = Vec::new();
        loop {
            let page = chunks::scan(&*self.engine, &from, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            // The smallest key above the last one.
            from = [&last[..], &[0]].concat();
            for (bytes, stored) in page {
                match StoreKey::decode(&bytes) {
                    Some(key) => {
                        let found = self.judge(&key, stored);
                        visit(key, found);
                    }
                    None => tracing::warn!(
                        store = self.area.name(),
                        key = %bytes.escape_ascii(),
                        "an entry of the store has no physical key and is passed over"
                    ),
                }
            }
        }
    }

    /// What the store says about itself, from its note or, if that cannot be read, its records.
    pub(super) fn kept(&self) -> Result<Kept, EngineError> {
        let why = match chunks::note(&*self.engine, meta::NAME)?.map(Meta::decode) {
            Some(Ok(meta)) => return Ok(Kept::Noted(meta)),
            Some(Err(why)) => why.to_string(),
            None if chunks::scan(&*self.engine, &[], 1)?.is_empty() => return Ok(Kept::Nothing),
            None => "it is missing".to_owned(),
        };
        tracing::warn!(store = self.area.name(), why, "the store's note is rebuilt from records");
        let mut meta = Meta::default();
        self.for_each(|_, found| {
            meta.objects += 1;
            if let Found::Whole(record, _) = found {
                meta.sequence = meta.sequence.max(record.sequence);
            }
        })?;
        meta.forgotten = meta.sequence;
        Ok(Kept::Rebuilt(meta))
    }

    /// Writes the store's note, durably, ahead of the first commit.
    pub(super) fn note(&self, meta: &Meta) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        chunks::put_note(&mut batch, meta::NAME, meta.encode());
        self.engine.apply(batch)?;
        self.engine.sync()
    }
}
