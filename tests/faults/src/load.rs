//! A steady load: clients at every node, that write, read, replace and delete all the time.
//!
//! Each lane has one node and a client that retries only what cannot do harm, so a node that is
//! in trouble shows in the errors. Lanes share some keys, so that both sides of a cut write the
//! same ones; what a lane replaces is what it has read, no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use stator_client::{Client, Effect, Entry, Error, Options, plain};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ledger::{Ledger, Outcome};

/// The keyspace of the load: three replicas, r = w = 2, synced everywhere.
pub const KEYSPACE: &str = "faults";
/// How many lanes each node has.
const LANES_PER_NODE: usize = 2;
/// How many keys all lanes share.
const SHARED_KEYS: u64 = 40;
/// A lane's pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request may take, retries and all.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What was answered to the load of one scenario.
#[derive(Debug, Default)]
pub struct Tally {
    /// Writes that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Of those, the ones some of whose copies were hints.
    pub hinted: AtomicU64,
    /// Gets that were answered.
    pub reads: AtomicU64,
    /// Errors by gRPC code, reason and effect.
    pub errors: Mutex<BTreeMap<(String, String, &'static str), u64>>,
    is_stopped: AtomicBool,
}

/// The load of one scenario.
#[derive(Debug)]
pub struct Load {
    /// What was answered so far.
    pub tally: Arc<Tally>,
    lanes: Vec<JoinHandle<()>>,
}

/// What a lock guards is whole at every moment: nothing under it panics.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client of one node.
pub fn client(endpoint: &str) -> Result<Client> {
    let mut options = Options::default();
    options.timeout = TIMEOUT;
    Ok(Client::over(vec![plain(endpoint)?], options)?)
}

impl Load {
    /// Starts lanes at all `endpoints`; their keys begin with `name`, their values have about
    /// `value_bytes`.
    pub fn start(
        name: &str,
        value_bytes: usize,
        endpoints: &[String],
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Result<Load> {
        let tally = Arc::new(Tally::default());
        let mut lanes = Vec::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            for lane in 0..LANES_PER_NODE {
                let lane = Lane {
                    name: format!("{name}-{}-{lane}", at + 1),
                    scenario: name.to_owned(),
                    padding: ".".repeat(value_bytes),
                    client: client(endpoint)?,
                    ledger: ledger.clone(),
                    tally: tally.clone(),
                };
                lanes.push(tokio::spawn(lane.run()));
            }
        }
        Ok(Load { tally, lanes })
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.tally.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it: what is under way is waited for.
    pub async fn stop(self) -> Result<Arc<Tally>> {
        self.tally.is_stopped.store(true, Ordering::Relaxed);
        for lane in self.lanes {
            lane.await?;
        }
        Ok(self.tally)
    }
}

struct Lane {
    name: String,
    scenario: String,
    padding: String,
    client: Client,
    ledger: Arc<Mutex<Ledger>>,
    tally: Arc<Tally>,
}

impl Lane {
    async fn run(self) {
        for number in 0_u64.. {
            if self.tally.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            let value = format!("{}-v{number}{}", self.name, self.padding);
            let own_key = format!("{}-k{}", self.name, number / 8);
            // All lanes walk through these alike, so that they meet.
            let shared_key = format!("{}-shared-{}", self.scenario, number / 8 % SHARED_KEYS);
            match number % 8 {
                0 => self.put(blind(&own_key), &value).await,
                1 | 2 => self.replace(&own_key, Some(&value)).await,
                3 if number % 16 > 8 => self.replace(&own_key, None).await,
                4 => self.put(blind(&shared_key), &value).await,
                5 | 6 => self.replace(&shared_key, Some(&value)).await,
                7 if number % 16 > 8 => self.replace(&shared_key, None).await,
                _ => drop(self.read(&own_key).await),
            }
            sleep(PAUSE).await;
        }
    }

    async fn read(&self, key: &str) -> Option<Entry> {
        match self.client.siblings(KEYSPACE, key.to_owned()).await {
            Ok(entry) => {
                self.tally.reads.fetch_add(1, Ordering::Relaxed);
                Some(entry)
            }
            Err(error) => {
                self.count(&error, "read");
                None
            }
        }
    }

    /// Writes `value` in place of what is read, or deletes that.
    async fn replace(&self, key: &str, value: Option<&str>) {
        let Some(entry) = self.read(key).await.filter(|entry| entry.context().is_some()) else {
            return;
        };
        match value {
            Some(value) => self.put(entry, value).await,
            None => {
                let replaced = values(&entry);
                let deleted = self.client.delete(entry).await;
                self.note(key, None, &replaced, deleted.map(|written| written.hinted));
            }
        }
    }

    async fn put(&self, mut entry: Entry, value: &str) {
        let key = String::from_utf8_lossy(entry.key()).into_owned();
        let replaced = values(&entry);
        entry.set(value.to_owned());
        let written = self.client.put(entry).await;
        self.note(&key, Some(value), &replaced, written.map(|written| written.hinted));
    }

    fn note(
        &self,
        key: &str,
        value: Option<&str>,
        replaced: &BTreeSet<String>,
        written: Result<u32, Error>,
    ) {
        let outcome = match written {
            Ok(hinted) => {
                self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.tally.hinted.fetch_add(u64::from(hinted > 0), Ordering::Relaxed);
                Outcome::Done
            }
            Err(error) if error.effect() == Effect::None => {
                self.count(&error, "NONE");
                Outcome::Nothing
            }
            Err(error) => {
                self.count(&error, "MAYBE");
                Outcome::Unknown
            }
        };
        lock(&self.ledger).note(key, value, replaced, outcome);
    }

    fn count(&self, error: &Error, effect: &'static str) {
        let code = format!("{:?}", error.code());
        let kind = (code, error.reason().to_owned(), effect);
        *lock(&self.tally.errors).entry(kind).or_default() += 1;
    }
}

fn blind(key: &str) -> Entry {
    Entry::blind(KEYSPACE, key.to_owned())
}

fn values(entry: &Entry) -> BTreeSet<String> {
    let values = entry.siblings().iter().filter_map(|version| version.value.as_ref());
    values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}
