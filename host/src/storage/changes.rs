//! What the data store changed lately, for those who watch keys.
//!
//! Every commit has a number, and every record carries that of the commit which changed it last. So
//! "what changed since commit 1,000" has two answers, and they say the same:
//!
//! - The *change log*: the keys of the latest commits, in memory, of at most [`LOG_BYTES_MAX`]. It is
//!   kept while somebody watches and [`KEPT_FOR`] longer; else a commit costs one look at a flag.
//! - The store itself, read through for records with a larger number ([`super::ScanJob::since`]): for
//!   who was away for longer than the log reaches, or over a restart of the node.
//!
//! One thing the store cannot tell later: what it has *forgotten*, deletes that collection has taken
//! away. So the store's note carries the largest number that a forgotten record had. Who has come
//! no further than that may have missed a delete, and is told so ([`Since::Lost`]).
//!
//! A place in all this, [`Position`], is a number in the history of one store: it names the last loss
//! of the store and the node's life, because a store that lost commits, or an old copy of one, may
//! use their numbers again.
//!
//! Left out: hints, which become changes where they are delivered; and partitions that leave the
//! node, whose keys are not changed by it.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stator_core::causality::VersionVector;
use stator_core::id::Incarnation;
use stator_core::keys::StoreKey;
use stator_core::tree::ObjectHash;
use tokio::sync::watch;

use super::group::Group;
use super::meta::Meta;
use super::records::Health;
use super::trees::Replaced;

/// What the change log holds at most, in bytes; about 100,000 changes.
const LOG_BYTES_MAX: usize = 32 << 20;
/// How long it is kept once nobody watches, so that who comes back finds it.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// About what a change takes beside its key, and each entry of its vector.
const CHANGE_BYTES: usize = 200;
const ACTOR_BYTES: usize = 48;
/// How many changes are looked at for one answer; one group of writes more.
const LOOKED_AT_MAX: usize = 1_024;

/// A key that a commit changed, as the commit left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The last number of its group of commits.
    pub sequence: u64,
    /// The key.
    pub key: StoreKey,
    /// What its object had seen.
    pub seen: VersionVector,
    /// Names the object, on every node alike.
    pub hash: ObjectHash,
}

impl Changed {
    fn weight_bytes(&self) -> usize {
        CHANGE_BYTES + self.key.key.len() + self.seen.len() * ACTOR_BYTES
    }
}

/// A place in the history of one data store: all changes up to it are known to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last loss of the store; 0 if there was none.
    pub loss: u64,
    /// The life in which the place was told.
    pub life: Incarnation,
    /// The number of the commit.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}.{:x}", self.loss, self.life, self.sequence)
    }
}

/// It is none of the form that [`Position`]'s `Display` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no position as an answer told it")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(BadPosition);
        let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| BadPosition);
        let (loss, life, sequence) = (part()?, part()?, part()?);
        let life = life.parse().map_err(|_| BadPosition)?;
        let position = Position { loss: hex(loss)?, life, sequence: hex(sequence)? };
        parts.next().is_none().then_some(position).ok_or(BadPosition)
    }
}

/// What came after a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Since {
    /// These changes, in commit order, up to this number.
    Changes(Vec<Arc<Changed>>, u64),
    /// The log does not reach back so far; the store does, up to this number and further.
    Behind(u64),
    /// Deletes may have been forgotten since, or the place is not of this store's history.
    Lost,
}

/// The change log of the data store.
pub(super) struct ChangeLog {
    is_on: AtomicBool,
    /// The largest number of a record that was forgotten.
    forgotten: AtomicU64,
    loss: u64,
    life: Incarnation,
    /// With which number this life began.
    first: u64,
    /// How the store is: what its latest number is.
    health: Arc<Health>,
    log: Mutex<Log>,
    told: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    changes: VecDeque<Arc<Changed>>,
    bytes: usize,
    /// All that was committed after this number is in the log; `None`: nothing came yet.
    floor: Option<u64>,
    watchers: usize,
    left: Option<Instant>,
    /// Reads of the store that are under way.
    scans: Vec<(u64, Reading)>,
    scans_begun: u64,
}

/// What a read of the store is after: records with numbers above one and up to another.
#[derive(Clone, Copy)]
struct Reading {
    since: u64,
    until: u64,
    /// Whether one of them was forgotten meanwhile.
    is_spoilt: bool,
}

impl ChangeLog {
    /// Of a store that stands as `meta` says, which was last lost so, in this life.
    pub(super) fn new((loss, life): (u64, Incarnation), meta: &Meta, health: Arc<Health>) -> Self {
        ChangeLog {
            is_on: AtomicBool::new(false),
            forgotten: AtomicU64::new(meta.forgotten),
            loss,
            life,
            first: meta.sequence,
            health,
            log: Mutex::default(),
            told: watch::Sender::new(0),
        }
    }

    // No code under the lock panics, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group was applied whose commits are numbered from `before` on, up to `last`.
    pub(super) fn applied(&self, group: &Group, (before, last): (u64, u64)) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let mut log = self.lock();
        if log.watchers == 0 && log.left.is_some_and(|left| left.elapsed() > KEPT_FOR) {
            *log = Log::default();
            return self.is_on.store(false, Ordering::Release);
        }
        log.floor.get_or_insert(before);
        for (key, staged) in group.staged.iter().filter(|(_, staged)| staged.is_changed) {
            // What is forgotten was told when it was deleted; what leaves with its partition stays.
            let Some(record) = &staged.record else { continue };
            let hash = record.object_hash(key);
            // Else it is only listed otherwise in the index.
            let is_same = |replaced: &Replaced| matches!(replaced, Replaced::Known(Some(old)) if old.hash == hash);
            if !is_same(&staged.replaced) {
                let seen = record.siblings.vector().clone();
                log.push(Changed { sequence: last, key: key.clone(), seen, hash });
            }
        }
        log.shrink(LOG_BYTES_MAX);
        self.told.send_replace(last);
    }

    /// A record with this number is about to be forgotten.
    pub(super) fn forgot(&self, sequence: u64) {
        self.forgotten.fetch_max(sequence, Ordering::AcqRel);
        if self.is_on.load(Ordering::Acquire) {
            for (_, reading) in &mut self.lock().scans {
                reading.is_spoilt |= reading.since < sequence && sequence <= reading.until;
            }
        }
    }

    /// The store was opened anew: what it holds of the commits before is unknown.
    pub(super) fn reopened(&self) {
        let mut log = self.lock();
        (log.changes, log.bytes, log.floor) = (VecDeque::new(), 0, Some(self.health.sequence()));
        self.told.send_replace(self.health.sequence());
    }
}

impl Log {
    fn push(&mut self, changed: Changed) {
        self.bytes += changed.weight_bytes();
        self.changes.push_back(Arc::new(changed));
    }

    /// Lets the oldest groups go until the rest fits.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(oldest) = self.changes.front().map(|oldest| oldest.sequence) else { return };
            let end = self.changes.partition_point(|changed| changed.sequence <= oldest);
            self.bytes -= self.changes.drain(..end).map(|gone| gone.weight_bytes()).sum::<usize>();
            self.floor = Some(oldest);
        }
    }

    fn after(
        &self,
        position: u64,
        is_wanted: impl Fn(&StoreKey) -> bool,
    ) -> (Vec<Arc<Changed>>, u64) {
        let first = self.changes.partition_point(|changed| changed.sequence <= position);
        let mut last = position;
        let mut wanted = Vec::new();
        for (looked_at, changed) in self.changes.iter().skip(first).enumerate() {
            // Groups are told whole.
            if looked_at >= LOOKED_AT_MAX && changed.sequence > last {
                break;
            }
            last = changed.sequence;
            if is_wanted(&changed.key) {
                wanted.push(changed.clone());
            }
        }
        (wanted, last)
    }
}

/// Somebody who watches the data store. While there is one, the change log is kept.
pub struct Watcher {
    log: Arc<ChangeLog>,
    told: watch::Receiver<u64>,
    scan: Option<u64>,
}

impl Watcher {
    pub(super) fn new(log: Arc<ChangeLog>) -> Self {
        log.lock().watchers += 1;
        log.is_on.store(true, Ordering::Release);
        Watcher { told: log.told.subscribe(), log, scan: None }
    }

    /// The place behind all that is committed.
    pub fn now(&self) -> Position {
        self.at(self.log.health.sequence())
    }

    /// The place behind the commit of this number.
    pub fn at(&self, sequence: u64) -> Position {
        Position { loss: self.log.loss, life: self.log.life, sequence }
    }

    /// Whether `position` is one of this very store's history.
    pub fn knows(&self, position: &Position) -> bool {
        let log = &self.log;
        position.loss == log.loss
            && (position.life == log.life || position.sequence <= log.first)
            && position.sequence <= log.health.sequence()
    }

    /// What came after the commit numbered `position`, of what is wanted.
    pub fn since(&mut self, position: u64, is_wanted: impl Fn(&StoreKey) -> bool) -> Since {
        self.told.mark_unchanged();
        let log = self.log.lock();
        // What is committed now may be told of a moment later.
        let now = self.log.health.sequence();
        if position >= log.floor.unwrap_or(now) {
            let (changes, last) = log.after(position, is_wanted);
            return Since::Changes(changes, last);
        }
        match self.is_forgotten_since(position) {
            true => Since::Lost,
            false => Since::Behind(now),
        }
    }

    /// Whether a delete that came after the commit numbered `position` may be forgotten.
    pub fn is_forgotten_since(&self, position: u64) -> bool {
        self.log.forgotten.load(Ordering::Acquire) > position
    }

    /// The store is read for what came after `since`, up to `until`.
    pub fn begin_scan(&mut self, since: u64, until: u64) {
        self.end_scan();
        let mut log = self.log.lock();
        log.scans_begun += 1;
        let id = log.scans_begun;
        log.scans.push((id, Reading { since, until, is_spoilt: false }));
        self.scan = Some(id);
    }

    /// The read is over; whether it has seen all there was.
    pub fn end_scan(&mut self) -> bool {
        let Some(id) = self.scan.take() else { return true };
        let mut log = self.log.lock();
        let place = log.scans.iter().position(|(scan, _)| *scan == id);
        place.is_some_and(|place| !log.scans.swap_remove(place).1.is_spoilt)
    }

    /// Returns once something was committed since [`Self::since`] was asked.
    pub async fn more(&mut self) {
        let _ = self.told.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end_scan();
        let mut log = self.log.lock();
        log.watchers -= 1;
        log.left = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stator_core::id::{KeyspaceId, PartitionId};

    use super::*;

    fn changed(sequence: u64, key: u8) -> Changed {
        let key = Bytes::from(vec![key; 100]);
        let key = StoreKey { partition: PartitionId(1), keyspace: KeyspaceId(2), key };
        Changed { sequence, key, seen: VersionVector::new(), hash: ObjectHash(1) }
    }

    #[test]
    fn a_position_reads_back_and_nonsense_does_not() {
        let position = Position { loss: 0xabc, life: Incarnation(u64::MAX), sequence: 1 << 40 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for nonsense in ["", "1", "1.2", "x.0000000000000001.1", "1.0000000000000001.1.1"] {
            assert_eq!(nonsense.parse::<Position>(), Err(BadPosition), "{nonsense}");
        }
    }

    #[test]
    fn a_full_log_lets_whole_groups_go_and_knows_how_far_it_reaches() {
        let mut log = Log { floor: Some(0), ..Log::default() };
        for sequence in [10, 20, 30] {
            (0..4).for_each(|key| log.push(changed(sequence, key)));
        }
        log.shrink(5 * (CHANGE_BYTES + 100));
        assert_eq!((log.floor, log.changes.len()), (Some(20), 4));
        assert_eq!(log.bytes, 4 * (CHANGE_BYTES + 100));
        log.shrink(0);
        assert_eq!((log.floor, log.bytes), (Some(30), 0));
    }

    #[test]
    fn answers_end_between_groups() {
        let mut log = Log { floor: Some(0), ..Log::default() };
        for sequence in 1..=3 {
            (0..LOOKED_AT_MAX - 1).for_each(|at| log.push(changed(sequence, at as u8)));
        }
        let (all, last) = log.after(0, |_| true);
        assert_eq!((all.len(), last), (2 * (LOOKED_AT_MAX - 1), 2));
        let (some, last) = log.after(2, |key| key.key[0] == 7);
        assert_eq!((some.len(), last), ((LOOKED_AT_MAX - 1).div_ceil(256), 3));
        assert_eq!(log.after(3, |_| true), (Vec::new(), 3));
    }
}
