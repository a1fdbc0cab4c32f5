//! When this node last had contact with each of the others.
//!
//! Should it turn out that it was removed from the cluster, what it wrote after its last contact
//! with one who is a member still can have reached none of them ([`stator_core::homecoming`]).
//! That is kept over restarts: a node that comes back hears of its removal later than it lost
//! contact. After a crash in the middle of a session the next start counts as its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use stator_core::catalogue::Removed;
use stator_core::id::NodeId;
use tokio::sync::watch;

use crate::driver::Clock;
use crate::storage::{Home, HomeError};

const CONTACT_FILE: &str = "contact";

/// Per node the end of the last session, in milliseconds since 1970 (UTC); `None` while it lasts.
type Ends = BTreeMap<NodeId, Option<u64>>;

/// The times of last contact, and the task that keeps them.
pub(super) struct Contact {
    ends: watch::Sender<Ends>,
    clock: Clock,
    started_at_ms: u64,
}

impl Contact {
    /// Reads what is kept in `home`. Blocks.
    ///
    /// # Errors
    /// The file cannot be read. A damaged one counts as none.
    pub fn load(home: &Home) -> Result<BTreeMap<NodeId, Option<u64>>, HomeError> {
        match home.load(CONTACT_FILE) {
            Ok(kept) => {
                Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
            }
            Err(HomeError::Damaged { .. }) => Ok(Ends::new()),
            Err(error) => Err(error),
        }
    }

    /// Goes on with what was kept, and keeps it from now on.
    pub fn start(home: Arc<Home>, mut kept: Ends, clock: Clock) -> Self {
        let started_at_ms = clock.now().wall_ms;
        kept.values_mut().for_each(|end| *end = end.or(Some(started_at_ms)));
        let (ends, mut changes) = watch::channel(kept);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let bytes = serde_json::to_vec(&*changes.borrow_and_update()).unwrap_or_default();
                let home = home.clone();
                let saved = move || home.save(CONTACT_FILE, &bytes);
                if let Ok(Err(error)) = tokio::task::spawn_blocking(saved).await {
                    tracing::warn!(%error, "the times of last contact are not kept");
                }
            }
        });
        Contact { ends, clock, started_at_ms }
    }

    /// A session with `peer` begins.
    pub fn began(&self, peer: NodeId) {
        self.ends.send_if_modified(|ends| ends.insert(peer, None) != Some(None));
    }

    /// It has ended.
    pub fn ended(&self, peer: NodeId) {
        let now_ms = self.clock.now().wall_ms;
        self.ends.send_if_modified(|ends| ends.insert(peer, Some(now_ms)) != Some(Some(now_ms)));
    }

    /// Since when this node has had no contact with any but the `removed`.
    pub fn alone_since_ms(&self, removed: &BTreeMap<NodeId, Removed>) -> u64 {
        let ends = self.ends.borrow();
        let members = ends.iter().filter(|(node, _)| !removed.contains_key(node));
        let now_ms = self.clock.now().wall_ms;
        let last = members.map(|(_, end)| end.unwrap_or(now_ms)).max();
        // Nobody knows what was before this file.
        last.unwrap_or(self.started_at_ms)
    }
}
