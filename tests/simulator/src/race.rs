//! A race: one key with siblings, readers whose gets have them folded, and a client that has seen
//! all of them and deletes or replaces them at about the same time. Its write must win.
//!
//! A run is short, so that many thousands of seeds can be tried: what differs is who coordinates
//! what, how long each message takes, which are repeated or lost, and who comes first.

use std::collections::BTreeSet;

use rand::RngExt;
use stator_core::request::PutRequest;

use super::checkers::{LOST, REVIVED, Violation};
use super::clients;
use super::history::{ClientWrite, Counts, Outcome, WriteId};
use super::merging;
use super::queue::Micros;
use super::world::World;

const MILLISECOND: Micros = 1_000;
/// Within this time everything happens that races.
const WINDOW_US: Micros = 40 * MILLISECOND;
/// The key.
const PLACE: usize = 0;
/// The client whose write must win.
const KILLER: usize = 0;
/// The others.
const OTHERS: usize = 1;

impl World {
    /// Runs a race to its end.
    pub(super) fn race(&mut self) {
        self.run_until(200 * MILLISECOND);
        let siblings = self.rng.random_range(2..=3);
        for _ in 0..siblings {
            let write = self.draft(false, BTreeSet::new(), BTreeSet::new());
            self.client_put(OTHERS, write);
            let pause_us = self.rng.random_range(0..10 * MILLISECOND);
            self.run_until(self.now_us + pause_us);
        }
        let early = self.rng.random_bool(0.5);
        // Sometimes the siblings are folded before, sometimes they still meet.
        let pause_us = if early { 5 * MILLISECOND } else { 60 * MILLISECOND };
        self.run_until(self.now_us + pause_us);
        let machine = self.machine();
        self.start_get((KILLER, machine), PLACE, 3);
        // Its answer is what the client has seen.
        let pause_us = self.rng.random_range(1..25) * MILLISECOND;
        self.run_until(self.now_us + pause_us);
        let killer = self.run_window();
        self.end();
        if let Some(id) = killer.filter(|_| self.violations.is_empty()) {
            self.judge_race(id);
        }
    }

    fn machine(&mut self) -> usize {
        self.rng.random_range(0..self.machines.len())
    }

    /// Gets and the write that must win, in any order.
    fn run_window(&mut self) -> Option<WriteId> {
        let gets = self.rng.random_range(1..=4);
        let kill_at = self.now_us + self.rng.random_range(0..WINDOW_US);
        let mut at: Vec<(Micros, bool)> = vec![(kill_at, true)];
        for _ in 0..gets {
            // Most of them close before or after it.
            let apart = self.rng.random_range(0..8 * MILLISECOND);
            let at_us = match self.rng.random_bool(0.7) {
                true => kill_at.saturating_sub(apart).max(self.now_us),
                false => kill_at + apart,
            };
            at.push((at_us, false));
        }
        at.sort_unstable();
        let mut killer = None;
        for (at_us, is_killer) in at {
            self.run_until(at_us);
            if is_killer {
                killer = self.kill();
            } else {
                let (machine, r) = (self.machine(), self.rng.random_range(1..=3));
                self.start_get((OTHERS, machine), PLACE, r);
            }
        }
        self.run_until(self.now_us + 200 * MILLISECOND);
        killer
    }

    /// The client replaces or deletes what it has seen, if that is all there is.
    fn kill(&mut self) -> Option<WriteId> {
        let known = self.clients[KILLER].known(PLACE)?.clone();
        if self.history.of_key(PLACE).any(|(id, _)| !known.seen.contains(&id)) {
            return None;
        }
        let is_delete = self.rng.random_bool(0.6);
        let write = self.draft(is_delete, known.seen, known.contents);
        Some(self.client_put(KILLER, write))
    }

    fn draft(
        &self,
        is_delete: bool,
        seen: BTreeSet<WriteId>,
        contents: BTreeSet<WriteId>,
    ) -> ClientWrite {
        let contents = if is_delete { BTreeSet::new() } else { contents };
        let outcome = Outcome::Pending;
        let counts = Counts::Any;
        ClientWrite { key: PLACE, is_delete, seen, contents, counts, outcome }
    }

    fn client_put(&mut self, client: usize, write: ClientWrite) -> WriteId {
        let context = match client {
            KILLER => self.clients[KILLER].known(PLACE).map(|known| known.context.clone()),
            _ => None,
        };
        let (machine, w) = (self.machine(), Some(self.rng.random_range(1..=3)));
        let put = clients::put(&self.keys[PLACE], context.unwrap_or_default(), write.is_delete);
        self.start_put((client, machine), PutRequest { w, ..put }, write)
    }

    /// The write has won: what is left is its own.
    fn judge_race(&mut self, id: WriteId) {
        let left = merging::contents(&self.left(PLACE));
        let own = self.history.contents(id);
        let is_acked = self.history.is_certain(id);
        self.report.races += u64::from(is_acked && self.report.folds > 0);
        if !is_acked || left == own {
            return;
        }
        let rule = if own.is_subset(&left) { REVIVED } else { LOST };
        let found = format!("write {id} has seen all there was, and left is {left:?}");
        self.violations.push(Violation { rule, key: Some(PLACE), found });
    }
}
