//! The signals that ask a process to end, or to read its certificates again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::output;
use crate::server::Certificates;

/// SIGTERM and ctrl-c, watched from its making on.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    interrupts: u32,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Stop {
            terminate: watched(SignalKind::terminate())?,
            interrupt: watched(SignalKind::interrupt())?,
            interrupts: 0,
        })
    }

    /// Returns when one of them comes.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => self.interrupts += 1,
        }
        if self.interrupts > 0 {
            output::say("stopping; ctrl-c once more to stop at once");
        }
    }

    /// Returns when somebody at a keyboard has pressed ctrl-c twice. SIGTERM says the same however
    /// often it comes: an orchestrator and an operator may both send it.
    pub(super) async fn insisted(&mut self) {
        while self.interrupts < 2 {
            self.requested().await;
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
