//! The accepting side: the listener's loop and the gRPC service behind it.
//!
//! The loop is our own, so that a bound on open connections and a deadline for a connection's
//! first bytes can be set between `accept` and tonic.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::Map;
use futures::{Stream, StreamExt};
use stator_proto::peer::v1 as proto;
use stator_proto::peer::v1::peer_server::{Peer, PeerServer};
use stator_proto::peer::v1::setup_server::SetupServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::config::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HANDSHAKE_DEADLINE, KEEPALIVE_DEADLINE,
    KEEPALIVE_INTERVAL, STREAM_WINDOW_BYTES,
};
use super::handshake::{self, HandshakeError};
use super::outbox::{Frames, Outbox};
use super::setup::{CATALOGUE_BYTES_MAX, SetupService};
use super::{Shared, session};

/// After an error of `accept`, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer opens one stream per connection; a few more do no harm.
const STREAMS_MAX: u32 = 8;
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Accepts peers until `stop` is dropped or sent to.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: oneshot::Receiver<()>) {
    let setup = shared.config.setup_desk.clone().map(|desk| {
        let service = SetupService { secret: shared.config.secret, desk };
        SetupServer::new(service).max_decoding_message_size(CATALOGUE_BYTES_MAX)
    });
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
        .add_service(service)
        .add_optional_service(setup)
        .serve_with_incoming_shutdown(connections(listener), async {
            let _ = stop.await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the peer listener failed; no peer can connect any more");
    }
}

fn connections(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    async_stream::stream! {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Without it small frames wait for acknowledgements, up to 40 ms each.
                    if connection.set_nodelay(true).is_ok() {
                        yield Ok(connection);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
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
        self.shared.spawn(async move {
            welcome(shared, request.into_inner(), outbox).await;
        });
        Ok(Response::new(frames.map(Ok)))
    }
}

async fn welcome(shared: Arc<Shared>, mut inbound: Streaming<proto::Frame>, outbox: Arc<Outbox>) {
    let shaken = timeout(HANDSHAKE_DEADLINE, handshake::accept(&shared, &mut inbound, &outbox));
    match shaken.await.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(hello) => session::run(&shared, &hello, inbound, outbox).await,
        Err(error) => {
            shared.note_failed(None, &error);
            outbox.end_with(error.as_refusal());
        }
    }
}
