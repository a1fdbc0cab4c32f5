//! A bounded queue between callers that must not wait and threads that may.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that the items of a queue that weighs them may have together. One larger item is taken
/// if it is alone.
pub(super) const BYTES_MAX: usize = 256 << 20;

/// First in, first out, with limits that are an answer and not a wait.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    items_max: usize,
    weigh: fn(&T) -> usize,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    is_closed: bool,
    /// How many threads wait for items: to wake one is a call of the system, even if none waits.
    waiting: usize,
}

/// An item was not taken in; it is handed back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected<T> {
    /// The queue holds as many items as it may.
    Full(T),
    /// No more items are taken.
    Closed(T),
}

/// What a wait for items ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// At least one item, in the order they came.
    Items(Vec<T>),
    /// The time was up first.
    TimedOut,
    /// The queue is closed and everything in it was taken.
    Closed,
}

impl<T> Queue<T> {
    /// A queue of items that weigh nothing.
    pub(super) fn new(items_max: usize) -> Self {
        Queue::weighing(items_max, |_| 0)
    }

    /// A queue of items that weigh so many bytes, at most [`BYTES_MAX`] together.
    pub(super) fn weighing(items_max: usize, weigh: fn(&T) -> usize) -> Self {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                is_closed: false,
                waiting: 0,
            }),
            filled: Condvar::new(),
            items_max,
            weigh,
        }
    }

    pub(super) fn items_max(&self) -> usize {
        self.items_max
    }

    /// How many items wait now.
    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    // No code under the lock panics, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `item` at the end, without waiting.
    pub(super) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Rejected::Closed(item));
        }
        let weight = (self.weigh)(&item);
        let is_heavy = weight > 0 && state.bytes > 0 && state.bytes + weight > BYTES_MAX;
        if is_heavy || state.items.len() >= self.items_max {
            return Err(Rejected::Full(item));
        }
        state.bytes += weight;
        state.items.push_back(item);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for items, until `deadline` if there is one, and takes at most `count_max` of them.
    pub(super) fn take(&self, count_max: usize, deadline: Option<Instant>) -> Taken<T> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.is_closed {
                return Taken::Closed;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Taken::TimedOut;
            }
            state = self.wait(state, left);
        }
        let count = state.items.len().min(count_max);
        let taken: Vec<T> = state.items.drain(..count).collect();
        state.bytes -= taken.iter().map(self.weigh).sum::<usize>();
        Taken::Items(taken)
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        most: Option<Duration>,
    ) -> MutexGuard<'a, State<T>> {
        state.waiting += 1;
        state = match most {
            None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.filled.wait_timeout(state, most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.waiting -= 1;
        state
    }

    /// Takes no more items; those that are in it can still be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_hands_the_item_back() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Ok(()));
        assert_eq!(queue.push(3), Err(Rejected::Full(3)));
        assert_eq!(queue.take(1, None), Taken::Items(vec![1]));
        assert_eq!(queue.push(4), Ok(()));
    }

    #[test]
    fn a_queue_that_weighs_is_full_by_bytes() {
        let queue = Queue::weighing(9, |bytes: &usize| *bytes);
        assert_eq!(queue.push(2 * BYTES_MAX), Ok(()), "the first, whatever it weighs");
        assert_eq!(queue.push(1), Err(Rejected::Full(1)));
        assert_eq!(queue.push(0), Ok(()));
        assert_eq!(queue.take(1, None), Taken::Items(vec![2 * BYTES_MAX]));
        assert_eq!(queue.push(BYTES_MAX), Ok(()));
        assert_eq!(queue.push(1), Err(Rejected::Full(1)));
    }

    #[test]
    fn a_closed_queue_is_emptied_before_it_ends() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err(Rejected::Closed(2)));
        assert_eq!(queue.take(9, None), Taken::Items(vec![1]));
        assert_eq!(queue.take(9, None), Taken::Closed);
    }

    #[test]
    fn a_wait_ends_with_an_item_a_deadline_or_the_end() {
        let queue = Queue::new(2);
        assert_eq!(queue.take(9, Some(Instant::now())), Taken::TimedOut);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.take(9, None));
            queue.push(7).unwrap();
            assert_eq!(waiting.join().unwrap(), Taken::Items(vec![7]));
            let waiting = scope.spawn(|| queue.take(9, None));
            queue.close();
            assert_eq!(waiting.join().unwrap(), Taken::Closed);
        });
    }
}
