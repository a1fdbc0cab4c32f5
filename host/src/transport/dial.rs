//! The dialling side: keeps a session with every member, whoever of the two has dialled.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use stator_core::holder::Where;
use stator_core::id::NodeId;
use tokio::time::timeout;

use super::accept::refuse;
use super::config::{BACKOFF_MAX, BACKOFF_MIN, CONNECT_DEADLINE, HANDSHAKE_DEADLINE};
use super::frame::{Duplex, Link};
use super::handshake::{self, HandshakeError};
use super::{Shared, session};
use crate::pause::Life;
use crate::tls;

/// How long the larger id leaves dialling to the smaller one at first, so that they seldom both do.
const TURN: Duration = Duration::from_millis(300);

/// Dials `peer` again and again until it is no longer in the roster.
pub(super) async fn keep_dialled(shared: Arc<Shared>, peer: NodeId) {
    let mut roster = shared.roster.subscribe();
    let mut asked = shared.asked.subscribe();
    let mut backoff = BACKOFF_MIN;
    if peer < shared.me {
        let _ = timeout(TURN, asked.changed()).await;
    }
    loop {
        roster.mark_unchanged();
        asked.mark_unchanged();
        let Some(address) = shared.address_or_retire(peer) else {
            return;
        };
        let process = shared.asking(peer);
        let address = process.as_ref().map_or(&address, |process| &process.peer_address);
        if !shared.is_isolated() && (process.is_some() || !shared.is_connected(peer)) {
            let place = process.as_ref().map_or(Where::Known, Where::Named);
            let mut tried = attempt(&shared, (peer, place), address).await;
            if let Err(error) = &tried {
                shared.not_found(peer, process.as_ref(), error);
                let found = shared.elsewhere(peer, address).filter(|_| process.is_none());
                if let Some(found) = found {
                    tried = attempt(&shared, (peer, Where::Met), &found).await;
                }
            }
            match tried {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) => shared.note_failed(Some((peer, address)), &error),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(backoff)) => backoff = BACKOFF_MAX.min(backoff * 2),
            // The peer may have got another address.
            _ = roster.changed() => backoff = BACKOFF_MIN,
            _ = asked.changed() => {}
        }
    }
}

/// Half of `backoff` to all of it, so that nodes that lost a peer together do not come back
/// together.
fn jittered(backoff: Duration) -> Duration {
    let percent = 50 + getrandom::u32().unwrap_or(0) % 51;
    backoff * percent / 100
}

/// One connection: ends when its session has ended.
async fn attempt(
    shared: &Arc<Shared>,
    whom: (NodeId, Where<'_>),
    address: &str,
) -> Result<(), HandshakeError> {
    let life = Life::begin();
    let connected = connect(shared, address, CONNECT_DEADLINE).await;
    let mut link = connected.map_err(HandshakeError::Unreachable)?;
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::dial(shared, whom, &mut link));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(hello) => session::run(shared, (&hello, shared.me), link, life).await,
        Err(error) => {
            refuse(shared, &mut link, &error).await;
            return Err(error);
        }
    }
    Ok(())
}

/// A connection to who listens for peers at `address`, `host:port`.
pub(super) async fn connect(
    shared: &Shared,
    address: &str,
    deadline: Duration,
) -> io::Result<Link> {
    let tls = shared.config.dialler();
    let connected = async {
        let io: Box<dyn Duplex> = match (&shared.config.tls, tls) {
            (None, _) => Box::new(tls::connect_tcp(address).await?),
            (Some(_), Some(tls)) => Box::new(tls.connect(address).await?),
            (Some(_), None) => return Err(io::Error::other("no authority for peers is given")),
        };
        let mut link = Link::new(io);
        link.writer.begin().await?;
        Ok(link)
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection came about in time");
    timeout(deadline, connected).await.unwrap_or_else(|_| Err(late()))
}
