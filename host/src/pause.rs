//! Whether this process was stopped for a while: by SIGSTOP, by a suspended machine, by memory that
//! had to come back from a disk.
//!
//! What arrived meanwhile waits in the sockets, and nothing on it says for how long: its senders
//! have long given up, and perhaps done something else instead. To carry it out now would bring
//! back what was replaced since. A pause is no licence:
//! - After [`PAUSE`] or more, what waits is dropped unread: connections end ([`Life`]), those that
//!   were made meanwhile too, and so do the sessions with peers.
//! - After less, from [`STALL`] on, deadlines count from the beginning of the stall: [`arrival`].
//!
//! A thread beats every `BEAT`; a beat that comes late shows that there was a pause. It may not
//! be the first to run afterwards, so everyone who takes something in looks too, *after* having
//! taken it: whoever looks first notices for all. The clock is the one that goes on while the
//! machine sleeps.
//!
//! Left out: a hypervisor that stops a machine and hides it from that machine's clocks. Clients'
//! connections mostly do not survive that.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::telemetry::names::PAUSES;

/// How often the process shows that it runs.
const BEAT: Duration = Duration::from_millis(20);
/// What is taken in after a gap of so much may have waited in it.
pub const STALL: Duration = Duration::from_millis(100);
/// What waited so long is dropped. Most of those who wait for an answer have given up by then, and
/// peers have begun to do without this node.
pub const PAUSE: Duration = Duration::from_secs(1);
/// Within this time after a stall what waited in it has been taken in.
const BACKLOG: Duration = Duration::from_millis(250);

/// The beats of a process.
struct Beats {
    /// The latest one, in milliseconds of the machine's clock.
    last_ms: AtomicU64,
    /// The latest stall. Held while a late beat is looked at.
    stall: Mutex<Stall>,
    /// How many pauses there were.
    pauses: watch::Sender<u64>,
}

/// A time in which the process did not run.
#[derive(Debug, Clone, Copy, Default)]
struct Stall {
    from_ms: u64,
    until_ms: u64,
    /// Whether it was a pause.
    is_pause: bool,
    /// The length of the latest pause.
    pause_ms: u64,
}

static BEATS: LazyLock<Beats> = LazyLock::new(|| {
    // Without the thread a pause is noticed only where something is taken in at once.
    let beats = std::thread::Builder::new().name("pauses".to_owned()).spawn(|| {
        loop {
            std::thread::sleep(BEAT);
            BEATS.beat(now_ms());
        }
    });
    if let Err(error) = beats {
        tracing::error!(%error, "pauses of this process are noticed late");
    }
    Beats::new(now_ms())
});

/// Milliseconds of a clock that goes on while the machine is suspended.
fn now_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the structure it is given, and nowhere else.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

impl Beats {
    fn new(now_ms: u64) -> Self {
        Beats {
            last_ms: AtomicU64::new(now_ms),
            stall: Mutex::default(),
            pauses: watch::Sender::new(0),
        }
    }

    fn beat(&self, now_ms: u64) {
        let since = |last_ms: u64| Duration::from_millis(now_ms.saturating_sub(last_ms));
        if since(self.last_ms.load(Ordering::Acquire)) < BEAT {
            return;
        }
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let last_ms = self.last_ms.load(Ordering::Acquire);
        let gap = since(last_ms);
        if gap >= STALL {
            (stall.from_ms, stall.until_ms) = (last_ms, now_ms);
            stall.is_pause = gap >= PAUSE;
        }
        if gap >= PAUSE {
            stall.pause_ms = now_ms - last_ms;
            self.pauses.send_modify(|count| *count += 1);
            metrics::counter!(PAUSES.name).increment(1);
            tracing::warn!(
                ms = stall.pause_ms,
                "this node was stopped; what waited in its connections is dropped, and they end"
            );
        }
        // Last, so that who finds a fresh beat finds the pause before it too.
        self.last_ms.fetch_max(now_ms, Ordering::AcqRel);
    }

    /// For how long what is taken in now may have waited, on a connection that was made when there
    /// had been `began` pauses. One that was made after a pause has not waited in it.
    fn age(&self, now_ms: u64, began: u64) -> Duration {
        let stall = *self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let is_after = stall.is_pause && began == *self.pauses.borrow();
        let is_over = is_after || now_ms > stall.until_ms + BACKLOG.as_millis() as u64;
        let from_ms = if is_over { now_ms } else { stall.from_ms };
        Duration::from_millis(now_ms.saturating_sub(from_ms))
    }
}

/// How many pauses there were, the one included that ends now.
pub fn count() -> u64 {
    BEATS.beat(now_ms());
    *BEATS.pauses.borrow()
}

/// How long the latest pause was, in milliseconds.
pub fn latest_ms() -> u64 {
    BEATS.stall.lock().unwrap_or_else(PoisonError::into_inner).pause_ms
}

/// When what is taken in now arrived, at the earliest, on a connection that was made when there had
/// been `began` pauses: now, but for what may have waited in a stall.
pub fn arrival(began: u64) -> Instant {
    let now_ms = now_ms();
    BEATS.beat(now_ms);
    let now = Instant::now();
    // A machine that was suspended may be younger by the one clock than by the other.
    now.checked_sub(BEATS.age(now_ms, began)).unwrap_or(now)
}

/// The time from one pause to the next.
pub struct Life {
    began: u64,
    ends: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Life {
    /// Begins now.
    pub fn begin() -> Self {
        let began = count();
        let mut pauses = BEATS.pauses.subscribe();
        let ends = Box::pin(async move {
            let _ = pauses.wait_for(|count| *count != began).await;
        });
        Life { began, ends }
    }

    /// How many pauses there had been.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Whether there was no pause since.
    pub fn goes_on(&self) -> bool {
        count() == self.began
    }

    /// Waits for the next pause.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.goes_on() {
            return Poll::Ready(());
        }
        self.ends.as_mut().poll(cx)
    }

    /// Ends with the next pause.
    pub async fn end(&mut self) {
        std::future::poll_fn(|cx| self.poll_end(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_beat_is_a_stall_and_a_very_late_one_a_pause() {
        let beats = Beats::new(1_000);
        let pauses = || *beats.pauses.borrow();
        beats.beat(1_099);
        assert_eq!((pauses(), beats.age(1_100, 0)), (0, Duration::ZERO));
        beats.beat(1_499);
        assert_eq!((pauses(), beats.age(1_500, 0)), (0, Duration::from_millis(401)));
        // What waited was taken in by now.
        assert_eq!(beats.age(1_750, 0), Duration::ZERO);
        beats.beat(3_000);
        assert_eq!((pauses(), beats.age(3_001, 0)), (1, Duration::from_millis(1_502)));
        assert_eq!(beats.age(3_001, 1), Duration::ZERO, "on a connection of afterwards");
        // Who looked at the clock before the pause, and beats after it, changes nothing.
        beats.beat(1_600);
        assert_eq!((pauses(), beats.last_ms.load(Ordering::Relaxed)), (1, 3_000));
    }
}
