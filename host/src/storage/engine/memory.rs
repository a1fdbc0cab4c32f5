//! The engine that keeps everything in memory: for tests, and for nodes whose data may be lost.
//!
//! It knows which changes were synced and which were not, so that a test can take back what a
//! power cut would have taken ([`MemoryEngine::forget_unsynced`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, Entries};

/// An engine in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Bytes, Bytes>,
    /// What each key was before its changes since the last sync, oldest change first.
    undo: Vec<(Bytes, Option<Bytes>)>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: everything that was applied since the last sync is gone.
    pub fn forget_unsynced(&self) {
        let mut state = self.write();
        let undo = std::mem::take(&mut state.undo);
        for (key, before) in undo.into_iter().rev() {
            state.set(key, before);
        }
    }

    // A panic elsewhere cannot leave the map half changed: no code under the lock panics.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sets or removes `key`; the answer is what it was.
    fn set(&mut self, key: Bytes, value: Option<Bytes>) -> Option<Bytes> {
        match value {
            Some(value) => self.entries.insert(key, value),
            None => self.entries.remove(&key),
        }
    }
}

impl Engine for MemoryEngine {
    fn describe(&self) -> String {
        "memory engine".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.read().entries.get(key).cloned())
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        let mut state = self.write();
        for (key, value) in batch.into_ops() {
            let key = Bytes::from(key);
            let before = state.set(key.clone(), value);
            state.undo.push((key, before));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.write().undo.clear();
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        Ok(self
            .read()
            .entries
            .range::<[u8], _>(range)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}
