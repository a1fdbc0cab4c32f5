//! The signals that ask a process to end, or to read its certificates again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::server::Certificates;

/// SIGTERM and ctrl-c, watched from its making on.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Stop {
            terminate: watched(SignalKind::terminate())?,
            interrupt: watched(SignalKind::interrupt())?,
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

/// SIGHUP, which would end the process were it not watched.
pub(super) fn hangup() -> Result<Signal, Failure> {
    watched(SignalKind::hangup())
}

/// Reads changed certificates at each signal, for ever.
pub(super) async fn renew(mut hangup: Signal, certificates: Certificates) {
    while hangup.recv().await.is_some() {
        certificates.reload().await;
    }
}

fn watched(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::refused(format!("cannot watch for signals: {error}")))
}
