//! The signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// SIGTERM and ctrl-c, watched from its making on.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind)
                .map_err(|error| Failure::refused(format!("cannot watch for signals: {error}")))
        };
        Ok(Stop {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    /// Returns when a signal comes that has not been waited for.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
