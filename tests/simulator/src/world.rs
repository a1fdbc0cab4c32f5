//! The world: machines, network, clients and faults under one scheduler with one random source.
//!
//! The loop is [`World::run_until`]: take what happens next, hand it to whom it concerns, carry
//! out the actions that come back. Everything that the real driver would do happens here: disk
//! steps in [`disk`](super::disk), clients in [`traffic`](super::traffic), faults in
//! [`faults`](super::faults). Nothing depends on anything but the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, KeyspaceSpec, Member, Merging, Module, ModuleClass,
    READ_REPAIR_PERCENT, Secret, Versioned,
};
use stator_core::divergence::{MergeFailure, Resolution};
use stator_core::event::{Action, Event, Notice, Ticket, Token};
use stator_core::holder::Holder;
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::Message;
use stator_core::ring::claim;

use super::brief::brief;
use super::checkers::{DotWatch, Violation};
use super::clients::{Client, Key};
use super::disk::DiskStep;
use super::doors::{Door, Sender};
use super::faults::Mend;
use super::files::File;
use super::history::{History, WriteId};
use super::machine::Machine;
use super::merging::{self, Merger, UNION_2};
use super::metadata::Sent;
use super::naming::Names;
use super::network::{Fate, Network};
use super::operators::{Desk, Release, RingWatch, UNION_BAD, zone_of};
use super::planted::Noted;
use super::queue::{Micros, Queue};
use super::scenario::{Chore, FaultKind, Scenario};
use super::store::CLUSTER;
use super::trace::Trace;
use super::traffic::Request;
use super::{Options, Planted, Report};

/// How long clients and faults go on.
pub const TROUBLE_US: Micros = 40_000_000;
/// The keyspace that exists from the start.
pub const EARLY: &str = "early";
/// The keyspace that is made while clients run.
pub const LATE: &str = "late";

/// What reaches a machine.
#[allow(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(super) enum Arrival {
    /// From a peer.
    Message(Sender, Message),
    /// From a peer's failure detector.
    Probe(Sender, Bytes),
}

/// What happens within one life of a machine, and is void in the next.
pub(super) enum Inner {
    /// A timer of the node is due.
    Tick,
    /// A message could not be sent.
    Undelivered(NodeId, Token),
    /// The disk carries out a step.
    Disk(DiskStep),
    /// A sync ended: everything up to this step is durable, and the node may be told.
    Synced { area: stator_core::event::Area, through: u64, reply: Option<Event> },
    /// A small file is saved, or is not.
    Saved(File),
    /// It is looked whether a node that is stopping may.
    Stopping,
    /// A module has answered.
    Merged(Token, Result<Arc<Resolution>, MergeFailure>),
    /// The next page for hash trees that are being rebuilt is read.
    Rebuild,
    /// A request should have been answered by now.
    Overdue(Ticket),
    /// The machine was stopped for so long.
    Paused { ms: u64 },
    /// It is time to dial whoever is missed.
    Dial,
    /// A member was dialled, where it is known or where a process says that it is.
    Dialled { peer: NodeId, asked: Option<Holder>, address: String, is_met: bool },
    /// A client's request is read, whose client waits until then.
    Read { ticket: Ticket, event: Box<Event>, until_us: Micros },
}

/// What happens next.
pub(super) enum Happening {
    /// A client does something.
    Client(usize),
    /// A client does not wait any longer.
    GiveUp(Ticket),
    /// A client tries a named write again.
    Retry(usize, WriteId),
    /// An operator makes the late keyspace.
    CreateLate,
    /// An operator does something, and the next of the kind is planned.
    Operator(Chore, Micros),
    /// An operator goes on without a majority.
    Rescue,
    /// A fault strikes, and the next of its kind is planned.
    Fault(FaultKind, Micros),
    /// A fault ends.
    Mend(Mend),
    /// Something reaches a machine, whatever life it is in.
    To(usize, Arrival),
    /// Something happens in a machine's life.
    In(usize, u64, Inner),
}

/// Everything there is in a run.
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) planted: Planted,
    pub(super) rng: ChaCha8Rng,
    pub(super) now_us: Micros,
    pub(super) queue: Queue<Happening>,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) keys: Vec<Key>,
    pub(super) early_keys: usize,
    pub(super) is_late_ready: bool,
    pub(super) is_trouble: bool,
    pub(super) last_crash_us: Option<Micros>,
    pub(super) requests: BTreeMap<Ticket, Request>,
    pub(super) last_ticket: Ticket,
    pub(super) history: History,
    pub(super) dots: DotWatch,
    pub(super) rings: RingWatch,
    /// What a module is.
    pub(super) merger: Merger,
    /// Machines that run on copies of other machines' directories.
    pub(super) copies: BTreeSet<usize>,
    /// Machines that are none of the cluster in the end.
    pub(super) out: BTreeSet<usize>,
    /// How often a machine was moved.
    pub(super) moved: u64,
    /// Machines that died.
    pub(super) dead: BTreeSet<usize>,
    /// What operators know of keyspaces and of their repairs.
    pub(super) desk: Desk,
    /// What is known of a bad release.
    pub(super) release: Release,
    /// What is known of named writes.
    pub(super) names: Names,
    /// What planted bugs have to know later.
    pub(super) noted: Noted,
    pub(super) violations: Vec<Violation>,
    pub(super) report: Report,
    /// What happened.
    pub trace: Trace,
    /// What machines have said, if that is counted.
    pub(super) sent: Option<Sent>,
}

impl World {
    /// The world of a seed, with all machines started.
    pub fn new(options: &Options) -> Self {
        Self::of(options.scenario().clone(), options)
    }

    /// The world of this scenario, whatever the options say of it.
    pub(super) fn of(scenario: Scenario, options: &Options) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let count = rng.random_range(scenario.machines.0..=scenario.machines.1);
        let catalogue = catalogue(&mut rng, &scenario, options.planted, count);
        let ids = catalogue.members.keys().copied().collect::<Vec<_>>();
        let mut machines: Vec<Machine> =
            ids.iter().map(|id| Machine::new(*id, &catalogue, &mut rng)).collect();
        if scenario.is_copying() {
            name_holders(catalogue, &mut machines);
        }
        for machine in &mut machines {
            machine.store.stale_actors.plant(options.planted);
            machine.store.passes_over_damage = options.planted == Planted::PassOverDamage;
        }
        let early_keys = rng.random_range(scenario.keys.0..=scenario.keys.1);
        let keyspaces = scenario.keyspaces;
        let key = |i: usize| {
            let name = if i < early_keys { early(i % keyspaces) } else { LATE.to_owned() };
            Key { keyspace: KeyspaceId::of(&name, 1), bytes: format!("key {i}").into() }
        };
        let clients: usize = rng.random_range(2..6);
        let mut world = World {
            network: Network::new(scenario.quality, scenario.outbox_max, scenario.regions),
            history: History::new(scenario.is_handoff_complete),
            scenario,
            planted: options.planted,
            rng,
            now_us: 0,
            queue: Queue::new(),
            machines,
            clients: (0..clients).map(|_| Client::default()).collect(),
            keys: (0..early_keys + 2).map(key).collect(),
            early_keys,
            is_late_ready: false,
            is_trouble: true,
            last_crash_us: None,
            requests: BTreeMap::new(),
            last_ticket: 0,
            dots: DotWatch::default(),
            rings: RingWatch::default(),
            merger: merging::union,
            copies: BTreeSet::new(),
            out: BTreeSet::new(),
            moved: 0,
            dead: BTreeSet::new(),
            desk: Desk::default(),
            release: Release::default(),
            names: Names::default(),
            noted: Noted::default(),
            violations: Vec::new(),
            report: Report::default(),
            trace: Trace::new(options.is_traced),
            sent: None,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let (name, count, keys) = (self.scenario.name, self.machines.len(), self.keys.len());
        self.trace.line(0, format_args!("scenario {name:?}, {count} machines, {keys} keys"));
        for machine in 0..self.machines.len() {
            self.start(machine);
        }
        for client in 0..self.clients.len() {
            let at_us = self.rng.random_range(0..500_000);
            self.queue.plan(at_us, Happening::Client(client));
        }
        if !self.scenario.is_scripted {
            self.queue.plan(1_000_000, Happening::CreateLate);
        }
        for &(chore, mean_us) in self.scenario.chores {
            self.queue.plan(mean_us, Happening::Operator(chore, mean_us));
        }
        for &(kind, mean_us) in self.scenario.faults {
            let at_us = self.rng.random_range(500_000..2 * mean_us);
            self.queue.plan(at_us, Happening::Fault(kind, mean_us));
        }
    }

    /// Starts a machine that lies still.
    pub(super) fn start(&mut self, machine: usize) {
        self.machines[machine].exchange_cover_ms = match self.planted {
            Planted::NoExchange => 0,
            _ => self.scenario.exchange_cover_ms(),
        };
        self.machines[machine].collect_period_ms =
            if self.scenario.is_collecting() { 250 } else { 0 };
        self.machines[machine].start(self.now_us, &mut self.rng);
        let incarnation = self.machines[machine].store.incarnation();
        let life = self.machines[machine].life;
        let now_us = self.now_us;
        self.trace.line(now_us, format_args!("n{machine} starts life {life} as {incarnation}"));
        self.rebuild_trees(machine);
        self.open_door(machine);
        self.wake(machine);
    }

    /// Lets time pass until `until_us`, or until something is wrong.
    pub fn run_until(&mut self, until_us: Micros) {
        while self.violations.is_empty() {
            let Some((at_us, what)) = self.queue.pop(until_us) else {
                self.now_us = until_us;
                return;
            };
            self.now_us = at_us;
            self.happen(what);
        }
    }

    fn happen(&mut self, what: Happening) {
        if let Happening::To(machine, _) | Happening::In(machine, ..) = &what {
            let frozen_until_us = self.machines[*machine].frozen_until_us;
            let is_dropped = self.machines[*machine].is_paused && matches!(what, Happening::To(..));
            if frozen_until_us > self.now_us && is_dropped {
                return;
            }
            if frozen_until_us > self.now_us {
                return self.queue.plan(frozen_until_us, what);
            }
        }
        match what {
            Happening::Client(client) => self.client_turn(client),
            Happening::GiveUp(ticket) => self.unread(ticket),
            Happening::Retry(client, id) => self.retry(client, id),
            Happening::CreateLate => self.create_late(),
            Happening::Operator(chore, mean_us) => self.operate(chore, mean_us),
            Happening::Rescue => self.rescue(),
            Happening::Fault(kind, mean_us) => self.strike(kind, mean_us),
            Happening::Mend(mend) => self.mend(mend),
            Happening::To(machine, Arrival::Message(sender, message)) => {
                if !self.hears(machine, sender, true) {
                    return;
                }
                let from = sender.node;
                self.trace.line(
                    self.now_us,
                    format_args!("n{machine} <- n{}: {}", index(from), brief(&message)),
                );
                self.tell(machine, Event::Received(from, message));
            }
            Happening::To(machine, Arrival::Probe(sender, bytes)) => {
                if self.hears(machine, sender, false) {
                    self.tell(machine, Event::Probed(bytes));
                }
            }
            Happening::In(machine, life, inner) => {
                let is_running = self.machines[machine].node.is_some();
                if is_running && self.machines[machine].life == life {
                    self.happen_in(machine, inner);
                }
            }
        }
    }

    fn happen_in(&mut self, machine: usize, inner: Inner) {
        match inner {
            Inner::Tick => {
                self.machines[machine].tick_at_us = None;
                self.tell(machine, Event::Tick);
            }
            Inner::Undelivered(to, token) => self.tell(machine, Event::Undelivered(to, token)),
            Inner::Disk(step) => self.disk_step(machine, step),
            Inner::Synced { area, through, reply } => {
                self.machines[machine].store.shelf_mut(area).sync_through(through);
                if let Some(event) = reply {
                    self.tell(machine, event);
                }
            }
            Inner::Saved(file) => self.saved(machine, file),
            Inner::Stopping => self.go_on_stopping(machine),
            Inner::Merged(token, result) => self.tell(machine, Event::Merged(token, result)),
            Inner::Rebuild => self.rebuild_page(machine),
            Inner::Overdue(ticket) => self.overdue(ticket),
            Inner::Paused { ms } => {
                self.machines[machine].door.iter_mut().for_each(Door::close);
                self.tell(machine, Event::Paused { ms });
            }
            Inner::Dial => self.dial(machine),
            Inner::Dialled { peer, asked, address, is_met } => {
                self.dialled(machine, peer, (asked.as_ref(), is_met), &address);
            }
            Inner::Read { ticket, event, until_us } => {
                self.read(machine, ticket, *event, until_us);
            }
        }
    }

    /// Hands an event to a node, if it runs, and carries out what it wants.
    pub(super) fn tell(&mut self, machine: usize, event: Event) {
        self.report.events += 1;
        let now = self.machines[machine].now(self.now_us);
        self.machines[machine].wall_max_ms = self.machines[machine].wall_max_ms.max(now.wall_ms);
        let Some(node) = &mut self.machines[machine].node else {
            return;
        };
        let cause = self.noted.cause(machine, &event);
        let mut actions = node.on_event(now, event);
        self.plant_wrong_side(machine, cause, &mut actions);
        for action in actions {
            self.act(machine, action);
        }
        self.wake(machine);
    }

    /// Plans the tick for the node's next timer.
    fn wake(&mut self, machine: usize) {
        let due = self.machines[machine].next_timer_us(self.now_us);
        let planned = self.machines[machine].tick_at_us;
        if let Some(at_us) = due.filter(|at_us| planned.is_none_or(|planned| *at_us < planned)) {
            self.machines[machine].tick_at_us = Some(at_us);
            self.plan_in(machine, at_us, Inner::Tick);
        }
    }

    /// Plans something for the present life of a machine.
    pub(super) fn plan_in(&mut self, machine: usize, at_us: Micros, inner: Inner) {
        let life = self.machines[machine].life;
        self.queue.plan(at_us, Happening::In(machine, life, inner));
    }

    fn act(&mut self, machine: usize, action: Action) {
        match action {
            Action::GetDone(ticket, result) => self.get_done(ticket, result),
            Action::PutDone(ticket, result) => self.put_done(ticket, result),
            Action::ListDone(ticket, result) => self.list_done(ticket, result),
            Action::ChangeDone(ticket, result) => self.change_done(ticket, result.is_ok()),
            Action::Send(to, message) => self.send(machine, to, message),
            Action::Probe(to, bytes) => self.probe(machine, to, bytes),
            Action::Persist(token, catalogue) => {
                self.save(machine, File::Catalogue(token, catalogue));
            }
            Action::PersistMoves(token, made) => self.save(machine, File::Moves(token, made)),
            Action::PersistFill(token, backlog) => {
                self.save(machine, File::Fill(token, backlog.encode()));
            }
            Action::PersistEpochs(token, epochs) => {
                self.save(machine, File::Epochs(token, epochs.encode()));
            }
            Action::CommitDone(_, result) => self.commit_done(machine, result),
            Action::PersistBallot(token, acceptor) => {
                self.save(machine, File::Ballot(token, acceptor));
            }
            Action::Merge { token, module, divergence, .. } => {
                self.merge(machine, (token, module), &divergence);
            }
            Action::BroughtHome(..) | Action::ReplicaDone(..) => {}
            // Quotas are not simulated.
            Action::ReadUsage => {}
            Action::RepairStarted(_, result) => self.repair_started(machine, result),
            Action::CatalogueChanged(catalogue) => {
                self.learn_holders(machine, &catalogue);
                self.saw_catalogue(machine, &catalogue);
            }
            Action::Notice(notice) => {
                self.count(&notice);
                self.hear_of(machine, &notice);
                self.trace.line(self.now_us, format_args!("n{machine} notes {notice:?}"));
            }
            Action::Load { .. }
            | Action::Scan { .. }
            | Action::FindAny { .. }
            | Action::ReadIndex { .. }
            | Action::ReadTree { .. }
            | Action::RebuildTree(_)
            | Action::DropPartition { .. }
            | Action::Write { .. }
            | Action::ListHints { .. }
            | Action::SettleHint { .. } => self.queue_for_disk(machine, action),
        }
    }

    fn count(&mut self, notice: &Notice) {
        match notice {
            Notice::HintStored(..) => self.report.hints_stored += 1,
            Notice::HintDelivered(..) => self.report.hints_delivered += 1,
            Notice::Repair(id, figures) => self.repair_goes_on(*id, figures),
            Notice::FillEnded(_) => self.report.fills += 1,
            Notice::ReadRepaired(_) => self.report.repairs += 1,
            Notice::Exchanged(_, _, outcome) => {
                self.report.exchanges += 1;
                self.report.exchanged_keys += outcome.figures.keys_repaired;
            }
            Notice::Collected(_, count) => self.report.collected += count,
            Notice::NotCollected(..) => self.report.rounds_failed += 1,
            Notice::Moved(_) => self.report.moves += 1,
            Notice::PartitionDropped(_) => self.report.partitions_dropped += 1,
            Notice::Folded(_) => self.report.folds += 1,
            _ => {}
        }
    }

    fn send(&mut self, from: usize, to: NodeId, mut message: Message) {
        if let Some(sent) = &mut self.sent {
            sent.count(&message);
        }
        let Some(place) = self.route(from, to) else {
            return self.unsent(from, to, &message);
        };
        self.plant_in(from, place, &mut message);
        let link = (from, place);
        let is_down = self.machines[link.1].node.is_none();
        let fate = match is_down && self.rng.random_bool(0.5) {
            true => Fate::Refused,
            false => self.network.fate(&mut self.rng, link),
        };
        let fate = self.network.enqueue(self.now_us, link, fate);
        match fate {
            Fate::Arrives(delays) => {
                let sender = self.machines[from].sender();
                for delay_us in delays {
                    let arrival = Arrival::Message(sender, message.clone());
                    self.queue.plan(self.now_us + delay_us, Happening::To(link.1, arrival));
                }
            }
            Fate::Lost => {
                let (now_us, to) = (self.now_us, link.1);
                let brief = brief(&message);
                self.trace.line(now_us, format_args!("n{from} -> n{to}: lost {brief}"));
            }
            Fate::Refused => self.unsent(from, to, &message),
        }
    }

    /// A message cannot be sent, and its sender is told.
    fn unsent(&mut self, from: usize, to: NodeId, message: &Message) {
        if let Some(request) = message.starts_request() {
            let at_us = self.now_us + self.rng.random_range(1..1_000);
            self.plan_in(from, at_us, Inner::Undelivered(to, request));
        }
    }

    fn probe(&mut self, from: usize, to: NodeId, bytes: Bytes) {
        if let Some(sent) = &mut self.sent {
            sent.count_probe(bytes.len());
        }
        let Some(place) = self.route_probe(from, to) else { return };
        let (link, sender) = ((from, place), self.machines[from].sender());
        let length = bytes.len();
        self.trace.quiet(self.now_us, format_args!("probe {from} {} {length}", link.1));
        if let Fate::Arrives(delays) = self.network.fate(&mut self.rng, link) {
            for delay_us in delays {
                let arrival = Arrival::Probe(sender, bytes.clone());
                self.queue.plan(self.now_us + delay_us, Happening::To(link.1, arrival));
            }
        }
    }
}

/// A node's place among the machines.
pub fn index(node: NodeId) -> usize {
    (node.0 - 1) as usize
}

/// The name of a keyspace that exists from the start.
fn early(number: usize) -> String {
    if number == 0 { EARLY.to_owned() } else { format!("{EARLY}-{number}") }
}

/// What a keyspace of a run promises.
pub(super) fn spec(name: &str, scenario: &Scenario) -> KeyspaceSpec {
    KeyspaceSpec {
        name: name.to_owned(),
        quorums: scenario.quorums(name),
        durability: scenario.durability,
        reconcile: scenario.reconcile,
        read_repair_percent: READ_REPAIR_PERCENT,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    }
}

/// Names the process of each machine as the member that it is.
fn name_holders(mut catalogue: Catalogue, machines: &mut [Machine]) {
    for machine in machines.iter() {
        if let Some(member) = catalogue.members.get_mut(&machine.id) {
            member.value.incarnation = machine.store.incarnation();
        }
    }
    machines.iter_mut().for_each(|machine| machine.catalogue = catalogue.encode());
}

fn zone(machine: usize, scenario: &Scenario, planted: Planted) -> String {
    match planted {
        Planted::ForgetZones => String::new(),
        _ => format!("zone {}", zone_of(machine, scenario)),
    }
}

fn catalogue(
    rng: &mut ChaCha8Rng,
    scenario: &Scenario,
    planted: Planted,
    machines: usize,
) -> Catalogue {
    let mut catalogue = Catalogue::new(CLUSTER, "simulated", Secret([7; 32]));
    for number in 1..=machines as u64 {
        let member = Member {
            peer_address: format!("n{number}"),
            client_address: String::new(),
            admin_address: String::new(),
            region: format!("region {}", scenario.region_of(number as usize - 1)),
            zone: zone(number as usize - 1, scenario, planted),
            weight: 1,
            incarnation: Default::default(),
        };
        catalogue.members.insert(NodeId(number), Versioned::new(member));
    }
    let (least, most) = scenario.partitions_log2;
    let partitions = 1 << rng.random_range(least..=most);
    // Further machines are members without a seat.
    let seats = catalogue.seats();
    let seated = seats.len() - scenario.spares.min(seats.len() - 1);
    catalogue.ring = claim(1, partitions, scenario.owners as u16, &seats[..seated])
        .expect("the ring of a few nodes of weight 1");
    if let Some(digest) = scenario.reconcile.module() {
        let class = ModuleClass::Small;
        let module = Module {
            pushed_at_ms: 0,
            name: "union".to_owned(),
            size_bytes: 0,
            class,
            generation: 0,
            is_deleted: false,
            laws: None,
            signatures: Default::default(),
        };
        catalogue.modules.insert(UNION_2, module.clone());
        catalogue.modules.insert(UNION_BAD, module.clone());
        catalogue.modules.insert(digest, module);
    }
    for number in 0..scenario.keyspaces {
        CatalogueChange::CreateKeyspace(spec(&early(number), scenario))
            .apply(&mut catalogue)
            .expect("a keyspace with n, r and w that fit each other");
    }
    catalogue
}
