//! The dialling side: keeps a session with every member whose id is larger than this node's.

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
use super::handshake::{self, HandshakeError, Refusal};
use super::outbox::{Frames, Outbox};
use super::{Shared, session};
use crate::pause::Life;
use crate::tls;

/// A refusal has this long to reach the peer before the connection goes.
const LINGER: Duration = Duration::from_millis(500);

/// How long a node without sessions waits before it asks why.
const ALONE: Duration = Duration::from_secs(5);

/// Dials `peer` again and again until it is no longer in the roster.
pub(super) async fn keep_dialled(shared: Arc<Shared>, peer: NodeId) {
    let mut roster = shared.roster.subscribe();
    let mut backoff = BACKOFF_MIN;
    loop {
        roster.mark_unchanged();
        let Some(address) = shared.address_or_retire(peer) else {
            return;
        };
        if !shared.is_isolated() {
            let mut tried = attempt(&shared, peer, &address).await;
            if let (Err(_), Some(found)) = (&tried, shared.elsewhere(peer, &address)) {
                tried = attempt(&shared, peer, &found).await;
            }
            match tried {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) => shared.note_failed(Some((peer, &address)), &error),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(backoff)) => backoff = BACKOFF_MAX.min(backoff * 2),
            // The peer may have got another address.
            _ = roster.changed() => backoff = BACKOFF_MIN,
        }
    }
}

/// While nobody has a session with this node, asks those that are to dial it. A node that was
/// removed from the cluster is dialled by nobody, and hears the reason this way.
pub(super) async fn ask_while_alone(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(jittered(ALONE)).await;
        let is_alone = super::read(&shared.sessions).is_empty() && !shared.is_isolated();
        let Some(roster) = shared.roster().filter(|_| is_alone) else { continue };
        for (&peer, address) in roster.members.range(..shared.me) {
            let wrong_dialer = Refusal::WrongDialer(shared.me).to_string();
            match attempt(&shared, peer, address).await {
                // It is there and will dial.
                Err(HandshakeError::RefusedByPeer(reason)) if reason == wrong_dialer => {}
                Err(error) if error.is_refusal() => {
                    shared.note_failed(Some((peer, address)), &error);
                }
                _ => {}
            }
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
async fn attempt(shared: &Arc<Shared>, peer: NodeId, address: &str) -> Result<(), HandshakeError> {
    let life = Life::begin();
    let outbox = Arc::new(Outbox::new(&shared.config));
    let frames = Frames { shared: shared.clone(), outbox: outbox.clone() };
    let (client, mut inbound) = connect(shared, address, frames).await?;
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::dial(shared, peer, &mut inbound, &outbox));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(hello) => session::run(shared, &hello, (inbound, outbox), life).await,
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
