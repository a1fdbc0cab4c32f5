//! The composition root: a node and its listeners for clients and operators.
//!
//! | listener | services |
//! |---|---|
//! | client | Kv, Routing, health, reflection |
//! | admin | Admin, health, reflection |
//! | peer | the transport's |
//! | metrics | the page of [`crate::exporter`], if one is wanted |
//! | console | the pages of [`crate::console`], if they are wanted |
//! | http | the gateway ([`crate::gateway`]), if it is wanted |
//!
//! The first three have the same door ([`crate::listen`]) and certificates of their own, if any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use stator_core::holder::Standing;
use stator_core::id::NodeId;
use stator_proto::FILE_DESCRIPTOR_SET;
use stator_proto::v1::admin_server::{self, AdminServer};
use stator_proto::v1::kv_server::{self, KvServer};
use stator_proto::v1::routing_server::{self, RoutingServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_reflection::pb;
use tonic_reflection::server::Builder as Reflection;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::api::{
    AdminService, Guard, HealthService, KvService, Membership, RequestLayer, RoutingService,
    explain_unread, refuse_answer, refuse_body,
};
use crate::config::{Config, Listeners};
use crate::console;
use crate::descriptors::{self, Doors};
use crate::exporter::Exporter;
use crate::gateway;
use crate::listen::{AnswerBudget, BodyBudget, Door, Places, Speech};
use crate::node::Node;
use crate::telemetry::vital::Vital;
use crate::telemetry::{self, traces};
use crate::tls::{ClientTls, Tls, TlsFiles};
use crate::transport::Transport;
use crate::web;

/// What a message may weigh beside the keys and values in it.
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;
/// The largest answer to a client: its values are bounded, see [`KvService`].
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The largest message to the admin listener: a chunk of a module.
const ADMIN_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// How long a stop waits for requests that are open, and for clients that keep connections open.
const LISTENERS_GRACE: Duration = Duration::from_millis(1_500);
/// How long a start waits until another member has accepted it, before it answers clients.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);
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
    /// Where browsers find the console, if anywhere.
    pub console_addr: Option<SocketAddr>,
    /// Where keys are read and written by plain HTTP, if anywhere.
    pub http_addr: Option<SocketAddr>,
    node: Arc<Node>,
    health: Healths,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    places: Vec<Places>,
    certificates: Certificates,
}

/// Whether clients and operators are served.
struct Healths {
    client: Arc<watch::Sender<bool>>,
    admin: watch::Sender<bool>,
    following: JoinHandle<()>,
}

impl RunningNode {
    /// The certificates of its listeners.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Stops cleanly: health watches are told, open requests are answered, then the stores are
    /// synced and closed. Connections that are still open after a while are ended.
    pub async fn shutdown(self) {
        self.health.stop().await;
        self.stop.send_replace(true);
        let listeners = futures::future::join_all(self.listeners);
        let _ = tokio::time::timeout(LISTENERS_GRACE, listeners).await;
        self.places.iter().for_each(Places::end_all);
        self.node.shutdown().await;
        // Last, with the spans of what was answered meanwhile.
        let _ = tokio::task::spawn_blocking(traces::stop).await;
    }
}

/// Reads what the settings name, as a start would, and neither listens nor opens data.
///
/// # Errors
/// A certificate cannot be used, or the listeners want more files than the system lets it open.
pub fn check(config: &Config) -> anyhow::Result<()> {
    read(config).map(drop)
}

/// What is said of the listeners: how much each bears, and the certificates of those for clients,
/// operators, nodes and browsers.
fn read(config: &Config) -> anyhow::Result<(Doors, [Option<Arc<Tls>>; 4])> {
    let files = descriptors::raise().context("the limit on open files is not known")?;
    let doors = Doors::fit(&config.listeners, files)?;
    let sections = &config.tls;
    let tls = [
        load("tls.client", sections.client.as_ref())?,
        load("tls.admin", sections.admin.as_ref())?,
        load("tls.peer", sections.peer.as_ref())?,
        load("tls.console", sections.console.as_ref())?,
    ];
    Ok((doors, tls))
}

/// Starts a node and returns once it answers.
///
/// # Errors
/// A certificate cannot be used, a listener's port is taken, or the data directory is locked,
/// damaged or another cluster's.
pub async fn serve(config: Config) -> anyhow::Result<RunningNode> {
    let (doors, tls) = read(&config)?;
    let certificates = Certificates(tls.iter().flatten().cloned().collect());
    let [client_tls, admin_tls, peer_tls, console_tls] = tls;
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
    let gateway = match config.http_listen {
        Some(address) => {
            let tls = console_tls.clone();
            Some(web::Listener::bind(("HTTP", address), tls, Duration::ZERO).await?)
        }
        None => None,
    };
    let http_addr = gateway.as_ref().map(web::Listener::local_addr).transpose()?;
    let console = match config.console_listen {
        Some(address) => {
            let recorder = exporter.as_ref().map(Exporter::recorder);
            let recorder = recorder.map_or_else(telemetry::install, Ok)?;
            Some(console::Listener::bind(address, console_tls, recorder).await?)
        }
        None => None,
    };
    let console_addr = console.as_ref().map(console::Listener::local_addr).transpose()?;
    let (client_addr, admin_addr) = (client.local_addr()?, admin.local_addr()?);
    let peer_addr = peer.local_addr();
    let collector = config.traces_endpoint.clone();
    let trust = |ca| ClientTls::trusting("traces_ca", ca);
    let collector_tls = config.traces_ca.as_deref().map(trust).transpose()?;
    let (share, zone) = (config.traces_sample, config.zone.clone());
    let node = Node::start(config, peer, doors.peer, (client_addr, admin_addr)).await?;
    if let Some(collector) = collector {
        let id = ("service.instance.id", node.id.to_string());
        let version = ("service.version", env!("CARGO_PKG_VERSION").to_owned());
        traces::start(
            (&collector, collector_tls.as_ref()),
            share,
            [id, version, ("stator.zone", zone)],
        )?;
    }
    node.driver.shared().settle(SETTLE_WITHIN).await;
    let stop = watch::Sender::new(false);
    let health = Healths::of(&node);
    let client_routes = client_routes(&node, health.client.subscribe())?;
    let gateway_routes = client_routes.clone();
    let admin_routes = admin_routes(&node, health.admin.subscribe())?;
    let client_door = Door::new("clients", Speech::GRPC, doors.client, client_tls);
    let admin_door = Door::new("operators", Speech::GRPC, doors.admin, admin_tls);
    let places = vec![client_door.places(), admin_door.places()];
    // From here on nothing fails or waits: who is served once is told of a stop.
    let mut listeners = vec![
        spawn(
            (client, client_door),
            &limits,
            (Guard::for_clients(node.clone()), client_routes),
            stop.subscribe(),
        ),
        spawn(
            (admin, admin_door),
            &limits,
            (Guard::for_operators(node.clone()), admin_routes),
            stop.subscribe(),
        ),
    ];
    tokio::spawn(certificates.clone().watch(stop.subscribe()));
    listeners.extend(exporter.map(|exporter| exporter.spawn(&node, stop.subscribe())));
    if let Some(gateway) = gateway {
        let router = gateway::router(&Guard::for_clients(node.clone()), gateway_routes);
        listeners.push(gateway.spawn("the gateway", router, stop.subscribe()));
    }
    listeners.extend(console.map(|console| console.spawn(&node, stop.subscribe())));
    let node_id = node.id;
    Ok(RunningNode {
        client_addr,
        admin_addr,
        peer_addr,
        metrics_addr,
        console_addr,
        http_addr,
        node_id,
        node,
        health,
        stop,
        listeners,
        places,
        certificates,
    })
}

impl Healths {
    fn of(node: &Arc<Node>) -> Self {
        let client = Arc::new(watch::Sender::new(false));
        let (told, shared, me) = (client.clone(), node.driver.shared().clone(), node.id);
        let following = tokio::spawn(async move {
            let (mut catalogues, mut standings) =
                (shared.watch_catalogue(), shared.watch_standing());
            loop {
                let is_refused = matches!(*standings.borrow_and_update(), Standing::Refused(_));
                let serves = catalogues.borrow_and_update().as_ref().is_some_and(|catalogue| {
                    catalogue.members.contains_key(&me) && !catalogue.removed.contains_key(&me)
                }) && !is_refused;
                told.send_if_modified(|told| std::mem::replace(told, serves) != serves);
                let changed = tokio::select! {
                    changed = catalogues.changed() => changed,
                    changed = standings.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Healths { client, admin: watch::Sender::new(true), following }
    }

    /// Says NOT_SERVING for good, and ends all watches.
    async fn stop(self) {
        self.following.abort();
        let _ = self.following.await;
        self.client.send_replace(false);
        self.admin.send_replace(false);
    }
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

fn client_routes(node: &Arc<Node>, is_serving: watch::Receiver<bool>) -> anyhow::Result<Routes> {
    let limits = &node.config.limits;
    let contexts = limits.context_bytes_max.saturating_mul(8);
    let request = limits.value_bytes_max + limits.key_bytes_max + contexts + MESSAGE_OVERHEAD_BYTES;
    let kv = KvService::new(node.clone()).while_serving(is_serving.clone());
    let kv = KvServer::new(kv)
        .max_decoding_message_size(request)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let routing = RoutingServer::new(RoutingService::new(node.clone()))
        .max_decoding_message_size(MESSAGE_OVERHEAD_BYTES)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let membership = Membership::new(node.clone());
    let kv = InterceptedService::new(kv, membership.clone());
    let routing = InterceptedService::new(routing, membership);
    let services = &[kv_server::SERVICE_NAME, routing_server::SERVICE_NAME];
    let health = HealthServer::new(HealthService::new(services, is_serving));
    with_reflection(Routes::new(kv).add_service(routing).add_service(health), services)
}

fn admin_routes(node: &Arc<Node>, is_serving: watch::Receiver<bool>) -> anyhow::Result<Routes> {
    let admin = AdminServer::new(AdminService::new(node.clone()))
        .max_decoding_message_size(ADMIN_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let services = &[admin_server::SERVICE_NAME];
    let health = HealthServer::new(HealthService::new(services, is_serving));
    with_reflection(Routes::new(admin).add_service(health), services)
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
    (guard, routes): (Guard, Routes),
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let bodies = BodyBudget::new(limits.bodies(), refuse_body);
    let answers = AnswerBudget::new(limits.answer_bytes_max, refuse_answer);
    let served = Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
        .layer(RequestLayer)
        .layer(MapResponseLayer::new(explain_unread))
        .layer(answers)
        .layer(MapRequestLayer::new(move |request| bodies.guard(request)))
        .layer(guard)
        .add_routes(routes)
        .serve_with_incoming_shutdown(door.connections(listener), async move {
            let _ = stop.wait_for(|is_stopped| *is_stopped).await;
        });
    tokio::spawn(async move {
        let _vital = Vital("a listener");
        if let Err(error) = served.await {
            panic!("a listener failed: {error}");
        }
    })
}
