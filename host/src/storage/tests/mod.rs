//! The stores as their callers see them, over engines that tests can hold, break and cut off.

mod bench;
mod changes;
mod child;
mod crashes;
mod damage;
mod disks;
pub(super) mod doubles;
mod drops;
mod failures;
mod flips;
mod full_disk;
mod held_hints;
mod homes;
mod index;
mod kills;
mod power_cut;
mod scans;
mod set_aside;
mod trees;
mod usage;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::version::Payload;
use stator_core::write::{Change, Draft, SiblingLimits};

use super::engine::{Engine, MemoryEngine};
use super::{
    Area, Done, Effect, HeldHint, Home, ListHintsJob, LoadJob, StoreError, StoreOptions, Stores,
    WriteDone, WriteJob,
};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

/// A data directory with engines that live on when the stores are closed.
struct Rig {
    directory: tempfile::TempDir,
    data: MemoryEngine,
    hints: MemoryEngine,
    options: StoreOptions,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for area in [Area::Data, Area::Hints] {
            std::fs::create_dir(directory.path().join(area.name())).unwrap();
        }
        Rig {
            directory,
            data: MemoryEngine::new(),
            hints: MemoryEngine::new(),
            // Nothing is synced that no test asked for.
            options: StoreOptions {
                sync_within: Duration::from_secs(3600),
                ..StoreOptions::default()
            },
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn open(&self) -> Stores {
        self.open_on(Arc::new(self.data.clone()))
    }

    fn open_on(&self, data: Arc<dyn Engine>) -> Stores {
        let home = Arc::new(Home::open(self.path()).unwrap());
        Stores::on(home, &self.options, data, Arc::new(self.hints.clone())).unwrap()
    }
}

fn key(name: &str) -> StoreKey {
    StoreKey {
        partition: PartitionId(3),
        keyspace: KeyspaceId(7),
        key: name.as_bytes().to_vec().into(),
    }
}

fn mint(context: Context, value: impl Into<Bytes>) -> Change {
    Change::Mint {
        passed_ms: 0,
        ancestors: Default::default(),
        until_ms: u64::MAX,
        is_lent: false,
        allowance: None,
        context,
        draft: Draft {
            payload: Payload::Value(value.into()),
            schema: 0,
            ttl_ms: None,
            labels: BTreeMap::new(),
            request: None,
        },
        now_ms: 1_000,
        limits: SiblingLimits { siblings_max: 1000, siblings_bytes_max: 64 << 20 },
    }
}

/// A blind put of `value` in the data store.
fn put_job(name: &str, value: &str, sync: bool, done: Done<WriteDone>) -> WriteJob {
    WriteJob {
        area: Area::Data,
        key: key(name),
        change: mint(Context::default(), value.to_owned()),
        targets: Vec::new(),
        survivors: Survivors::All,
        sync,
        until: None,
        applied: None,
        done,
    }
}

/// A `done` with the channel on which its answer comes.
fn reply<T: Send + 'static>() -> (Done<T>, Reply<T>) {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    (done, Reply(receiver))
}

struct Reply<T>(mpsc::Receiver<Result<T, StoreError>>);

impl<T> Reply<T> {
    /// Waits for the answer; one that never comes fails the test.
    fn get(self) -> Result<T, StoreError> {
        self.0.recv_timeout(Duration::from_secs(60)).expect("the answer never came")
    }
}

fn queue_put(stores: &Stores, name: &str, value: &str, sync: bool) -> Reply<WriteDone> {
    let (done, reply) = reply();
    stores.write(put_job(name, value, sync, done));
    reply
}

fn put(stores: &Stores, name: &str, value: &str) -> WriteDone {
    queue_put(stores, name, value, true).get().unwrap()
}

fn sync(stores: &Stores, area: Area, name: &str, siblings: &Arc<Siblings>) -> WriteDone {
    let (done, reply) = reply();
    stores.write(WriteJob {
        area,
        key: key(name),
        change: Change::Sync(siblings.clone()),
        targets: if area == Area::Hints { vec![A] } else { Vec::new() },
        survivors: Survivors::All,
        sync: true,
        until: None,
        applied: None,
        done,
    });
    reply.get().unwrap()
}

fn hint(
    stores: &Stores,
    name: &str,
    value: &str,
    targets: &[NodeId],
) -> Result<WriteDone, StoreError> {
    let (done, reply) = reply();
    stores.write(WriteJob {
        area: Area::Hints,
        targets: targets.to_vec(),
        ..put_job(name, value, false, done)
    });
    reply.get()
}

fn load(stores: &Stores, name: &str) -> Result<Option<Arc<Siblings>>, StoreError> {
    load_from(stores, name, false)
}

fn load_from(
    stores: &Stores,
    name: &str,
    from_hints_too: bool,
) -> Result<Option<Arc<Siblings>>, StoreError> {
    let (done, reply) = reply();
    stores.load(LoadJob { key: key(name), from_hints_too, done });
    reply.get()
}

fn list(stores: &Stores, target: NodeId, after: Option<&str>, hints_max: usize) -> Vec<HeldHint> {
    let (done, reply) = reply();
    let (after, bytes_max) = (after.map(key), usize::MAX);
    stores.list_hints(ListHintsJob { target, after, hints_max, bytes_max, done });
    reply.get().unwrap()
}

fn settle(stores: &Stores, target: NodeId, name: &str, sequence: u64) -> bool {
    let (done, reply) = reply();
    stores.settle_hint(target, key(name), sequence, done);
    reply.get().unwrap()
}

fn values(siblings: &Siblings) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let versions = siblings.versions();
    versions.iter().filter_map(|live| live.version.payload.value().map(text)).collect()
}
