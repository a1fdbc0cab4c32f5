//! An engine that does what a test tells it to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;

use super::super::engine::{Batch, Engine, EngineError, Entries, Fault, MemoryEngine};

/// Fails calls on demand, and holds up applies so that jobs queue behind one.
#[derive(Default)]
pub(in crate::storage) struct Scripted {
    pub(in crate::storage) engine: MemoryEngine,
    fails_get: Mutex<Option<Fault>>,
    pub(in crate::storage) fails_apply: AtomicBool,
    pub(in crate::storage) fails_sync: AtomicBool,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    is_shut: bool,
    is_awaited: bool,
}

impl Scripted {
    pub(in crate::storage) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next applies wait until [`Self::let_go`].
    pub(in crate::storage) fn hold_up(&self) {
        self.gate.lock().unwrap().is_shut = true;
    }

    /// Waits until an apply is held up.
    pub(in crate::storage) fn await_apply(&self) {
        let gate = self.gate.lock().unwrap();
        drop(self.changed.wait_while(gate, |gate| !gate.is_awaited).unwrap());
    }

    pub(in crate::storage) fn let_go(&self) {
        self.gate.lock().unwrap().is_shut = false;
        self.changed.notify_all();
    }

    /// The next reads of keys fail so, or no longer.
    pub(in crate::storage) fn fail_gets(&self, fault: Option<Fault>) {
        *self.fails_get.lock().unwrap() = fault;
    }

    fn failure(&self, doing: &'static str, fault: Fault, why: &str) -> EngineError {
        EngineError { engine: self.describe(), doing, fault, why: why.to_owned() }
    }

    fn check(&self, fails: &AtomicBool, doing: &'static str) -> Result<(), EngineError> {
        if fails.load(Ordering::SeqCst) {
            return Err(self.failure(doing, Fault::Full, "no space left on device"));
        }
        Ok(())
    }
}

impl Engine for Scripted {
    fn describe(&self) -> String {
        "scripted engine".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match *self.fails_get.lock().unwrap() {
            Some(fault) => Err(self.failure("get", fault, "input/output error")),
            None => self.engine.get(key),
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        // Before the gate, so that a test can hold one apply up and fail the next.
        self.check(&self.fails_apply, "apply")?;
        let mut gate = self.gate.lock().unwrap();
        gate.is_awaited = true;
        self.changed.notify_all();
        let mut gate = self.changed.wait_while(gate, |gate| gate.is_shut).unwrap();
        gate.is_awaited = false;
        drop(gate);
        self.engine.apply(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.check(&self.fails_sync, "sync")?;
        self.engine.sync()
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        self.engine.scan(from, to, limit)
    }
}
