//! The door of every listener: what stands between `accept` and who speaks with clients, operators
//! and peers.
//!
//! A connection passes it in this order, and the gRPC library, or the transport between nodes, sees
//! only what got through:
//! 1. **A place** (`places.rs`): bounds on all open connections and on those from one address.
//!    Who finds none is told so and closed at once.
//! 2. **TLS**, where the listener has it.
//! 3. **Its first bytes** (`opening.rs`): those that begin what the listener speaks ([`Speech`]; of
//!    HTTP/2 they are 24) must be there, TLS handshake included, by a deadline. No setting of the
//!    library closes a connection that sends half of them and waits.
//!
//! Behind it the gRPC library keeps the bounds on streams, headers and messages, asks idle
//! connections for a sign of life, and each request's body passes a guard (`body.rs`) that ends it
//! if it comes too slowly, or if bodies together hold more memory than they may. Answers pass
//! another (`answer.rs`). Both end whole connections, if they must, by the node's `hold.rs` on
//! them; so does the node's stop.

mod answer;
mod body;
mod connection;
mod figures;
mod hold;
mod opening;
mod places;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use answer::{AnswerBudget, AnswerTrouble};
pub use body::{BodyBudget, BodyLimits, BodyTrouble};
pub use connection::{Connection, Peer};
pub use figures::{Closed, Figures};
pub use hold::Hold;
pub use opening::Speech;
pub use places::Places;

use crate::pause::Life;
use crate::tls::Tls;

/// After an error of `accept`, which mostly means that there are no file descriptors left: at
/// first; it doubles up to …
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// … this.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often connections are looked at that may have to be ended.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The most connections that are told at one time why they are not served.
pub const FAREWELLS_MAX: usize = 64;

/// What a door lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorLimits {
    /// The most connections that are open.
    pub connections_max: usize,
    /// The most of them from one address: one of IPv4, a /64 network of IPv6.
    pub connections_per_address_max: usize,
    /// TLS handshake and first bytes must be there by then.
    pub opening_deadline: Duration,
    /// A connection must have read its answers by then; each 16 KiB that it read give a second
    /// more.
    pub answer_deadline: Duration,
    /// Who connects is a stranger until it is [trusted](Hold::trust): so much is read of it, and
    /// it is closed if it is none by [`STRANGER_DEADLINE`]. `None`: nobody is a stranger.
    pub stranger_bytes_max: Option<usize>,
}

/// How long a connection may be a stranger's, where there are some.
pub const STRANGER_DEADLINE: Duration = Duration::from_secs(10);

impl Default for DoorLimits {
    fn default() -> Self {
        DoorLimits {
            connections_max: 2_048,
            connections_per_address_max: 1_024,
            opening_deadline: Duration::from_secs(5),
            answer_deadline: Duration::from_secs(10),
            stranger_bytes_max: None,
        }
    }
}

/// The door of one listener.
pub struct Door {
    whom: &'static str,
    speech: Speech,
    limits: DoorLimits,
    places: Places,
    tls: Option<Arc<Tls>>,
    figures: Arc<Figures>,
    farewells: Arc<tokio::sync::Semaphore>,
}

impl Door {
    /// A door for `whom` ("clients"), who speak this, inside TLS if it is given.
    pub fn new(
        whom: &'static str,
        speech: Speech,
        limits: DoorLimits,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Door {
            whom,
            speech,
            places: Places::new(&limits),
            limits,
            tls,
            figures: Arc::default(),
            farewells: Arc::new(tokio::sync::Semaphore::new(FAREWELLS_MAX)),
        }
    }

    /// What has passed it and what has not.
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// Its places: the connections that are open.
    pub fn places(&self) -> Places {
        self.places.clone()
    }

    /// The connections that `listener` accepts and that pass. Accepts only while it is polled.
    pub fn connections(
        self,
        listener: TcpListener,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send {
        async_stream::stream! {
            // Dropped with the stream, and with it those that have not passed yet.
            let mut opening = JoinSet::new();
            let mut life = Life::begin();
            let mut pause = ACCEPT_PAUSE_MIN;
            let mut look = tokio::time::interval(LOOK_PERIOD);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let next = tokio::select! {
                    biased;
                    () = life.end() => Next::Opened(None),
                    accepted = listener.accept() => Next::Accepted(accepted),
                    Some(opened) = opening.join_next() => Next::Opened(opened.ok().flatten()),
                    _ = look.tick() => Next::Look,
                };
                if !life.goes_on() {
                    // What was connected meanwhile may hold requests from any time of the pause.
                    drop(next);
                    turn_away(&listener);
                    life = Life::begin();
                    continue;
                }
                match next {
                    Next::Accepted(Ok((stream, _))) => {
                        pause = ACCEPT_PAUSE_MIN;
                        self.admit(stream, &mut opening);
                    }
                    Next::Accepted(Err(error)) => {
                        self.figures.count_unaccepted(self.whom, &error);
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                    }
                    Next::Opened(Some(connection)) => yield Ok(connection),
                    Next::Opened(None) => {}
                    Next::Look => self.look(),
                }
            }
        }
    }

    /// Ends the connections that leave their answers unread, or stay strangers.
    fn look(&self) {
        let (now, whom) = (Instant::now(), self.whom);
        let deadline = self.limits.answer_deadline;
        for from in self.places.end_if(|hold| hold.is_stalled(now, deadline)) {
            self.figures.count(whom, from, &Closed::Unread(deadline));
        }
        for from in self.places.end_if(|hold| hold.is_strange(now, STRANGER_DEADLINE)) {
            self.figures.count(whom, from, &Closed::Stranger(STRANGER_DEADLINE));
        }
    }

    fn admit(&self, stream: TcpStream, opening: &mut JoinSet<Option<Connection>>) {
        // Gone already, or without it small frames would wait for acknowledgements, up to 40 ms.
        let (Ok(from), Ok(())) = (stream.peer_addr(), stream.set_nodelay(true)) else {
            return;
        };
        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
        let (figures, whom, speech) = (self.figures.clone(), self.whom, self.speech);
        match self.places.take(from) {
            Ok(place) => {
                let deadline = self.limits.opening_deadline;
                let kept = (Life::begin(), place);
                opening.spawn(async move {
                    let opened = opening::open(stream, (speech, tls), deadline, kept).await;
                    opened.inspect_err(|why| figures.count(whom, from, why)).ok()
                });
            }
            Err(why) => {
                figures.count(whom, from, &why);
                if let (None, Ok(turn)) = (tls, self.farewells.clone().try_acquire_owned()) {
                    opening.spawn(async move {
                        opening::refuse(stream, speech, &why).await;
                        drop(turn);
                        None
                    });
                }
            }
        }
    }
}

/// Ends all connections that wait to be accepted.
fn turn_away(listener: &TcpListener) {
    let waiting = listener.as_fd().try_clone_to_owned().map(std::net::TcpListener::from);
    match waiting {
        // Nothing waits any more, or the next that waits is gone: either way that was all.
        Ok(waiting) => while waiting.accept().is_ok() {},
        Err(error) => {
            tracing::error!(%error, "connections that were made during a pause are served");
        }
    }
}

enum Next {
    Look,
    Accepted(std::io::Result<(TcpStream, std::net::SocketAddr)>),
    Opened(Option<Connection>),
}
