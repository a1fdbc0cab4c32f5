//! The place of a store's engine, which can be taken out and replaced while the store runs.
//!
//! A call keeps the engine it began with. So whoever takes an engine out waits for the calls that
//! are under way before it lets go of the engine's files ([`Slot::let_go`]).

use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::{Batch, Engine, EngineError, Entries, Fault};

/// Holds an engine, or why there is none at the moment.
pub(super) struct Slot {
    name: String,
    engine: RwLock<Result<Arc<dyn Engine>, EngineError>>,
}

impl Slot {
    pub(super) fn new(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Slot { name: engine.describe(), engine: RwLock::new(Ok(engine)) })
    }

    fn engine(&self) -> Result<Arc<dyn Engine>, EngineError> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves `next` in place of what was there.
    pub(super) fn replace(
        &self,
        next: Result<Arc<dyn Engine>, EngineError>,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *engine, next)
    }

    /// Takes the engine out and closes it; answers when its files are closed.
    ///
    /// # Errors
    /// That was not done within `within`; it goes on in the background.
    pub(super) fn let_go(&self, within: Duration) -> Result<(), EngineError> {
        let Ok(engine) = self.replace(Err(self.absent("it is being reopened"))) else {
            return Ok(());
        };
        let give_up_at = Instant::now() + within;
        let (closed, is_closed) = mpsc::channel();
        let close = move || {
            while Arc::strong_count(&engine) > 1 && Instant::now() < give_up_at {
                thread::sleep(Duration::from_millis(1));
            }
            drop(engine);
            let _ = closed.send(());
        };
        let spawned = thread::Builder::new().name("store-close".to_owned()).spawn(close);
        let is_in_time = spawned.is_ok()
            // A panic while it closes is an end, too: what is open then is found out by the lock.
            && is_closed.recv_timeout(within) != Err(mpsc::RecvTimeoutError::Timeout);
        if is_in_time {
            return Ok(());
        }
        let error = self.absent(&format!("it did not close within {} s", within.as_secs()));
        drop(self.replace(Err(error.clone())));
        Err(error)
    }

    fn absent(&self, why: &str) -> EngineError {
        let (engine, why) = (self.name.clone(), why.to_owned());
        EngineError { engine, doing: "access", fault: Fault::Refused, why }
    }
}

impl Engine for Slot {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine()?.get(key)
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        self.engine()?.apply(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine()?.sync()
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        self.engine()?.scan(from, to, limit)
    }
}
