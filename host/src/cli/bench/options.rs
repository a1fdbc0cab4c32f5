//! What a bench is told on the command line, and what of it cannot be meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use stator_client::Coordination;

use super::choice::Distribution;
use super::peers::Peers;
use super::schedule::End;
use super::timeline::SECONDS_MAX;
use super::workload::Workload;
use crate::cli::failure::Failure;
use crate::cli::kv::{Durability, Replicas};
use crate::cli::parse;
use crate::config::EngineKind;

/// How long is measured where nothing is said.
const DURATION: Duration = Duration::from_secs(10);
/// The least a cart takes with its first article.
const CART_BYTES_MIN: u32 = 128;

/// What to do.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// What to do to keys, one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a", value_name = "LIST")]
    pub(super) workload: Vec<Workload>,
    /// How keys are chosen [default: as YCSB does: zipfian, latest in d]
    #[arg(long, value_enum)]
    pub(super) distribution: Option<Distribution>,
    /// How many keys there are at the start
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) keys: u64,
    /// How large a value is
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    pub(super) value_bytes: u32,
    /// Of 100 operations of cart, in how many a second client writes at the same time [default: 20]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) conflicts: Option<u8>,
    /// Do not write the keys first: they are there
    #[arg(long)]
    pub(super) no_load: bool,
    /// Decides which worker does what to which key
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,

    /// How many connections there are, over all endpoints
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) connections: u16,
    /// How many operations are under way at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) concurrency: u32,
    /// Begin so many operations a second (an open loop) [default: whenever one has ended]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// How long to run each workload before it counts; 0 is not at all
    #[arg(long, default_value = "2s", value_parser = warm_up, value_name = "DURATION")]
    pub(super) warm_up: Duration,
    /// How long to measure each workload [default: 10s]
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", conflicts_with = "operations")]
    pub(super) duration: Option<Duration>,
    /// How many operations of each workload to measure, in place of a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub(super) operations: Option<u64>,

    /// The keyspace [default: default; with --local one is made]
    #[arg(short, long, value_name = "NAME", conflicts_with = "local")]
    pub(super) keyspace: Option<String>,
    /// The client addresses of several nodes [default: --endpoint]
    #[arg(long, value_name = "URL", value_delimiter = ',', conflicts_with = "local")]
    pub(super) endpoints: Vec<String>,
    /// How many replicas must answer a get [default: the keyspace's r]
    #[arg(short, value_name = "REPLICAS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) r: Option<u32>,
    /// How many replicas must acknowledge a put [default: the keyspace's w]
    #[arg(short, value_name = "REPLICAS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) w: Option<u32>,
    #[command(flatten)]
    pub(super) replicas: Replicas,
    /// When an acknowledgement counts [default: the keyspace's durability]
    #[arg(long, value_enum)]
    pub(super) durability: Option<Durability>,
    /// Who coordinates requests
    #[arg(long, value_enum, default_value = "any")]
    pub(super) coordination: Coordinator,
    /// Updates replace nothing they have seen: for keyspaces in which the last write wins
    #[arg(long)]
    pub(super) blind: bool,
    /// How often a request is sent at most; each attempt goes to the next endpoint
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) attempts: u32,

    /// Tell the latencies of each second too
    #[arg(long)]
    pub(super) by_second: bool,
    /// Draw the latencies into this file
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(super) local: Local,
    #[command(flatten)]
    pub(super) peers: Peers,
}

/// Who coordinates the requests of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Coordinator {
    /// The node of the connection
    Any,
    /// An owner of the key: each connection is one to every node
    Owner,
    /// Gets by the bench itself, which asks r owners; puts as with owner
    Client,
}

impl From<Coordinator> for Coordination {
    fn from(coordinator: Coordinator) -> Self {
        match coordinator {
            Coordinator::Any => Coordination::Any,
            Coordinator::Owner => Coordination::Owner,
            Coordinator::Client => Coordination::Client,
        }
    }
}

/// A cluster of the bench's own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "A cluster of its own")]
pub(super) struct Local {
    /// Start so many nodes for the bench, and stop them after it
    #[arg(long = "local", id = "local", value_name = "NODES", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) nodes: Option<u8>,
    /// What keeps their data [default: sled]
    #[arg(long, value_enum, requires = "local")]
    pub(super) engine: Option<EngineKind>,
    /// A further flag of their `stator serve`, as --serve-flag=--log=debug; may be given several times
    #[arg(long, value_name = "FLAG", requires = "local", allow_hyphen_values = true)]
    pub(super) serve_flag: Vec<String>,
    /// Merge siblings by this module, a file
    #[arg(long, value_name = "FILE", requires = "local", conflicts_with = "blind")]
    pub(super) module: Option<PathBuf>,
    /// Where to make the folder with their data [default: that of temporary files]
    #[arg(long, value_name = "DIR", requires = "local")]
    pub(super) dir: Option<PathBuf>,
    /// How long a message takes to a node, from the bench and from other nodes alike, and back
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "local")]
    pub(super) link_delay: Option<Duration>,
    /// Ask the nodes through a load balancer, to which a message takes that time too: as clients
    /// that know no node
    #[arg(long, requires = "link_delay")]
    pub(super) balancer: bool,
    /// Put the last so many nodes into another region: the link delay is to them only, and only the
    /// others are asked
    #[arg(
        long,
        value_name = "NODES",
        default_value_t = 0,
        requires = "link_delay",
        hide_default_value = true
    )]
    pub(super) far: u8,
    /// Keep their data and logs
    #[arg(long, requires = "local")]
    pub(super) keep: bool,
}

impl Local {
    /// How many replicas the keyspace has that is made.
    pub(super) fn replicas(&self) -> Option<u32> {
        self.nodes.map(|nodes| u32::from(nodes).min(3))
    }
}

impl Options {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// It cannot: a wrong usage.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let has_cart = self.workload.contains(&Workload::Cart);
        if u32::from(self.connections) > self.concurrency {
            let message = "more --connections than --concurrency: some would never be used";
            return Err(Failure::usage(message));
        }
        if self.conflicts.is_some() && !has_cart {
            return Err(Failure::usage("--conflicts needs --workload cart"));
        }
        if self.by_second && self.duration.is_some_and(|time| time.as_secs() > SECONDS_MAX) {
            let message =
                format!("--by-second tells {SECONDS_MAX} seconds at most: less --duration");
            return Err(Failure::usage(message));
        }
        if has_cart && self.value_bytes < CART_BYTES_MIN {
            let message =
                format!("--workload cart needs --value-bytes of {CART_BYTES_MIN} or more");
            return Err(Failure::usage(message));
        }
        if has_cart && self.blind {
            return Err(Failure::usage("--workload cart writes what it has read, never --blind"));
        }
        if self.connections < u16::try_from(self.endpoints.len()).unwrap_or(u16::MAX) {
            return Err(Failure::usage("fewer --connections than --endpoints"));
        }
        if self.coordination == Coordinator::Client && self.r.is_some() {
            let message = "--coordination client reads with the keyspace's r, not with -r";
            return Err(Failure::usage(message));
        }
        if self.local.balancer && self.coordination != Coordinator::Any {
            return Err(Failure::usage("--balancer knows no owners: --coordination any"));
        }
        if self.local.nodes.is_some_and(|nodes| self.local.far >= nodes) {
            return Err(Failure::usage("--far leaves no node to ask: fewer than --local"));
        }
        let n = self.local.replicas();
        for (name, asked) in [("-r", self.r), ("-w", self.w)] {
            if let (Some(n), Some(asked)) = (n, asked)
                && asked > n
            {
                return Err(Failure::usage(format!("{name} {asked}: a key has {n} replicas here")));
            }
        }
        self.peers.check(self)
    }

    /// When a measurement ends.
    pub(super) fn end(&self) -> End {
        match (self.operations, self.duration) {
            (Some(operations), _) => End::Operations(operations),
            (None, duration) => End::After(duration.unwrap_or(DURATION)),
        }
    }

    /// The percentage of conflicts in `workload`.
    pub(super) fn conflicts(&self, workload: Workload) -> u64 {
        if workload == Workload::Cart { self.conflicts.unwrap_or(20).into() } else { 0 }
    }

    /// What is said in a document of how it came to be, defaults included.
    pub(super) fn settings(&self) -> Map<String, Value> {
        let (operations, duration) = match self.end() {
            End::Operations(count) => (Some(count), None),
            End::After(time) => (None, Some(time.as_secs_f64())),
        };
        let asked = |asked: Option<&'static str>, default: &'static str| asked.unwrap_or(default);
        let engine =
            self.local.nodes.map(|_| asked(self.local.engine.map(EngineKind::name), "sled"));
        let durability = self.durability.map(|one| Durability::word(Durability::number(Some(one))));
        let law = self.distribution.map(|law| match law {
            Distribution::Uniform => "uniform",
            Distribution::Zipfian => "zipfian",
            Distribution::Latest => "latest",
        });
        let settings = json!({
            "against": self.peers.against.name(),
            "is_serializable": self.peers.serializable,
            "wait_replicas": self.peers.wait_replicas,
            "distribution": asked(law, "the workload's"),
            "keys": self.keys,
            "value_bytes": self.value_bytes,
            "conflicts_percent": self.conflicts,
            "seed": self.seed,
            "connections": self.connections,
            "concurrency": self.concurrency,
            "rate": self.rate,
            "warm_up_seconds": self.warm_up.as_secs_f64(),
            "seconds": duration,
            "operations": operations,
            "keyspace": self.keyspace,
            "endpoints": self.endpoints,
            "r": self.r,
            "w": self.w,
            "quorum": self.replicas.word(),
            "durability": asked(durability, "the keyspace's"),
            "coordination": self.coordination.to_possible_value().map(|v| v.get_name().to_owned()),
            "is_blind": self.blind,
            "attempts": self.attempts,
            "nodes": self.local.nodes,
            "engine": engine,
            "far": self.local.far,
            "has_balancer": self.local.balancer,
            "link_delay_ms": self.local.link_delay.map(|delay| delay.as_secs_f64() * 1e3),
            "serve_flags": self.local.serve_flag,
            "module": self.local.module,
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        Ok(_) => Err("0.1 to 1000000 a second are allowed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn warm_up(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { parse::duration(text) }
}
