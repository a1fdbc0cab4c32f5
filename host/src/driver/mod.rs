//! The driver: turns the world into the core's events, and the core's actions into the world.
//!
//! ```text
//!   api ── get, put, change ──▶ ┌────────────┐ ── jobs ──▶ storage (threads of its own)
//!   transport ── messages ────▶ │ event loop │ ── frames ─▶ transport
//!   storage ── results ───────▶ │  core Node │ ── answers ▶ api
//!   clock ── ticks ───────────▶ └────────────┘ ── catalogue ▶ disk, transport, modules
//! ```
//!
//! One task owns the [`Node`] and is the only place where it changes, so every cause of work is
//! visible in one loop. The loop never waits for an effect: it hands it on and takes the result
//! as another event. What the loop knows and others want to read (catalogue, reachability,
//! counters) it publishes in [`Shared`].

mod effects;
mod figures;
mod handle;
mod inbox;
mod notices;
mod persist;
mod traced;

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stator_core::event::{Event, Now, Ticket};
use stator_core::node::Node;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use effects::Effects;
pub use figures::{ExchangeTotals, KeyspaceFigures, PeerFigures, VERSIONS};
pub use handle::{DriverHandle, DriverStopped, Held, Shared};
pub use inbox::Inbox;
pub use persist::{BALLOT_FILE, CATALOGUE_FILE, EPOCHS_FILE, FILL_FILE, MOVES_FILE};

use crate::pause;
use crate::telemetry::names::{BACKGROUND_SLICES, EVENTS_WAITING};
use crate::telemetry::traces::Place;
use crate::telemetry::vital::Vital;
use handle::{Answer, Input};
use traced::Traces;

/// The clock of the machine, as the core wants it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A monotonic clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// When its `monotonic_ms` is this.
    pub fn at(&self, monotonic_ms: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_millis(monotonic_ms))
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic_ms: self.start.elapsed().as_millis() as u64,
            wall_ms: wall.as_millis() as u64,
        }
    }
}

/// How long a stop waits until what owners are owed is kept as hints.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How often that is looked at.
const STOP_POLL: Duration = Duration::from_millis(10);

/// How many events the loop takes in before it looks at the clock again.
const BATCH_MAX: usize = 256;

/// The sender and receiver of the loop's inputs, made before the loop: the transport needs
/// somewhere to deliver, and the loop needs the transport.
pub struct Mailbox {
    sender: UnboundedSender<Input>,
    receiver: UnboundedReceiver<Input>,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new() -> Self {
        let (sender, receiver) = unbounded_channel();
        Mailbox { sender, receiver }
    }

    /// Where the transport and the stores deliver.
    pub fn inbox(&self) -> Inbox {
        Inbox::new(self.sender.clone())
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts the loop of `node`. It ends when [`DriverHandle::stop`] is called.
pub fn start(
    mailbox: Mailbox,
    node: Node,
    clock: Clock,
    effects: Effects,
) -> (DriverHandle, tokio::task::JoinHandle<()>) {
    let shared = effects.shared().clone();
    let handle = DriverHandle::new(mailbox.sender, shared);
    let (answers, traces) = (HashMap::new(), Traces::default());
    let state = Loop { node, clock, effects, answers, last_ticket: 0, traces };
    (handle, tokio::spawn(state.run(mailbox.receiver)))
}

struct Loop {
    node: Node,
    clock: Clock,
    effects: Effects,
    answers: HashMap<Ticket, Answer>,
    last_ticket: Ticket,
    traces: Traces,
}

impl Loop {
    /// Runs until it is told to stop and owners are owed nothing, or [`STOP_GRACE`] is over.
    async fn run(mut self, mut inputs: UnboundedReceiver<Input>) {
        let _vital = Vital("the protocol's loop");
        // What the node wanted when it was made, such as to publish the catalogue.
        self.handle(Event::Tick, None);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut stop_at = None;
        let mut pauses = pause::count();
        let waiting = metrics::gauge!(EVENTS_WAITING.name);
        let slices = metrics::gauge!(BACKGROUND_SLICES.name);
        loop {
            if stop_at.is_some_and(|at| Instant::now() >= at || !self.node.is_in_debt()) {
                return;
            }
            let timer = match stop_at {
                Some(_) => self.until_next_timer().min(STOP_POLL),
                None => self.until_next_timer(),
            };
            tokio::select! {
                count = inputs.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
                () = tokio::time::sleep(timer) => {}
            }
            waiting.set(inputs.len() as f64);
            slices.set(self.node.admission().slices() as f64);
            self.effects.shared().show_collect(self.node.collect_figures());
            if std::mem::replace(&mut pauses, pause::count()) != pauses {
                self.handle(Event::Paused { ms: pause::latest_ms() }, None);
            }
            for input in batch.drain(..) {
                match input {
                    Input::Event(event) => self.handle(event, None),
                    Input::Received(event, _, trace) => self.handle(event, trace),
                    Input::Request(request, answer, trace) => {
                        self.last_ticket += 1;
                        self.answers.insert(self.last_ticket, answer);
                        self.handle(request.into_event(self.last_ticket), trace);
                    }
                    Input::Stop => {
                        stop_at = Some(Instant::now() + STOP_GRACE);
                        self.handle(Event::Stopping, None);
                    }
                }
            }
            if self.until_next_timer().is_zero() {
                self.handle(Event::Tick, None);
            }
        }
    }

    fn until_next_timer(&self) -> Duration {
        let now_ms = self.clock.now().monotonic_ms;
        let wait_ms = self.node.next_timer_ms().map_or(1_000, |at_ms| at_ms.saturating_sub(now_ms));
        Duration::from_millis(wait_ms)
    }

    /// Takes in what happened, as a part of what is traced, if it is.
    fn handle(&mut self, event: Event, trace: Option<Place>) {
        let cause = self.traces.happens(&event, trace);
        let actions = self.node.on_event(self.clock.now(), event);
        for action in actions {
            let trace = self.traces.follows(cause, &action);
            self.effects.carry_out(action, trace, &mut self.answers);
        }
    }
}
