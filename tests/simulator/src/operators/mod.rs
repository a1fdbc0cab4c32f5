//! Operators: what they do to the ring, to keyspaces and to owners that may differ.

mod keyspaces;
mod release;
mod repair;
mod resize;
mod ring;

use rand::RngExt;

pub use keyspaces::Desk;
pub use release::{OPERATOR, Release, UNION_BAD};
pub use ring::{RingWatch, zone_of};

use super::queue::Micros;
use super::scenario::Chore;
use super::world::{Happening, World};

/// The tickets of operators' changes, of which the world wants no answer.
const TICKET: u64 = 0;

impl World {
    /// An operator does something, and the next time is planned.
    pub(super) fn operate(&mut self, chore: Chore, mean_us: Micros) {
        if !self.is_trouble {
            return;
        }
        let next_us = self.now_us + self.rng.random_range(mean_us / 4..mean_us * 7 / 4);
        self.queue.plan(next_us, Happening::Operator(chore, mean_us));
        let machine = self.rng.random_range(0..self.machines.len());
        match chore {
            Chore::Ring => self.change_rings(machine),
            Chore::Keyspaces => self.change_keyspaces(machine),
            Chore::Modules => self.switch_module(machine),
            Chore::Release => self.release(machine),
            Chore::Repair => self.ask_repair(machine),
            Chore::Resize => self.resize(machine),
        }
    }
}
