//! What a node is told at its start: defaults, then a TOML file, then the environment, then flags.
//!
//! Every setting has a default, and with all of them `stator serve` is a single node on loopback
//! with a keyspace `default`. A later source wins per setting. An unknown setting in the file is
//! an error; of the environment only `STATOR_*` variables named like a setting are read (so that
//! the variables a container platform makes up do no harm), with `__` between a section and its
//! setting: `STATOR_LIMITS__KEY_BYTES_MAX`.
//!
//! Settings of keyspaces are not here: they belong to the cluster, not to a node.

mod check;
mod environment;
mod listeners;
mod load;
mod secret;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::address::{self, HostPort};

pub use check::Refusal;
pub use listeners::{Listeners, TlsSections};
pub use load::{ConfigError, load};
pub use secret::Secret;

/// All settings of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the node keeps its identity and data. Made if missing; used by one process at a time.
    pub data_dir: PathBuf,
    /// Where clients connect (Kv and Routing). Port 0 takes a free one.
    #[serde(deserialize_with = "address::listening_setting")]
    pub client_listen: SocketAddr,
    /// Where operators connect (Admin). Port 0 takes a free one.
    #[serde(deserialize_with = "address::listening_setting")]
    pub admin_listen: SocketAddr,
    /// Where other nodes connect, by TCP; probes use UDP on the same address and port. Port 0
    /// takes a free one.
    #[serde(deserialize_with = "address::listening_setting")]
    pub peer_listen: SocketAddr,
    /// Where Prometheus reads metrics, by HTTP at `/metrics`; nothing is measured without it or a console.
    pub metrics_listen: Option<SocketAddr>,
    /// Where browsers find the console; there is none without it.
    pub console_listen: Option<SocketAddr>,
    /// Where keys are read and written by plain HTTP; nowhere without it.
    pub http_listen: Option<SocketAddr>,
    /// Where a collector of OpenTelemetry takes traces, by OTLP over gRPC; nothing is traced without it.
    pub traces_endpoint: Option<HostPort>,
    /// A PEM file of the authorities whose certificates the collector may show; plain text without it.
    pub traces_ca: Option<PathBuf>,
    /// Of the requests whose clients do not say whether they are traced, which share is, 0 to 1.
    pub traces_sample: f64,
    /// HOST:PORT told to clients instead of the address listened on.
    pub advertise_client: Option<HostPort>,
    /// HOST:PORT told to operators instead of the address listened on.
    pub advertise_admin: Option<HostPort>,
    /// HOST:PORT told to other nodes instead of the address listened on.
    pub advertise_peer: Option<HostPort>,
    /// Where other members may be found, HOST:PORT of their peer listeners: asked again and again,
    /// names looked up anew each time, while a member is missed at the address that it had.
    #[serde(deserialize_with = "address::list")]
    pub seeds: Vec<HostPort>,
    /// The name of the cluster this node belongs to. A data directory of another is refused.
    pub cluster: Option<String>,
    /// What peers must know to be talked to. Needed when the peer listener is not on loopback.
    pub cluster_secret: Option<Secret>,
    /// A file with the secret; white space at its end does not count.
    pub cluster_secret_file: Option<PathBuf>,
    /// Secrets that count as well as the present one while secrets are changed: those of before,
    /// or the next one. `docs/security.md` has the order of steps.
    pub previous_secrets: Vec<Secret>,
    /// A file with such secrets, one a line; empty lines do not count.
    pub previous_secrets_file: Option<PathBuf>,
    /// The zone label, empty for none. Replicas go to distinct zones where there are several.
    pub zone: String,
    /// The region label, empty for none.
    pub region: String,
    /// The node's share of the partitions relative to the others, 1 to 1000.
    pub weight: u32,
    /// What a fresh data directory becomes.
    pub bootstrap: Bootstrap,
    /// What keeps the data.
    pub engine: EngineKind,
    /// Lets `Admin.SetFault` cut the node off, for tests. Loopback only.
    pub enable_faults: bool,
    /// Listen beyond loopback without encryption.
    pub insecure: bool,
    /// What is logged to standard error: a level or `tracing` directives, such as
    /// `info,stator::transport=debug`.
    pub log: String,
    /// How large things may be.
    pub limits: Limits,
    /// How long things may take.
    pub timings: Timings,
    /// What every listener bears.
    pub listeners: Listeners,
    /// The listeners' certificates.
    pub tls: TlsSections,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Config {
            data_dir: PathBuf::from("stator-data"),
            client_listen: loopback(7101),
            admin_listen: loopback(7102),
            peer_listen: loopback(7103),
            metrics_listen: None,
            console_listen: None,
            http_listen: None,
            traces_endpoint: None,
            traces_ca: None,
            traces_sample: 0.01,
            advertise_client: None,
            advertise_admin: None,
            advertise_peer: None,
            seeds: Vec::new(),
            cluster: None,
            cluster_secret: None,
            cluster_secret_file: None,
            previous_secrets: Vec::new(),
            previous_secrets_file: None,
            zone: String::new(),
            region: String::new(),
            weight: 1,
            bootstrap: Bootstrap::Single,
            engine: EngineKind::Sled,
            enable_faults: false,
            insecure: false,
            log: "info,sled=warn".to_owned(),
            limits: Limits::default(),
            timings: Timings::default(),
            listeners: Listeners::default(),
            tls: TlsSections::default(),
        }
    }
}

/// What a fresh data directory becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Bootstrap {
    /// A cluster of one, with a keyspace `default` of one replica.
    Single,
    /// A node that waits for `stator cluster init`.
    Wait,
}

/// What keeps a node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Files in the data directory: a log-structured tree.
    Sled,
    /// Files in the data directory: a log-structured merge tree.
    Fjall,
    /// The process's memory: gone at its end.
    Memory,
}

impl EngineKind {
    /// Its name in settings and status.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Sled => "sled",
            EngineKind::Fjall => "fjall",
            EngineKind::Memory => "memory",
        }
    }
}

/// How large things may be. A request above one is refused with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a key.
    pub key_bytes_max: usize,
    /// Bytes of a value.
    pub value_bytes_max: usize,
    /// Siblings of a key; a put that would add another and replaces none is refused.
    pub siblings_max: usize,
    /// Bytes of all siblings of a key together, likewise.
    pub siblings_bytes_max: usize,
    /// Bytes of a causal context.
    pub context_bytes_max: usize,
    /// Bytes of all hints that this node holds for others.
    pub hints_bytes_max: u64,
    /// Bytes of all values that are being read, from their way out of the store or in from other
    /// nodes until their answers are made. A get whose value does not fit is refused.
    pub reads_bytes_max: usize,
    /// Bytes on disk of the conflict feed, the record of this node's merges; 0 keeps none.
    pub conflicts_bytes_max: u64,
    /// Bytes on disk of recorded conflicts, whole inputs of merges; 0 keeps none.
    pub recordings_bytes_max: u64,
    /// Bytes on disk of the audit log, the calls of operators that change something; 0 keeps none.
    pub audit_bytes_max: u64,
    /// Bytes on disk of versions that were superseded, where a keyspace keeps them; 0 keeps none.
    pub history_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes_max: 1 << 10,
            value_bytes_max: 1 << 20,
            siblings_max: 100,
            siblings_bytes_max: 16 << 20,
            context_bytes_max: 1 << 16,
            hints_bytes_max: 1 << 30,
            reads_bytes_max: 128 << 20,
            conflicts_bytes_max: 64 << 20,
            recordings_bytes_max: 16 << 20,
            audit_bytes_max: 16 << 20,
            history_bytes_max: 256 << 20,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timings {
    /// How long a replica may take before a fallback is asked, in milliseconds.
    pub replica_timeout_ms: u64,
    /// The deadline of a request whose client gave none, in milliseconds.
    pub request_timeout_ms: u64,
    /// A get, put or delete that takes so long has a line in the log, in milliseconds; 0 for none.
    pub slow_request_ms: u64,
    /// How long a store may take to open before it is taken as damaged, in milliseconds; one
    /// second more for each 8 MiB on disk.
    pub store_open_timeout_ms: u64,
    /// How often a few pages of keys are looked through for what was deleted, in milliseconds; 0
    /// keeps it for ever.
    pub collect_period_ms: u64,
    /// How long hints may wait for their target before the status raises an alarm, in
    /// milliseconds. They stay all the same.
    pub hint_age_alarm_ms: u64,
    /// In what time the node compares all its partitions with all their other owners, in
    /// milliseconds; 0 for never.
    pub exchange_cover_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            replica_timeout_ms: 500,
            request_timeout_ms: 5_000,
            slow_request_ms: 1_000,
            store_open_timeout_ms: 60_000,
            collect_period_ms: 1_000,
            hint_age_alarm_ms: 3_600_000,
            exchange_cover_ms: 600_000,
        }
    }
}
