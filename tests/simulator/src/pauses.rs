//! Machines that lie still for a while, and what waits for them meanwhile.
//!
//! A client's request stays unread in the socket of such a machine. When the machine goes on, it
//! does what the real node does: after [`PAUSE_US`] or more it drops what peers and clients sent
//! meanwhile; after less it takes it in, with the deadlines of requests counted from their arrival.
//! So a request that nobody had read when its client gave up has no effect, ever.

use rand::RngExt;
use stator_core::event::{Event, Ticket};
use stator_core::listing::ListRequest;
use stator_core::request::{GetRequest, PutRequest};

use super::Planted;
use super::queue::Micros;
use super::world::{Happening, Inner, World};

/// What waits so long is dropped.
pub const PAUSE_US: Micros = 1_000_000;

impl World {
    /// A machine does nothing for a while.
    pub(super) fn freeze(&mut self, machine: usize) {
        let lasts_us = self.rng.random_range(100_000..4_000_000);
        let until_us = self.now_us + lasts_us;
        // What waits for the end of a freeze keeps its order only if that does not move.
        if self.machines[machine].frozen_until_us > self.now_us {
            return;
        }
        self.machines[machine].frozen_until_us = until_us;
        self.machines[machine].was_gone = true;
        self.machines[machine].is_paused = lasts_us >= PAUSE_US;
        self.trace.line(self.now_us, format_args!("n{machine} freezes until {until_us}"));
        if lasts_us >= PAUSE_US {
            // Planned before all that will wait.
            self.plan_in(machine, until_us, Inner::Paused { ms: lasts_us / 1_000 });
        }
    }

    /// A client's request comes to a machine, which may not read it yet.
    pub(super) fn hand_in(&mut self, machine: usize, ticket: Ticket, event: Event, waits: Micros) {
        let read_us = self.machines[machine].frozen_until_us;
        if read_us <= self.now_us {
            return self.tell(machine, event);
        }
        self.await_reading(ticket, true);
        let until_us = self.now_us + waits;
        self.queue.plan(until_us, Happening::GiveUp(ticket));
        self.plan_in(machine, read_us, Inner::Read { ticket, event: Box::new(event), until_us });
    }

    /// A machine comes to a request that has waited.
    pub(super) fn read(&mut self, machine: usize, ticket: Ticket, event: Event, until_us: Micros) {
        if self.planted == Planted::Expired {
            self.await_reading(ticket, false);
            return self.tell(machine, event);
        }
        let is_late = until_us <= self.now_us;
        if is_late || self.machines[machine].is_paused {
            return self.unread(ticket);
        }
        self.await_reading(ticket, false);
        let timeout_ms = (until_us - self.now_us) / 1_000;
        self.tell(
            machine,
            match event {
                Event::Put(ticket, put) => Event::Put(ticket, PutRequest { timeout_ms, ..put }),
                Event::List(ticket, list) => {
                    Event::List(ticket, ListRequest { timeout_ms, ..list })
                }
                Event::Get(ticket, get) => Event::Get(ticket, GetRequest { timeout_ms, ..get }),
                event => event,
            },
        );
    }
}
