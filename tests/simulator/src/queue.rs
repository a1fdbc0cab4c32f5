//! What is going to happen, by virtual time, then by the order in which it was planned.

use std::collections::BTreeMap;

/// Microseconds since the world began.
pub type Micros = u64;

/// Events to come.
#[derive(Debug)]
pub struct Queue<T> {
    planned: BTreeMap<(Micros, u64), T>,
    count: u64,
}

impl<T> Queue<T> {
    /// A queue of nothing.
    pub fn new() -> Self {
        Queue { planned: BTreeMap::new(), count: 0 }
    }

    /// Plans `what` for `at_us`.
    pub fn plan(&mut self, at_us: Micros, what: T) {
        self.count += 1;
        self.planned.insert((at_us, self.count), what);
    }

    /// The next event with its time, if it is due by `until_us`.
    pub fn pop(&mut self, until_us: Micros) -> Option<(Micros, T)> {
        let (&(at_us, _), _) = self.planned.first_key_value()?;
        if at_us > until_us {
            return None;
        }
        self.planned.pop_first().map(|((at_us, _), what)| (at_us, what))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}
