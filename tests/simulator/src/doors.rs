//! Who is connected with whom, in worlds in which several processes say that they are one node.
//!
//! Elsewhere a node's id says which machine it is. Here a data directory may have been copied, so
//! messages go by sessions, as in the real transport: a process dials the members of its catalogue
//! at the addresses that it knows, and whoever is found there, or asks, is judged by core's
//! [`Holders`], the very code that the transport runs. What the transport does around it is done
//! here: a session ends when its other end is gone, is cut off for some seconds, or is no holder any
//! more; a probe goes to the address that the catalogue names.
//!
//! Left out: introductions while there is trouble, but for the word that a removed node gets; and the
//! two sessions of a pair that dials at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;
use stator_core::catalogue::Catalogue;
use stator_core::event::{Event, Notice};
use stator_core::holder::{Dialled, Found, Holder, Holders, Intruder, Standing, Where};
use stator_core::id::{Incarnation, NodeId};

use super::Planted;
use super::checkers::{NEVER_GONE, ONE_HOLDER, Violation};
use super::machine::Machine;
use super::queue::Micros;
use super::world::{Inner, World};

/// How long a session outlives its last sign of life.
const KEEPALIVE_US: Micros = 5_000_000;

/// Who sends something.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// The node that it says it is.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// A peer that is connected.
#[derive(Debug, Clone, Copy)]
struct Session {
    place: usize,
    life: u64,
    incarnation: Incarnation,
    heard_us: Micros,
}

/// What one process knows of the others.
#[derive(Debug, Default)]
pub struct Door {
    holders: Holders,
    sessions: BTreeMap<NodeId, Session>,
    /// Whom the failure detector hears of.
    alive: BTreeSet<NodeId>,
    /// Where members were met by other means.
    met: BTreeMap<NodeId, String>,
    /// Of a planted bug: processes that were let in at some time.
    known: BTreeSet<Incarnation>,
}

impl Door {
    /// The place of the process with which there is a session.
    pub fn place_of(&self, node: NodeId) -> Option<usize> {
        self.sessions.get(&node).map(|session| session.place)
    }

    fn is_connected(&self, node: NodeId) -> bool {
        let session = self.sessions.get(&node);
        session.is_some_and(|session| self.holders.is_holder(node, session.incarnation))
    }

    /// Who is refused.
    pub fn intruders(&self, now_ms: u64) -> Vec<Intruder> {
        self.holders.intruders(now_ms)
    }

    /// All connections are reset.
    pub fn close(&mut self) {
        self.sessions.clear();
    }
}

impl World {
    /// A process starts: it is connected with nobody.
    pub(super) fn open_door(&mut self, machine: usize) {
        if !self.scenario.is_copying() {
            return;
        }
        let incarnation = self.machines[machine].store.incarnation();
        self.machines[machine].door = Some(Door::default());
        if let Some(node) = &mut self.machines[machine].node {
            node.live_as(incarnation);
        }
        self.plan_in(machine, self.now_us + 1_000, Inner::Dial);
    }

    /// A process has another catalogue.
    pub(super) fn learn_holders(&mut self, machine: usize, catalogue: &Catalogue) {
        let now_ms = self.machines[machine].now(self.now_us).monotonic_ms;
        let Some(door) = &mut self.machines[machine].door else { return };
        for (node, member) in &catalogue.members {
            door.holders.learn(now_ms, *node, member.version, member.value.holder());
        }
        door.holders.retain(|node| catalogue.members.contains_key(&node));
        let Door { holders, sessions, .. } = door;
        if self.planted != Planted::KeepOldHolder {
            sessions.retain(|node, session| holders.is_holder(*node, session.incarnation));
        }
    }

    /// What a process is told of others' lives.
    pub(super) fn hear_of(&mut self, machine: usize, notice: &Notice) {
        let Some(door) = &mut self.machines[machine].door else { return };
        match notice {
            Notice::MemberUp(node) => drop(door.alive.insert(*node)),
            Notice::MemberDown(node) => drop(door.alive.remove(node)),
            _ => {}
        }
    }

    /// Whom a message to a node reaches.
    pub(super) fn route(&self, from: usize, to: NodeId) -> Option<usize> {
        match &self.machines[from].door {
            Some(door) => door.place_of(to),
            None => Some(super::world::index(to)),
        }
    }

    /// Whom a probe of a node reaches.
    pub(super) fn route_probe(&self, from: usize, to: NodeId) -> Option<usize> {
        if self.machines[from].door.is_none() {
            return Some(super::world::index(to));
        }
        let catalogue = self.machines[from].node.as_ref()?.catalogue()?;
        self.at(&catalogue.members.get(&to)?.value.peer_address)
    }

    /// Whether something of a sender is taken in.
    pub(super) fn hears(&mut self, machine: usize, sender: Sender, is_message: bool) -> bool {
        let Some(door) = &self.machines[machine].door else { return true };
        let Sender { node, incarnation } = sender;
        let is_heard = match door.sessions.get(&node) {
            Some(session) if is_message => session.incarnation == incarnation,
            _ => !is_message && door.holders.is_holder(node, incarnation),
        };
        if is_heard && is_message {
            self.check_sender(machine, sender);
        }
        is_heard
    }

    /// The cluster's own word on who is a member stands above what a process's door believes.
    fn check_sender(&mut self, machine: usize, sender: Sender) {
        let catalogue = self.machines[machine].node.as_ref().and_then(|node| node.catalogue());
        // Who was removed keeps no catalogue any more, and serves nobody.
        let me = self.machines[machine].id;
        let catalogue = catalogue.filter(|catalogue| !catalogue.removed.contains_key(&me));
        let member = catalogue.and_then(|catalogue| catalogue.members.get(&sender.node));
        let Some(holder) = member.map(|member| member.value.incarnation) else { return };
        if holder != sender.incarnation && holder != Incarnation::default() {
            let Sender { node, incarnation } = sender;
            let found = format!("n{machine} serves {incarnation} as {node}, which is {holder}");
            self.violations.push(Violation { rule: ONE_HOLDER, key: None, found });
        }
    }

    /// The process that runs at an address.
    fn at(&self, address: &str) -> Option<usize> {
        let is_there = |place: &usize| {
            let machine = &self.machines[*place];
            machine.node.is_some() && machine.address == address
        };
        (0..self.machines.len()).find(is_there)
    }

    fn is_open(&self, one: usize, other: usize) -> bool {
        !self.network.is_cut((one, other)) && !self.network.is_cut((other, one))
    }

    fn process(&self, place: usize) -> Holder {
        let machine = &self.machines[place];
        let (incarnation, peer_address) = (machine.store.incarnation(), machine.address.clone());
        Holder { incarnation, peer_address, ..Holder::default() }
    }

    /// A process dials whom it misses.
    pub(super) fn dial(&mut self, machine: usize) {
        let again_us = self.now_us + self.rng.random_range(100_000..600_000);
        self.plan_in(machine, again_us, Inner::Dial);
        self.look_at_sessions(machine);
        let Some(catalogue) = self.machines[machine].node.as_ref().and_then(|n| n.catalogue())
        else {
            return;
        };
        let members = catalogue.clone();
        let me = self.machines[machine].id;
        for (peer, member) in members.members.iter().filter(|(peer, _)| **peer != me) {
            let now_ms = self.machines[machine].now(self.now_us).monotonic_ms;
            let Some(door) = &self.machines[machine].door else { return };
            let is_connected = door.is_connected(*peer);
            let is_alive = door.alive.contains(peer) || is_connected;
            let asked = door.holders.to_dial(now_ms, *peer, is_alive);
            if is_connected && asked.is_none() {
                continue;
            }
            let met = door.met.get(peer).filter(|_| asked.is_none()).cloned();
            let at_us = self.now_us + self.rng.random_range(200..20_000);
            let address = member.value.peer_address.clone();
            let (peer, is_met) = (*peer, false);
            self.plan_in(machine, at_us, Inner::Dialled { peer, asked, address, is_met });
            if let Some(address) = met {
                let dialled = Inner::Dialled { peer, asked: None, address, is_met: true };
                self.plan_in(machine, at_us + 1, dialled);
            }
        }
    }

    /// Two processes are told of one another, by an operator or a seed.
    pub(super) fn introduce(&mut self, one: usize, other: usize) {
        for (this, that) in [(one, other), (other, one)] {
            let (id, address) = (self.machines[that].id, self.machines[that].address.clone());
            if let Some(door) = &mut self.machines[this].door {
                door.met.insert(id, address);
            }
        }
    }

    /// Sessions whose other end is gone, or was not heard of for long, end.
    fn look_at_sessions(&mut self, machine: usize) {
        let me = self.machines[machine].id;
        let Some(door) = &self.machines[machine].door else { return };
        let mut kept = door.sessions.clone();
        kept.retain(|_, session| {
            let other = &self.machines[session.place];
            let is_silent =
                other.frozen_until_us > self.now_us || !self.is_open(machine, session.place);
            if is_silent {
                return self.now_us < session.heard_us + KEEPALIVE_US;
            }
            session.heard_us = self.now_us;
            let theirs = other.door.as_ref().and_then(|door| door.place_of(me));
            other.node.is_some() && other.life == session.life && theirs == Some(machine)
        });
        if let Some(door) = &mut self.machines[machine].door {
            door.sessions = kept;
        }
    }

    /// What a process finds where it dialled.
    pub(super) fn dialled(
        &mut self,
        machine: usize,
        peer: NodeId,
        (asked, is_met): (Option<&Holder>, bool),
        address: &str,
    ) {
        let address = asked.map_or(address, |asked| &asked.peer_address);
        let other = self.at(address).filter(|other| self.is_open(machine, *other));
        let place = match (asked, is_met) {
            (Some(asked), _) => Where::Named(asked),
            (None, true) => Where::Met,
            (None, false) => Where::Known,
        };
        if is_met && self.machines[machine].door.as_ref().is_some_and(|d| d.is_connected(peer)) {
            return;
        }
        match other {
            Some(other) if self.machines[other].frozen_until_us > self.now_us => {
                self.judge_dialled(machine, (peer, place), Found::Silence);
            }
            Some(other) if self.machines[other].id == peer => {
                self.meet(machine, (other, place));
            }
            _ => drop(self.judge_dialled(machine, (peer, place), Found::Nobody)),
        }
    }

    fn judge_dialled(
        &mut self,
        machine: usize,
        (peer, place): (NodeId, Where<'_>),
        found: Found,
    ) -> Standing {
        let now_ms = self.machines[machine].now(self.now_us).monotonic_ms;
        let Some(door) = &mut self.machines[machine].door else { return Standing::Asking };
        let Dialled { decided, standing } = door.holders.dialled(now_ms, peer, place, found);
        if let Some(holder) = decided {
            self.hold(machine, peer, holder);
        }
        standing
    }

    fn hold(&mut self, machine: usize, node: NodeId, holder: Holder) {
        let Holder { incarnation, peer_address, .. } = &holder;
        self.trace.line(
            self.now_us,
            format_args!("n{machine} takes {incarnation} at {peer_address} for {node}"),
        );
        self.tell(machine, Event::HolderFound(node, holder));
    }

    /// A process has found another one, which judges in its turn.
    fn meet(&mut self, machine: usize, (other, place): (usize, Where<'_>)) {
        let (me, peer) = (self.machines[machine].id, self.machines[other].id);
        let theirs = self.machines[other].node.as_ref().and_then(|node| node.catalogue()).cloned();
        let Some(theirs) = theirs else { return };
        if theirs.removed.contains_key(&me) {
            return self.tell(machine, Event::Adopted(Arc::new(theirs.removal())));
        }
        if !theirs.members.contains_key(&me) {
            return;
        }
        let process = self.process(other);
        let standing = self.judge_dialled(machine, (peer, place), Found::Process(process));
        let asking = self.process(machine);
        let now_ms = self.machines[other].now(self.now_us).monotonic_ms;
        let Some(door) = &mut self.machines[other].door else { return };
        let is_connected = door.is_connected(me);
        let mut asked = door.holders.asks(now_ms, me, &asking, is_connected);
        if self.planted == Planted::KeepOldHolder && door.known.contains(&asking.incarnation) {
            asked = Standing::Held;
        }
        match (asked, standing) {
            (Standing::Refused(_), _)
                if self.planted == Planted::TakeSecondHolder && self.copies.contains(&machine) =>
            {
                self.hold(other, me, asking);
            }
            (Standing::Refused(holder), _) => self.refuse(machine, other, holder),
            (Standing::Held, Standing::Held) => self.connect(machine, other),
            _ => {}
        }
    }

    /// A process is told that another one is the node.
    fn refuse(&mut self, machine: usize, by: usize, holder: Holder) {
        self.report.refused += 1;
        self.machines[machine].refused_by = Some((by, self.now_us));
        if !self.machines[machine].was_gone {
            let found = format!("n{machine} ran all the time, and is refused for {holder:?}");
            self.violations.push(Violation { rule: NEVER_GONE, key: None, found });
        }
        self.tell(machine, Event::ToldOf(Some(Box::new(holder))));
    }

    fn connect(&mut self, one: usize, other: usize) {
        for (this, that) in [(one, other), (other, one)] {
            let Machine { id, life, store, .. } = &self.machines[that];
            let (place, heard_us, incarnation) = (that, self.now_us, store.incarnation());
            let (id, session) = (*id, Session { place, life: *life, incarnation, heard_us });
            if let Some(door) = &mut self.machines[this].door {
                door.sessions.insert(id, session);
                door.known.insert(incarnation);
            }
        }
        self.trace.line(self.now_us, format_args!("n{one} and n{other} are connected"));
        self.tell(one, Event::ToldOf(None));
        self.tell(other, Event::ToldOf(None));
    }
}
