//! What is done to the nodes, one after the other.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stator_client::Admin;
use stator_proto::v1;
use tokio::time::sleep;

use crate::local::{Addresses, Nodes};

/// Faults that follow from a seed.
pub struct Faults {
    rng: StdRng,
    cut_off: u64,
    killed: u64,
    stopped: u64,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Faults { rng: StdRng::seed_from_u64(seed), cut_off: 0, killed: 0, stopped: 0 }
    }

    /// How many nodes were cut off, killed and stopped.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        (self.cut_off, self.killed, self.stopped)
    }

    /// Does something to a node, undoes it after a while, and says what it was.
    ///
    /// # Errors
    /// The node does not come back.
    pub(super) async fn next(&mut self, nodes: &mut Nodes, at: &[Addresses]) -> Result<String> {
        let node = self.rng.random_range(0..at.len());
        let number = node + 1;
        let lasts = Duration::from_millis(self.rng.random_range(300..3_000));
        let seconds = lasts.as_secs_f64();
        let what = match self.rng.random_range(0..3) {
            0 => {
                isolate(&at[node], true).await;
                sleep(lasts).await;
                isolate(&at[node], false).await;
                self.cut_off += 1;
                format!("node {number} was cut off for {seconds:.1} s")
            }
            1 => {
                nodes.kill(node).await;
                sleep(lasts).await;
                nodes.restart(node).await?;
                self.killed += 1;
                format!("node {number} was killed, and started again after {seconds:.1} s")
            }
            _ => {
                nodes.signal(node, libc::SIGSTOP);
                sleep(lasts).await;
                nodes.signal(node, libc::SIGCONT);
                self.stopped += 1;
                format!("node {number} stood still for {seconds:.1} s")
            }
        };
        sleep(Duration::from_millis(self.rng.random_range(200..1_500))).await;
        Ok(what)
    }

    /// Heals what may be left.
    pub(super) async fn heal(&self, nodes: &mut Nodes, at: &[Addresses]) -> Result<()> {
        for (node, addresses) in at.iter().enumerate() {
            nodes.signal(node, libc::SIGCONT);
            isolate(addresses, false).await;
        }
        Ok(())
    }
}

/// Cuts a node off from the others, or heals it. One that does not answer is healed by its start.
async fn isolate(node: &Addresses, isolated: bool) {
    if let Ok(admin) = Admin::connect([&node.admin]) {
        let _ = admin.set_fault(v1::SetFaultRequest { isolated }).await;
    }
}
