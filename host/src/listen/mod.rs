//! The door of every listener: what stands between `accept` and the gRPC library, for clients,
//! operators and peers alike.
//!
//! A connection passes it in this order, and the gRPC library sees only what got through:
//! 1. **A place** (`places.rs`): bounds on all open connections and on those from one address.
//!    Who finds none is told so and closed at once.
//! 2. **TLS**, where the listener has it.
//! 3. **Its first bytes** (`opening.rs`): the 24 bytes that begin HTTP/2 must be there, TLS
//!    handshake included, by a deadline. No setting of the library closes a connection that sends
//!    half of them and waits.
//!
//! Behind it the library keeps the bounds on streams, headers and messages, asks idle
//! connections for a sign of life, and each request's body passes a guard (`body.rs`) that ends it
//! if it comes too slowly, or if bodies together hold more memory than they may.
//!
//! Left out: bounds on how slowly a client may read its answer.

mod body;
mod connection;
mod figures;
mod opening;
mod places;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub use body::{BodyBudget, BodyLimits, BodyTrouble};
pub use connection::Connection;
pub use figures::Figures;

use places::Places;

use crate::pause::Life;
use crate::tls::Tls;

/// After an error of `accept`, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most connections that are told at one time why they are not served.
const FAREWELLS_MAX: usize = 64;

/// What a door lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorLimits {
    /// The most connections that are open.
    pub connections_max: usize,
    /// The most of them from one address: one of IPv4, a /64 network of IPv6.
    pub connections_per_address_max: usize,
    /// TLS handshake and first bytes must be there by then.
    pub opening_deadline: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        DoorLimits {
            connections_max: 2_048,
            connections_per_address_max: 1_024,
            opening_deadline: Duration::from_secs(5),
        }
    }
}

/// The door of one listener.
pub struct Door {
    whom: &'static str,
    limits: DoorLimits,
    places: Places,
    tls: Option<Arc<Tls>>,
    figures: Arc<Figures>,
    farewells: Arc<tokio::sync::Semaphore>,
}

impl Door {
    /// A door for `whom` ("clients"), who speak TLS if it is given.
    pub fn new(whom: &'static str, limits: DoorLimits, tls: Option<Arc<Tls>>) -> Self {
        Door {
            whom,
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

    /// The connections that `listener` accepts and that pass. Accepts only while it is polled.
    pub fn connections(
        self,
        listener: TcpListener,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send {
        async_stream::stream! {
            // Dropped with the stream, and with it those that have not passed yet.
            let mut opening = JoinSet::new();
            let mut life = Life::begin();
            loop {
                let next = tokio::select! {
                    biased;
                    () = life.end() => Next::Opened(None),
                    accepted = listener.accept() => Next::Accepted(accepted),
                    Some(opened) = opening.join_next() => Next::Opened(opened.ok().flatten()),
                };
                if !life.goes_on() {
                    // What was connected meanwhile may hold requests from any time of the pause.
                    drop(next);
                    turn_away(&listener);
                    life = Life::begin();
                    continue;
                }
                match next {
                    Next::Accepted(Ok((stream, _))) => self.admit(stream, &mut opening),
                    Next::Accepted(Err(error)) => {
                        tracing::warn!(whom = self.whom, %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    Next::Opened(Some(connection)) => yield Ok(connection),
                    Next::Opened(None) => {}
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, opening: &mut JoinSet<Option<Connection>>) {
        // Gone already, or without it small frames would wait for acknowledgements, up to 40 ms.
        let (Ok(from), Ok(())) = (stream.peer_addr(), stream.set_nodelay(true)) else {
            return;
        };
        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
        let (figures, whom) = (self.figures.clone(), self.whom);
        match self.places.take(from.ip()) {
            Ok(place) => {
                let deadline = self.limits.opening_deadline;
                let kept = (Life::begin(), place);
                opening.spawn(async move {
                    let opened = opening::open(stream, from, tls, deadline, kept).await;
                    opened.inspect_err(|why| figures.count(whom, from, why)).ok()
                });
            }
            Err(why) => {
                figures.count(whom, from, &why);
                if let (None, Ok(turn)) = (tls, self.farewells.clone().try_acquire_owned()) {
                    opening.spawn(async move {
                        opening::refuse(stream, &why).await;
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
    Accepted(std::io::Result<(TcpStream, std::net::SocketAddr)>),
    Opened(Option<Connection>),
}
