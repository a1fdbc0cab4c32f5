//! Whose merge is next: places for merges that run at a time, shared fairly by keyspaces.
//!
//! This is fair queueing (Demers, Keshav and Shenker, *Analysis and Simulation of a Fair Queueing
//! Algorithm*, 1989), with the time that places are held as the service. A place that gets free goes
//! to the keyspace that holds the fewest, and of those to the one that was served least; who was away
//! has saved nothing up. In a keyspace, who came first is first.
//!
//! Fair is not yet quick: a module that loops holds its place until its fuel is out, and as many such
//! keyspaces as there are places would make all others wait for that. So keyspaces whose merges are
//! [`SLOW`] leave one place to those whose are not, all of them together.
//!
//! Who waits is bounded, too. A keyspace may have no more merges waiting than there is room left
//! (the dynamic threshold of Choudhury and Hahne, 1998): one that asks without end gets half of the
//! room, two get a third each, and there is always some left for a keyspace that waits for nothing.
//!
//! Left out: to interrupt a merge that runs. Until the first merges of slow keyspaces have shown what
//! they are, they may hold all places, for the time that one merge's fuel lasts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Keyspaces whose merges hold a place for longer than this, on average, leave one to the others.
const SLOW: Duration = Duration::from_millis(20);
/// What each new merge counts in that average: one in so many.
const MEAN_OF: u32 = 4;
/// So many keyspaces are remembered at least, also those that have no merge now.
const REMEMBERED: usize = 256;

/// The places. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Schedule<oneshot::Sender<Turn>>>>);

/// A place that is held until this is dropped.
pub(super) struct Turn {
    turns: Turns,
    keyspace: Arc<str>,
    since: Instant,
}

/// So many wait already, that this keyspace may not have more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Turns {
    pub(super) fn new(places: usize, waiting_max: usize) -> Self {
        Turns(Arc::new(Mutex::new(Schedule::new(places, waiting_max))))
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn take(&self, keyspace: &str) -> Result<Turn, Full> {
        let (sender, receiver) = oneshot::channel();
        self.lock().arrive(keyspace, sender)?;
        self.hand_out();
        // A sender is only dropped with the places, which this call holds.
        receiver.await.map_err(|_| Full)
    }

    fn hand_out(&self) {
        loop {
            let now = Instant::now();
            let next = self.lock().next(now, oneshot::Sender::is_closed);
            let Some((keyspace, sender)) = next else { return };
            // Who has just ceased to wait gives it back by dropping it.
            drop(sender.send(Turn { turns: self.clone(), keyspace, since: now }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule<oneshot::Sender<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().end(&self.keyspace, self.since, Instant::now());
        self.turns.hand_out();
    }
}

/// The order of turns, without anybody who really waits.
struct Schedule<T> {
    free: usize,
    places: usize,
    waiting: usize,
    waiting_max: usize,
    /// How much service who was served last had before.
    round: Duration,
    keyspaces: HashMap<Arc<str>, Account<T>>,
}

struct Account<T> {
    /// Since when its merges run.
    running: Vec<Instant>,
    waiting: VecDeque<T>,
    /// For how long it has held places.
    served: Duration,
    mean: Duration,
}

impl<T> Default for Account<T> {
    fn default() -> Self {
        let (running, waiting) = (Vec::new(), VecDeque::new());
        Account { running, waiting, served: Duration::ZERO, mean: Duration::ZERO }
    }
}

impl<T> Account<T> {
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    fn is_slow(&self, now: Instant) -> bool {
        let is_long = |since: &Instant| now.saturating_duration_since(*since) > SLOW;
        self.mean > SLOW || self.running.iter().any(is_long)
    }
}

impl<T> Schedule<T> {
    fn new(places: usize, waiting_max: usize) -> Self {
        let (round, keyspaces) = (Duration::ZERO, HashMap::new());
        Schedule { free: places, places, waiting: 0, waiting_max, round, keyspaces }
    }

    fn arrive(&mut self, keyspace: &str, who: T) -> Result<(), Full> {
        let own = self.keyspaces.get(keyspace).map_or(0, |account| account.waiting.len());
        let room = self.waiting_max.saturating_sub(self.waiting);
        // Where a place is free nobody waits, so what comes is served at once.
        if own >= room && self.free == 0 {
            return Err(Full);
        }
        self.waiting += 1;
        let account = self.account(keyspace);
        account.waiting.push_back(who);
        Ok(())
    }

    fn account(&mut self, keyspace: &str) -> &mut Account<T> {
        if self.keyspaces.len() >= REMEMBERED && !self.keyspaces.contains_key(keyspace) {
            self.keyspaces.retain(|_, account| !account.is_idle());
        }
        let account = self.keyspaces.entry(keyspace.into()).or_default();
        if account.is_idle() {
            account.served = account.served.max(self.round);
        }
        account
    }

    /// Who has the next place, if there is one for somebody who waits.
    fn next(&mut self, now: Instant, is_gone: impl Fn(&T) -> bool) -> Option<(Arc<str>, T)> {
        while self.free > 0 {
            let held = |account: &Account<T>| account.running.len();
            let slow = self.keyspaces.values().filter(|account| account.is_slow(now));
            let is_for_all = slow.map(held).sum::<usize>() < (self.places - 1).max(1);
            let waiting = self.keyspaces.iter_mut().filter(|(_, account)| {
                !account.waiting.is_empty() && (is_for_all || !account.is_slow(now))
            });
            let (name, first) =
                waiting.min_by_key(|(_, account)| (account.running.len(), account.served))?;
            let who = first.waiting.pop_front()?;
            self.waiting -= 1;
            if is_gone(&who) {
                continue;
            }
            first.running.push(now);
            self.round = self.round.max(first.served);
            self.free -= 1;
            return Some((name.clone(), who));
        }
        None
    }

    /// A merge that began at `since` has ended.
    fn end(&mut self, keyspace: &str, since: Instant, now: Instant) {
        self.free += 1;
        let Some(account) = self.keyspaces.get_mut(keyspace) else { return };
        if let Some(place) = account.running.iter().position(|running| *running == since) {
            account.running.swap_remove(place);
        }
        let held = now.saturating_duration_since(since);
        account.served += held;
        account.mean = (account.mean * (MEAN_OF - 1) + held) / MEAN_OF;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUEL: Duration = Duration::from_millis(800);

    /// Hands out what can be; who got places.
    fn hand_out(schedule: &mut Schedule<u32>, now: Instant) -> Vec<(Arc<str>, u32)> {
        std::iter::from_fn(|| schedule.next(now, |_| false)).collect()
    }

    fn names(served: &[(Arc<str>, u32)]) -> Vec<&str> {
        served.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn keyspaces_take_turns_however_many_merges_each_has_waiting() {
        let (mut schedule, mut now) = (Schedule::new(1, 100), Instant::now());
        (0..9).for_each(|n| schedule.arrive("many", n).unwrap());
        (0..3).for_each(|n| schedule.arrive("few", n).unwrap());
        let mut order = Vec::new();
        while let [(name, n)] = &hand_out(&mut schedule, now)[..] {
            let since = now;
            now += Duration::from_millis(1);
            schedule.end(name, since, now);
            order.push(format!("{}{n}", &name[..1]));
        }
        let mut of_few = order.iter().enumerate().filter(|(_, name)| name.starts_with('f'));
        assert!(of_few.all(|(at, _)| at < 6), "{order:?}");
        assert_eq!(order.len(), 12);
    }

    #[test]
    fn keyspaces_that_loop_leave_a_place_however_many_they_are() {
        let (mut schedule, begun) = (Schedule::new(3, 1_000), Instant::now());
        let loops = ["a", "b", "c", "d"];
        for n in 0..20 {
            loops.iter().for_each(|name| schedule.arrive(name, n).unwrap());
        }
        let first = hand_out(&mut schedule, begun);
        assert_eq!(first.len(), 3, "nobody knows yet what they are");
        let now = begun + FUEL;
        first.iter().for_each(|(name, _)| schedule.end(name, begun, now));
        let second = hand_out(&mut schedule, now);
        let known: Vec<_> =
            second.iter().filter(|(name, _)| first.iter().any(|f| f.0 == *name)).collect();
        assert!(known.len() <= 2, "{:?}", names(&second));
        let later = now + FUEL;
        second.iter().for_each(|(name, _)| schedule.end(name, now, later));
        for round in 0..5 {
            let now = later + FUEL * round;
            let slow = hand_out(&mut schedule, now);
            assert_eq!(slow.len(), 2, "{:?}", names(&slow));
            schedule.arrive("carts", round).unwrap();
            let (name, _) = schedule.next(now, |_| false).expect("there is a place for carts");
            assert_eq!(&*name, "carts");
            schedule.end("carts", now, now + Duration::from_micros(30));
            slow.iter().for_each(|(name, _)| schedule.end(name, now, now + FUEL));
        }
    }

    #[test]
    fn who_asks_without_end_leaves_room_to_wait() {
        let mut schedule = Schedule::new(1, 8);
        schedule.arrive("runs", 0).unwrap();
        hand_out(&mut schedule, Instant::now());
        let taken = |schedule: &mut Schedule<u32>, name: &str| {
            (0..20).take_while(|n| schedule.arrive(name, *n).is_ok()).count()
        };
        assert_eq!(taken(&mut schedule, "greedy"), 4);
        assert_eq!(taken(&mut schedule, "greedy too"), 2);
        assert_eq!(taken(&mut schedule, "carts"), 1);
    }

    #[tokio::test]
    async fn who_ceases_to_wait_holds_up_nobody() {
        let turns = Turns::new(1, 8);
        let held = turns.take("a").await.unwrap();
        let gone = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take("b").await) }
        });
        while turns.lock().waiting == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(held);
        drop(turns.take("c").await.unwrap());
        assert_eq!(turns.lock().free, 1);
    }
}
