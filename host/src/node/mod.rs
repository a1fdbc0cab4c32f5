//! A running node without its listeners for clients and operators: stores, transport, driver and
//! merge host, put together.
//!
//! `start` puts them together, `cluster` makes a cluster of several nodes, `modules` keeps merge
//! modules, `read` makes what a reader gets, `watch` tells what is changed here, `conflicts` does what follows from merges. The gRPC services in [`crate::api`] call what is
//! public here.

mod acquaint;
pub mod audit;
mod cluster;
mod conflicts;
mod contact;
mod modules;
mod read;
mod ring;
mod secrets;
mod start;
mod walk;
mod watch;

use std::sync::Arc;

use stator_core::catalogue::Catalogue;
use stator_core::founding::Promise;
use stator_core::id::{ClusterId, Incarnation, NodeId};

use contact::Contact;

use crate::config::Config;
use crate::conflicts::Conflicts;
use crate::driver::{Clock, DriverHandle};
use crate::journal::Journal;
use crate::merge::MergeHost;
use crate::storage::{Home, Stores};
use crate::transport::Transport;

pub use cluster::{InitError, InitRequest};
pub use modules::{ModuleFiles, ModuleKeeper};
pub use read::Reading;
pub use ring::JoinError;
pub use start::{Addresses, StartError};
pub use walk::{Keys, Page, Place, WalkError};
pub use watch::{Begin, Place as WatchPlace, Told, WatchError};

/// A running node.
pub struct Node {
    /// Its id, made with the data directory.
    pub id: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its settings.
    pub config: Config,
    /// Where it is reached.
    pub addresses: Addresses,
    /// When it started: milliseconds since 1970 (UTC).
    pub started_at_ms: u64,
    /// The way into the protocol.
    pub driver: DriverHandle,
    /// Its stores.
    pub stores: Arc<Stores>,
    /// Its merge modules.
    pub merges: MergeHost,
    /// Their bytes.
    pub modules: Arc<ModuleKeeper>,
    /// Its merges: the way to them, and what is on record.
    pub conflicts: Conflicts,
    /// Its connections to peers.
    pub transport: Transport,
    /// Its clock.
    pub clock: Clock,
    /// Who called what that changes something, if that is kept.
    pub audit: Option<Journal<audit::Call>>,
    home: Arc<Home>,
    derived: secrets::Derived,
    /// One `cluster init` at a time.
    initialising: tokio::sync::Mutex<()>,
    /// The cluster that this node is making, until that is decided.
    making: std::sync::Mutex<Option<ClusterId>>,
    /// What this node has promised to another that makes one.
    promised: std::sync::Mutex<Option<Promise>>,
    contact: Arc<Contact>,
    driver_task: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Node {
    /// Since when this node, should it be removed, has had no contact with a member: milliseconds
    /// since 1970 (UTC).
    pub fn alone_since_ms(&self, catalogue: &Catalogue) -> u64 {
        self.contact.alone_since_ms(&catalogue.removed)
    }

    /// The catalogue, if the node belongs to a cluster.
    pub fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.driver.shared().catalogue()
    }

    /// Stops: no more messages, no more requests; then the stores are synced and closed, with
    /// the note by which the next start knows that nothing was lost.
    pub async fn shutdown(&self) {
        self.driver.stop();
        let task = self.driver_task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            // It ends by itself at the stop.
            let _ = task.await;
        }
        self.transport.shutdown().await;
        let stores = self.stores.clone();
        match tokio::task::spawn_blocking(move || stores.close()).await {
            Ok(Ok(())) => tracing::info!("stopped cleanly"),
            Ok(Err(error)) => tracing::error!(%error, "stopped, but not cleanly"),
            Err(error) => tracing::error!(%error, "stopped, but not cleanly"),
        }
    }
}
