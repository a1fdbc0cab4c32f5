//! What is changed of a keyspace in this node's own store, as a stream that can be resumed.
//!
//! A node tells what its store takes: writes that it coordinates or is sent, hints that are delivered
//! to it, what reads and anti-entropy repair, folds, values that end. It asks nobody. Every owner of a
//! key does the same, so who watches all members is told of each write at least once by every owner
//! that takes it, and misses none, whichever of them is away.
//!
//! As long as the change log reaches back a stream is fed from memory. Where it does not, after a
//! restart or by who reads too slowly, the store is read through for what has a larger number
//! ([`crate::storage::Watcher`]), and the stream goes on behind that. A place within such a read can be
//! printed and gone on from.
//!
//! A stream that is not read waits here with one answer; nothing piles up for it but what the log
//! holds for everybody.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use stator_core::causality::VersionVector;
use stator_core::id::{KeyspaceId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::listing::KeyRange;
use stator_core::tree::{ObjectHash, object_hash};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::Node;
use super::walk::{self, Keys};
use crate::storage::{BadPosition, Position, ScanJob, ScanPage, Since, StoreError, Watcher};

/// How long a stream is silent at most.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a burst of writes is waited for, so that it is told at once.
const GATHER: Duration = Duration::from_millis(5);
/// What is told of at a time where the store is read through.
const SCANNED_MAX: usize = 256;
const SCANNED_BYTES_MAX: usize = 1 << 20;
/// How many streams read the store at a time; the others wait.
const SCANS_MAX: usize = 2;

static SCANS: Semaphore = Semaphore::const_new(SCANS_MAX);

/// How far a stream has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// All changes up to here are told.
    position: Position,
    /// Up to which number the store is being read for the rest, and how far that is.
    reading: Option<(u64, walk::Place)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        match &self.reading {
            Some((until, place)) => write!(f, "/{until:x}/{}", place.print()),
            None => Ok(()),
        }
    }
}

impl FromStr for Place {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (position, reading) = match text.split_once('/') {
            None => (text, None),
            Some((position, reading)) => {
                let (until, place) = reading.split_once('/').ok_or(BadPosition)?;
                let until = u64::from_str_radix(until, 16).map_err(|_| BadPosition)?;
                (position, Some((until, walk::Place::parse(place).ok_or(BadPosition)?)))
            }
        };
        Ok(Place { position: position.parse()?, reading })
    }
}

/// A key that was changed, as this node holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldKey {
    /// The key.
    pub key: Bytes,
    /// What its object has seen.
    pub seen: VersionVector,
    /// Names the object, on every node alike.
    pub hash: ObjectHash,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Keys that were changed, each once.
    pub changes: Vec<ToldKey>,
    /// To go on behind them.
    pub place: Place,
    /// Nothing tells any more what was changed before: the stream goes on from now.
    pub is_gap: bool,
}

/// Why a stream breaks off. It can go on from the last place that was told.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The store cannot be read through.
    #[error("the store cannot be read for what was changed: {0}")]
    Store(#[from] StoreError),
}

/// Where a stream is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// With what is changed from now on.
    Now,
    /// With all that the store holds.
    Start,
    /// Where another one was.
    Place(Place),
}

/// Which keys are watched.
struct Wanted {
    keyspace: KeyspaceId,
    partitions: u32,
    keys: Keys,
}

impl Wanted {
    fn is_met(&self, key: &StoreKey) -> bool {
        key.keyspace == self.keyspace
            && key.key >= self.keys.from
            && self.keys.until.as_ref().is_none_or(|until| key.key < *until)
    }

    fn range(&self, place: &walk::Place) -> KeyRange {
        KeyRange {
            partition: PartitionId(place.partition as u16),
            keyspace: self.keyspace,
            from: place.from.clone().max(self.keys.from.clone()),
            until: self.keys.until.clone(),
        }
    }
}

impl Node {
    /// What is changed in this node's store of the `keys` of a keyspace.
    pub fn watch(
        self: &Arc<Self>,
        (keyspace, partitions): (KeyspaceId, u32),
        keys: Keys,
        begin: Begin,
    ) -> impl Stream<Item = Result<Told, WatchError>> + Send + use<> {
        let wanted = Wanted { keyspace, partitions, keys };
        let mut stream = Tail { node: self.clone(), wanted, watcher: self.stores.watch() };
        async_stream::try_stream! {
            let (mut place, mut is_gap) = stream.begin(begin);
            // At once: whoever watches knows from here on what it will not miss.
            let mut changes = Some(Vec::new());
            loop {
                if let Some(changes) = changes.take() {
                    let is_burst = !changes.is_empty();
                    yield Told { changes, place: place.clone(), is_gap: std::mem::take(&mut is_gap) };
                    if is_burst && place.reading.is_none() {
                        sleep(GATHER).await;
                    }
                }
                (changes, is_gap) = stream.step(&mut place).await?;
            }
        }
    }
}

struct Tail {
    node: Arc<Node>,
    wanted: Wanted,
    watcher: Watcher,
}

impl Tail {
    /// The place to begin at; whether changes before it may never be told.
    fn begin(&mut self, begin: Begin) -> (Place, bool) {
        let at = |position| Place { position, reading: None };
        let place = match begin {
            Begin::Now => return (at(self.watcher.now()), false),
            Begin::Start => at(self.watcher.at(0)),
            Begin::Place(place) => place,
        };
        let reached = place.reading.as_ref().map_or(place.position.sequence, |(until, _)| *until);
        let since = place.position.sequence;
        let is_known = self.watcher.knows(&Position { sequence: reached, ..place.position });
        // What was forgotten between two parts of a read nobody has looked out for.
        let is_torn = place.reading.is_some() && self.watcher.is_forgotten_since(since);
        if !is_known || is_torn {
            return (at(self.watcher.now()), true);
        }
        if let Some((until, _)) = &place.reading {
            self.watcher.begin_scan(since, *until);
        }
        (Place { position: self.watcher.at(since), ..place }, false)
    }

    /// The next part and whether there is a gap before it.
    async fn step(
        &mut self,
        place: &mut Place,
    ) -> Result<(Option<Vec<ToldKey>>, bool), WatchError> {
        if place.reading.is_some() {
            return self.read(place).await;
        }
        let silent_until = Instant::now() + SILENCE_MAX;
        loop {
            let since = place.position.sequence;
            match self.watcher.since(since, |key| self.wanted.is_met(key)) {
                Since::Lost => {
                    place.position = self.watcher.now();
                    return Ok((Some(Vec::new()), true));
                }
                Since::Behind(until) => {
                    self.watcher.begin_scan(since, until);
                    place.reading = Some((until, walk::Place::default()));
                    return Ok((None, false));
                }
                Since::Changes(changes, last) => {
                    place.position = self.watcher.at(last);
                    if !changes.is_empty() {
                        // Of a key that was changed twice the later state.
                        let mut latest = BTreeMap::new();
                        for changed in &changes {
                            latest.insert(changed.key.key.clone(), told(changed));
                        }
                        return Ok((Some(latest.into_values().collect()), false));
                    }
                    // Others' changes go by.
                    if last > since && Instant::now() < silent_until {
                        continue;
                    }
                    if timeout_at(silent_until, self.watcher.more()).await.is_err() {
                        return Ok((Some(Vec::new()), false));
                    }
                }
            }
        }
    }

    /// Reads the store on.
    async fn read(
        &mut self,
        place: &mut Place,
    ) -> Result<(Option<Vec<ToldKey>>, bool), WatchError> {
        let Some((until, at)) = &mut place.reading else { return Ok((None, false)) };
        let _permit = SCANS.acquire().await;
        let deadline = Instant::now() + SILENCE_MAX;
        let mut changes = Vec::new();
        while changes.is_empty() && Instant::now() < deadline {
            if at.partition >= self.wanted.partitions {
                let is_whole = self.watcher.end_scan();
                let behind = Position { sequence: *until, ..place.position };
                place.position = if is_whole { behind } else { self.watcher.now() };
                place.reading = None;
                return Ok((Some(Vec::new()), !is_whole));
            }
            let page = self.page(&self.wanted.range(at), place.position.sequence).await?;
            *at = match page.next {
                Some(last) => {
                    let from = [&last.key[..], &[0]].concat().into();
                    walk::Place { partition: at.partition, from }
                }
                None => walk::Place { partition: at.partition + 1, from: Bytes::new() },
            };
            changes = page
                .objects
                .into_iter()
                .map(|(key, siblings)| ToldKey {
                    seen: siblings.vector().clone(),
                    hash: object_hash(&key, &siblings),
                    key: key.key,
                })
                .collect();
        }
        Ok((Some(changes), false))
    }

    async fn page(&self, range: &KeyRange, since: u64) -> Result<ScanPage, StoreError> {
        let (from, until) = range.physical();
        let (objects_max, bytes_max) = (SCANNED_MAX, SCANNED_BYTES_MAX);
        let (done, answer) = oneshot::channel();
        let done = Box::new(move |page| drop(done.send(page)));
        self.node.stores.scan(ScanJob { from, until, objects_max, bytes_max, since, done });
        answer.await.unwrap_or(Err(StoreError::Closed { store: "data" }))
    }
}

fn told(changed: &crate::storage::Changed) -> ToldKey {
    ToldKey { key: changed.key.key.clone(), seen: changed.seen.clone(), hash: changed.hash }
}

#[cfg(test)]
mod tests {
    use stator_core::id::Incarnation;

    use super::*;

    #[test]
    fn a_place_reads_back_and_nonsense_does_not() {
        let position = Position { loss: 0, life: Incarnation(7), sequence: 300 };
        let key = walk::Place { partition: 200, from: Bytes::from_static(b"a/b") };
        for reading in [None, Some((400, key)), Some((400, walk::Place::default()))] {
            let place = Place { position, reading };
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for nonsense in ["", "0", "0.0000000000000007.1/", "0.0000000000000007.1/1/x"] {
            assert_eq!(nonsense.parse::<Place>(), Err(BadPosition), "{nonsense}");
        }
    }
}
