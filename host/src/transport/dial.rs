//! The dialling side: keeps a session with every member, whoever of the two has dialled.

use std::sync::Arc;
use std::time::Duration;

use stator_core::id::NodeId;
use stator_proto::peer::v1 as proto;
use stator_proto::peer::v1::peer_client::PeerClient;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::config::{
    BACKOFF_MAX, BACKOFF_MIN, CONNECT_DEADLINE, CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX,
    HANDSHAKE_DEADLINE, KEEPALIVE_DEADLINE, KEEPALIVE_INTERVAL, STREAM_WINDOW_BYTES,
};
use super::handshake::{self, HandshakeError};
use super::holders::Place;
use super::outbox::{Frames, Outbox};
use super::{Shared, session};
use crate::pause::Life;
use crate::tls;

/// A refusal has this long to reach the peer before the connection goes.
const LINGER: Duration = Duration::from_millis(500);

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
            let place = process.as_ref().map_or(Place::Known, Place::Named);
            let mut tried = attempt(&shared, (peer, place), address).await;
            if let Err(error) = &tried {
                shared.not_found(peer, process.as_ref(), error);
                let found = shared.elsewhere(peer, address).filter(|_| process.is_none());
                if let Some(found) = found {
                    tried = attempt(&shared, (peer, Place::Met), &found).await;
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
    whom: (NodeId, Place<'_>),
    address: &str,
) -> Result<(), HandshakeError> {
    let life = Life::begin();
    let outbox = Arc::new(Outbox::new(&shared.config));
    let frames = Frames { shared: shared.clone(), outbox: outbox.clone() };
    let (client, mut inbound) = connect(shared, address, frames).await?;
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::dial(shared, whom, &mut inbound, &outbox));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(hello) => session::run(shared, (&hello, shared.me), (inbound, outbox), life).await,
        Err(error) => {
            outbox.end_with(error.as_refusal());
            let ended = async { while let Ok(Some(_)) = inbound.message().await {} };
            let _ = timeout(LINGER, ended).await;
            return Err(error);
        }
    }
    drop(client);
    Ok(())
}

type Client = PeerClient<tonic::transport::Channel>;

async fn connect(
    shared: &Shared,
    address: &str,
    frames: Frames,
) -> Result<(Client, Streaming<proto::Frame>), HandshakeError> {
    let endpoint = Endpoint::from_shared(shared.config.url(address))
        .map_err(|error| HandshakeError::Unreachable(error.to_string()))?
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_DEADLINE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let unreachable = |error: &dyn std::error::Error| {
        let cause = std::iter::successors(Some(error), |error| error.source()).last();
        HandshakeError::Unreachable(cause.unwrap_or(error).to_string())
    };
    let tls = shared.config.dialler();
    let channel = tls::connect(&endpoint, tls.as_ref()).await.map_err(|e| unreachable(&e))?;
    let mut client = PeerClient::new(channel)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let response = timeout(HANDSHAKE_DEADLINE, client.exchange(frames))
        .await
        .map_err(|_| HandshakeError::TooSlow)?
        .map_err(|status| HandshakeError::Broken(status.message().to_owned()))?;
    Ok((client, response.into_inner()))
}
