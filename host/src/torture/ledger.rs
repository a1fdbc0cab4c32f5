//! What was acknowledged, and whether it is there in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use stator_client::{Admin, Client};
use stator_proto::v1;

use super::{Faults, Report, key};
use crate::local::Addresses;

/// How long what is written may take to be everywhere, once all is healed.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);
/// The most dots of a request.
const DOTS_MAX: usize = 500;

/// What clients were told.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Of each key, the dots of acknowledged writes.
    dots: BTreeMap<Bytes, BTreeSet<String>>,
    acknowledged: u64,
    failed: u64,
    read: u64,
    merged: u64,
}

impl Ledger {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which sample a key has its values of.
    pub(super) fn sample(&self, key: &Bytes, samples: usize) -> usize {
        let digest = blake3::hash(key);
        let number = u64::from_be_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default());
        usize::try_from(number).unwrap_or(0) % samples.max(1)
    }

    pub(super) fn read(&self, is_merged: bool) {
        let mut told = self.told();
        told.read += 1;
        told.merged += u64::from(is_merged);
    }

    pub(super) fn acknowledged(&self, key: &Bytes, dot: String) {
        let mut told = self.told();
        told.acknowledged += 1;
        told.dots.entry(key.clone()).or_default().insert(dot);
    }

    pub(super) fn failed(&self) {
        self.told().failed += 1;
    }

    pub(super) fn report(&self, faults: &Faults) -> Report {
        let told = self.told();
        let (cut_off, killed, stopped) = faults.figures();
        Report {
            acknowledged: told.acknowledged,
            failed: told.failed,
            read: told.read,
            merged: told.merged,
            cut_off,
            killed,
            stopped,
            wrong: Vec::new(),
        }
    }

    fn dots(&self, key: &Bytes) -> Vec<String> {
        self.told().dots.get(key).into_iter().flatten().cloned().collect()
    }
}

/// What the nodes have in the end.
pub struct Found<'a> {
    /// The nodes.
    pub addresses: &'a [Addresses],
    /// The keyspace.
    pub keyspace: &'a str,
    /// How many keys there are.
    pub keys: usize,
}

impl Found<'_> {
    /// What is wrong, in words.
    pub(super) async fn check(&self, ledger: &Ledger) -> Result<Vec<String>> {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let wrong = self.look(ledger).await?;
            if wrong.is_empty() || Instant::now() > until {
                return Ok(wrong);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&self, ledger: &Ledger) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let clients: Vec<Client> = self
            .addresses
            .iter()
            .map(|node| Client::connect([&node.client]))
            .collect::<Result<_, _>>()?;
        for number in 0..self.keys {
            let key = key(number);
            wrong.extend(self.lost(&clients[0], &key, ledger.dots(&key)).await);
            wrong.extend(self.disagreement(&clients, &key).await);
        }
        for node in self.addresses {
            let admin = Admin::connect([&node.admin])?;
            let request = v1::ListDeadLettersRequest { keyspace: self.keyspace.to_owned() };
            let letters = admin.list_dead_letters(request).await?.letters;
            wrong.extend(letters.first().map(|letter| {
                format!("{} keys could not be merged at {}: {letter:?}", letters.len(), node.admin)
            }));
        }
        Ok(wrong)
    }

    /// A get that must have seen all acknowledged writes.
    async fn lost(&self, client: &Client, key: &Bytes, dots: Vec<String>) -> Option<String> {
        for some in dots.chunks(DOTS_MAX) {
            let request = v1::GetRequest {
                keyspace: self.keyspace.to_owned(),
                key: key.clone(),
                quorum: v1::Quorum::Strict.into(),
                at_least: some.to_vec(),
                ..Default::default()
            };
            if let Err(error) = client.send_get(request).await {
                let key = String::from_utf8_lossy(key);
                return Some(format!("{key}: acknowledged writes were not seen: {error}"));
            }
        }
        None
    }

    /// What the nodes read, which must be one value.
    async fn disagreement(&self, clients: &[Client], key: &Bytes) -> Option<String> {
        let mut seen = BTreeSet::new();
        for client in clients {
            let request = v1::GetRequest {
                keyspace: self.keyspace.to_owned(),
                key: key.clone(),
                ..Default::default()
            };
            match client.send_get(request).await {
                Ok(found) if found.versions.len() > 1 => {
                    let why = found.merge.unwrap_or_default().failure;
                    let key = String::from_utf8_lossy(key);
                    return Some(format!("{key}: a reader gets siblings: {why}"));
                }
                Ok(found) => drop(seen.insert(found.versions.into_iter().next().map(|v| v.value))),
                Err(error) => {
                    return Some(format!("{}: {error}", String::from_utf8_lossy(key)));
                }
            }
        }
        let key = String::from_utf8_lossy(key);
        (seen.len() > 1).then(|| format!("{key}: nodes read {} different values", seen.len()))
    }
}
