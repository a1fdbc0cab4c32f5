//! The node's hold on an open connection: what it owes its reader, and its end.
//!
//! The gRPC library gives no way to end a connection from outside, and none to know whether
//! answers are being read. A [`Hold`] is shared by the connection's stream, which obeys it, and by
//! the answers that are on their way, which tell it what of them was taken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;

/// The slowest line that is waited for, in bytes a second, of requests and answers alike.
pub(super) const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// See the head of this file.
#[derive(Debug)]
pub struct Hold {
    opened: Instant,
    is_ended: AtomicBool,
    /// Who waits to read from the connection.
    reader: AtomicWaker,
    /// What may be read of a stranger; `usize::MAX` is everything.
    readable: AtomicUsize,
    pace: Mutex<Pace>,
}

/// Answers that are on their way.
#[derive(Debug, Default)]
struct Pace {
    unread_bytes: usize,
    /// Since when there are some, and what was read since.
    since: Option<Instant>,
    read_bytes: u64,
}

impl Hold {
    /// A hold on a connection of which `readable` bytes are read before it is [trusted](Self::trust).
    pub(super) fn new(readable: usize) -> Arc<Self> {
        Arc::new(Hold {
            opened: Instant::now(),
            is_ended: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            readable: AtomicUsize::new(readable),
            pace: Mutex::default(),
        })
    }

    /// Ends the connection: everything that it holds is let go.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.reader.wake();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Lets everything be read that comes: the other side has proved who it is.
    pub fn trust(&self) {
        self.readable.store(usize::MAX, Ordering::Release);
        self.reader.wake();
    }

    /// Whether it was not [trusted](Self::trust) for longer than `patience`, and has to be.
    pub(super) fn is_strange(&self, now: Instant, patience: Duration) -> bool {
        self.readable() != usize::MAX && now.saturating_duration_since(self.opened) > patience
    }

    /// How much may be read now.
    pub(super) fn readable(&self) -> usize {
        self.readable.load(Ordering::Acquire)
    }

    /// Waits for the end or for trust.
    pub(super) fn wait(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// So much of a stranger's bytes was read.
    pub(super) fn was_read(&self, bytes: usize) {
        // Trust may come meanwhile, and is not taken back.
        let less = |left| (left != usize::MAX).then(|| left - bytes.min(left));
        let _ = self.readable.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Owes its reader more, unless that is more than `bytes_max` in all.
    pub(super) fn owe(&self, bytes: usize, bytes_max: usize) -> bool {
        let mut pace = self.pace();
        if pace.unread_bytes + bytes > bytes_max {
            return false;
        }
        if pace.unread_bytes == 0 {
            (pace.since, pace.read_bytes) = (Some(Instant::now()), 0);
        }
        pace.unread_bytes += bytes;
        true
    }

    /// So much was taken by the reader, or given up.
    pub(super) fn settle(&self, bytes: usize) {
        let mut pace = self.pace();
        pace.unread_bytes = pace.unread_bytes.saturating_sub(bytes);
        pace.read_bytes += bytes as u64;
        if pace.unread_bytes == 0 {
            pace.since = None;
        }
    }

    /// Whether answers are read slower than at [`BYTES_PER_SECOND_MIN`], after a first `patience`.
    pub(super) fn is_stalled(&self, now: Instant, patience: Duration) -> bool {
        let pace = self.pace();
        let earned =
            Duration::from_millis(pace.read_bytes.saturating_mul(1_000) / BYTES_PER_SECOND_MIN);
        pace.since.is_some_and(|since| now.saturating_duration_since(since) > patience + earned)
    }

    // No code under the lock panics, so a poisoned one is whole.
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn answers_must_be_read_at_a_slow_lines_speed() {
        let hold = Hold::new(usize::MAX);
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(!hold.is_stalled(later(1_000), PATIENCE), "nothing is owed");
        assert!(hold.owe(1 << 20, 1 << 20));
        assert!(!hold.owe(1, 1 << 20), "no more than that");
        assert!(!hold.is_stalled(later(9), PATIENCE));
        assert!(hold.is_stalled(later(11), PATIENCE));
        hold.settle(32 << 10);
        assert!(!hold.is_stalled(later(11), PATIENCE));
        assert!(hold.is_stalled(later(13), PATIENCE));
        hold.settle((1 << 20) - (32 << 10));
        assert!(!hold.is_stalled(later(1_000), PATIENCE), "all of it was read");
    }

    #[test]
    fn a_stranger_is_read_to_a_limit_until_it_is_trusted() {
        let hold = Hold::new(100);
        hold.was_read(60);
        assert_eq!(hold.readable(), 40);
        hold.was_read(60);
        assert_eq!(hold.readable(), 0);
        hold.trust();
        hold.was_read(60);
        assert_eq!(hold.readable(), usize::MAX);
    }
}
