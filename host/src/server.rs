//! The composition root: a node and its listeners for clients and operators.
//!
//! | listener | services |
//! |---|---|
//! | client | Kv, Routing, health, reflection |
//! | admin | Admin, health, reflection |
//! | peer | the transport's |
//! | metrics | the page of [`crate::exporter`], if one is wanted |
//!
//! All three have the same door ([`crate::listen`]) and certificates of their own, if any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use stator_core::id::NodeId;
use stator_proto::FILE_DESCRIPTOR_SET;
use stator_proto::v1::admin_server::{self, AdminServer};
use stator_proto::v1::kv_server::{self, KvServer};
use stator_proto::v1::routing_server::{self, RoutingServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server;
use tonic_reflection::pb;
use tonic_reflection::server::Builder as Reflection;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::api::{
    AdminService, KvService, RequestLayer, RoutingService, explain_unread, refuse_body,
};
use crate::config::{Config, Listeners};
use crate::exporter::Exporter;
use crate::listen::{BodyBudget, Door};
use crate::node::Node;
use crate::tls::{Tls, TlsFiles};
use crate::transport::Transport;

/// What a message may weigh beside the keys and values in it.
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;
/// The largest answer to a client: its values are bounded, see [`KvService`].
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The largest message to the admin listener: a chunk of a module.
const ADMIN_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// How often the files of certificates are looked at.
const RELOAD_PERIOD: Duration = Duration::from_secs(60);

/// A node that serves.
pub struct RunningNode {
    /// Where clients connect.
    pub client_addr: SocketAddr,
    /// Where operators connect.
    pub admin_addr: SocketAddr,
    /// Where other nodes connect.
    pub peer_addr: SocketAddr,
    /// Its id, made with the data directory.
    pub node_id: NodeId,
    /// Where metrics are read, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    node: Arc<Node>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    certificates: Certificates,
}

impl RunningNode {
    /// The certificates of its listeners.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Stops cleanly: open requests are answered, then the stores are synced and closed.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        for listener in self.listeners {
            // Clients that keep their connection open do not hold up the node for ever.
            let wait = Duration::from_secs(5);
            let _ = tokio::time::timeout(wait, listener).await;
        }
        self.node.shutdown().await;
    }
}

/// Starts a node and returns once it answers.
///
/// # Errors
/// A certificate cannot be used, a listener's port is taken, or the data directory is locked,
/// damaged or another cluster's.
pub async fn serve(config: Config) -> anyhow::Result<RunningNode> {
    let sections = &config.tls;
    let client_tls = load("tls.client", sections.client.as_ref())?;
    let admin_tls = load("tls.admin", sections.admin.as_ref())?;
    let peer_tls = load("tls.peer", sections.peer.as_ref())?;
    let all = [&client_tls, &admin_tls, &peer_tls];
    let certificates = Certificates(all.into_iter().flatten().cloned().collect());
    let limits = config.listeners.clone();
    // All ports first: a node that cannot be reached leaves its data untouched.
    let client = listen("clients", config.client_listen).await?;
    let admin = listen("operators", config.admin_listen).await?;
    let peer = Transport::bind(config.peer_listen).await?.with_tls(peer_tls);
    let exporter = match config.metrics_listen {
        Some(address) => Some(Exporter::bind(address).await?),
        None => None,
    };
    let metrics_addr = exporter.as_ref().map(Exporter::local_addr).transpose()?;
    let (client_addr, admin_addr) = (client.local_addr()?, admin.local_addr()?);
    let peer_addr = peer.local_addr();
    let node = Node::start(config, peer, (client_addr, admin_addr)).await?;
    let stop = watch::Sender::new(false);
    let mut listeners = vec![
        spawn(
            (client, Door::new("clients", limits.door(), client_tls)),
            &limits,
            client_routes(&node).await?,
            stop.subscribe(),
        ),
        spawn(
            (admin, Door::new("operators", limits.door(), admin_tls)),
            &limits,
            admin_routes(&node).await?,
            stop.subscribe(),
        ),
    ];
    tokio::spawn(certificates.clone().watch(stop.subscribe()));
    listeners.extend(exporter.map(|exporter| exporter.spawn(&node, stop.subscribe())));
    let node_id = node.id;
    Ok(RunningNode {
        client_addr,
        admin_addr,
        peer_addr,
        metrics_addr,
        node_id,
        node,
        stop,
        listeners,
        certificates,
    })
}

fn load(section: &'static str, files: Option<&TlsFiles>) -> anyhow::Result<Option<Arc<Tls>>> {
    Ok(files.map(|files| Tls::load(section, files)).transpose()?)
}

/// The certificates of all listeners that have some.
#[derive(Clone)]
pub struct Certificates(Vec<Arc<Tls>>);

impl Certificates {
    /// Takes in what has changed in their files. What cannot be used is logged, and the
    /// certificates of before stay.
    pub async fn reload(&self) {
        for tls in &self.0 {
            let tls = tls.clone();
            let section = tls.section();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => tracing::info!(section, "certificates were replaced"),
                Ok(Ok(false)) => tracing::debug!(section, "certificates are as they were"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the certificates of before stay in use");
                }
                Err(error) => tracing::error!(section, %error, "certificates were not read"),
            }
        }
    }

    /// Reloads from time to time until the node stops.
    async fn watch(self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = async { stop.wait_for(|is_stopped| *is_stopped).await.is_ok() };
            if tokio::time::timeout(RELOAD_PERIOD, stopped).await.is_ok() {
                return;
            }
            self.reload().await;
        }
    }
}

async fn listen(whom: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen for {whom} at {address}"))
}

async fn client_routes(node: &Arc<Node>) -> anyhow::Result<Routes> {
    let limits = &node.config.limits;
    let contexts = limits.context_bytes_max.saturating_mul(8);
    let request = limits.value_bytes_max + limits.key_bytes_max + contexts + MESSAGE_OVERHEAD_BYTES;
    let kv = KvServer::new(KvService::new(node.clone()))
        .max_decoding_message_size(request)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let routing = RoutingServer::new(RoutingService::new(node.clone()))
        .max_decoding_message_size(MESSAGE_OVERHEAD_BYTES)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let (health, service) = tonic_health::server::health_reporter();
    health.set_not_serving::<KvServer<KvService>>().await;
    let shared = node.driver.shared().clone();
    tokio::spawn(async move {
        // Before it belongs to a cluster the node serves no key.
        if shared.watch_catalogue().wait_for(Option::is_some).await.is_ok() {
            health.set_serving::<KvServer<KvService>>().await;
        }
    });
    let routes = Routes::new(kv).add_service(routing).add_service(service);
    with_reflection(routes, &[kv_server::SERVICE_NAME, routing_server::SERVICE_NAME])
}

async fn admin_routes(node: &Arc<Node>) -> anyhow::Result<Routes> {
    let admin = AdminServer::new(AdminService::new(node.clone()))
        .max_decoding_message_size(ADMIN_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let (health, service) = tonic_health::server::health_reporter();
    health.set_serving::<AdminServer<AdminService>>().await;
    with_reflection(Routes::new(admin).add_service(service), &[admin_server::SERVICE_NAME])
}

/// Adds both versions of reflection. They list what this listener serves: `services`, health and
/// themselves.
fn with_reflection(routes: Routes, services: &[&str]) -> anyhow::Result<Routes> {
    let common = [
        health_server::SERVICE_NAME,
        pb::v1::server_reflection_server::SERVICE_NAME,
        pb::v1alpha::server_reflection_server::SERVICE_NAME,
    ];
    let builder = || {
        let described = Reflection::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET);
        let listed = services.iter().chain(&common);
        listed.fold(described, |builder, name| builder.with_service_name(*name))
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

fn spawn(
    (listener, door): (TcpListener, Door),
    limits: &Listeners,
    routes: Routes,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let bodies = BodyBudget::new(limits.bodies(), refuse_body);
    let served = Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
        .layer(RequestLayer)
        .layer(MapResponseLayer::new(explain_unread))
        .layer(MapRequestLayer::new(move |request| bodies.guard(request)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(door.connections(listener), async move {
            let _ = stop.wait_for(|is_stopped| *is_stopped).await;
        });
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "a listener failed");
        }
    })
}
