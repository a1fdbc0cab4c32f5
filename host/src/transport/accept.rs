//! The accepting side: the listener's loop and the gRPC service behind it.
//!
//! Connections come through the door that all listeners have ([`crate::listen`]). Until its
//! handshake holds a connection is a stranger's: little of it is read, and it ends soon. The calls
//! of a cluster's making may be large and come before any handshake: few connections may make such
//! at a time, and their bodies are guarded.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::Map;
use stator_proto::peer::v1 as proto;
use stator_proto::peer::v1::peer_server::{Peer, PeerServer};
use stator_proto::peer::v1::setup_server::SetupServer;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::config::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HANDSHAKE_DEADLINE, KEEPALIVE_DEADLINE,
    KEEPALIVE_INTERVAL, STREAM_WINDOW_BYTES,
};
use super::handshake::{self, HandshakeError};
use super::outbox::{Frames, Outbox};
use super::setup::{CATALOGUE_BYTES_MAX, SetupService};
use super::{Shared, session};
use crate::listen::{BodyBudget, BodyTrouble, Door, DoorLimits, Peer as Stranger};
use crate::pause::Life;

/// A peer opens one stream per connection; a few more do no harm.
const STREAMS_MAX: u32 = 8;
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// What is read of a connection before its handshake: HTTP/2's own, hello and proof are less.
const STRANGER_BYTES_MAX: usize = 64 << 10;
/// Connections that make calls of a cluster's making, at a time.
const SETUPS_MAX: usize = 4;
/// Begins the paths of the calls that need no handshake.
const SETUP_PATH: &str = "/stator.peer.v1.Setup/";

/// Accepts peers until `stop` is dropped or sent to.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: oneshot::Receiver<()>) {
    let setup = shared.config.setup_desk.clone().map(|desk| {
        let secrets = shared.config.accepted_secrets().copied().collect();
        let cut = shared.clone();
        let is_isolated = Box::new(move || cut.is_isolated());
        let service = SetupService { secrets, desk, is_isolated };
        SetupServer::new(service).max_decoding_message_size(CATALOGUE_BYTES_MAX)
    });
    let config = &shared.config;
    let limits = DoorLimits { stranger_bytes_max: Some(STRANGER_BYTES_MAX), ..config.door.clone() };
    let door = Door::new("peers", limits, config.tls.clone());
    let bodies = BodyBudget::new(config.bodies.clone(), refuse_body);
    let setups = Arc::new(Semaphore::new(SETUPS_MAX));
    let service = PeerServer::new(PeerService { shared })
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_DEADLINE))
        .layer(MapRequestLayer::new(move |request: tonic::codegen::http::Request<_>| {
            if !request.uri().path().starts_with(SETUP_PATH) {
                return request;
            }
            if let (Some(peer), Ok(turn)) =
                (request.extensions().get::<Stranger>(), setups.clone().try_acquire_owned())
            {
                peer.hold.allow(CATALOGUE_BYTES_MAX + STRANGER_BYTES_MAX, turn);
            }
            bodies.guard(request)
        }))
        .add_service(service)
        .add_optional_service(setup)
        .serve_with_incoming_shutdown(door.connections(listener), async {
            let _ = stop.await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the peer listener failed; no peer can connect any more");
    }
}

fn refuse_body(trouble: BodyTrouble) -> Status {
    let code = match trouble {
        BodyTrouble::TooSlow { .. } => Code::DeadlineExceeded,
        BodyTrouble::Full { .. } => Code::ResourceExhausted,
    };
    Status::new(code, trouble.to_string())
}

struct PeerService {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = Map<Frames, fn(proto::Frame) -> Result<proto::Frame, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<proto::Frame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let outbox = Arc::new(Outbox::new(&self.shared.config));
        let frames = Frames { shared: self.shared.clone(), outbox: outbox.clone() };
        let shared = self.shared.clone();
        let peer = request.extensions().get::<Stranger>().cloned();
        self.shared.spawn(async move {
            welcome(shared, request.into_inner(), outbox, peer).await;
        });
        Ok(Response::new(frames.map(Ok)))
    }
}

async fn welcome(
    shared: Arc<Shared>,
    mut inbound: Streaming<proto::Frame>,
    outbox: Arc<Outbox>,
    stranger: Option<Stranger>,
) {
    let life = Life::begin();
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::accept(&shared, &mut inbound, &outbox));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(hello) => {
            if let Some(known) = stranger {
                known.hold.trust();
            }
            session::run(&shared, (&hello, hello.node), (inbound, outbox), life).await;
        }
        Err(error) => {
            shared.note_failed(None, &error);
            outbox.end_with(error.as_refusal());
        }
    }
}
