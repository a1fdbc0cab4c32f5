//! The tour: a wrong merge on its way into production, and out again, on real carts and nodes.
//!
//! Retail lines become carts that two devices fill at the same time through different nodes, so each
//! cart has two siblings. The candidate takes the items of the last write, as many merges begin; it is made by
//! `stator module rules`. It runs as a shadow, as a canary that rolls itself back, and is activated
//! by mistake and taken back; then a cart is overwritten and restored. Every command is one that
//! a reader can type; between them the tour reads carts and holds them against what the devices
//! have put in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::process::Command;

use super::cart::Cart;
use super::client::NodeClient;
use super::data::Line;
use super::{Options, find_module, progress::Progress, read_lines, verify};
use crate::local::{Addresses, Launch, Nodes};

const KEYSPACE: &str = "carts";
/// How many carts the first two stages have each, and how many lines of output a command shows.
const CARTS: usize = 30;
const LINES_MAX: usize = 12;
/// Requests under way at a time.
const WORKERS: usize = 16;
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(30);

/// Carts by key, with the tags of all that was put in.
type Carts = BTreeMap<String, BTreeSet<String>>;

struct Tour {
    clients: Vec<NodeClient>,
    addresses: Addresses,
    progress: Progress,
}

/// Runs the tour.
///
/// # Errors
/// A node failed, a command failed, or something is not as the tour says.
pub async fn run(options: Options) -> Result<()> {
    let lines = read_lines(options.data.as_deref())?;
    let cart = find_module(options.module.as_deref())?;
    let launch = Launch { nodes: 3, keep: options.keep, ..Launch::default() };
    let nodes = Nodes::start(&launch).await?;
    let clients: Result<Vec<_>> =
        nodes.addresses().map(|node| NodeClient::new(&node.client, &node.admin)).collect();
    let addresses = nodes.addresses().next().context("no node")?.clone();
    let peers: Vec<_> = nodes.addresses().map(|node| node.peer.clone()).collect();
    let clients = clients?.into_iter().map(|client| client.with_replicas(2)).collect();
    let tour = Tour { clients, addresses, progress: Progress::new(0) };
    let folder = tempfile::tempdir()?;
    let went = tour.go(&peers, &lines, (&cart, folder.path())).await;
    if went.is_err() {
        tour.progress.say(&nodes.log_tails());
    }
    if let Some(folder) = nodes.stop().await {
        tour.progress.say(&format!("the nodes' data and logs are in {}", folder.display()));
    }
    went
}

impl Tour {
    async fn go(
        &self,
        peers: &[String],
        lines: &[Line],
        (cart, folder): (&Path, &Path),
    ) -> Result<()> {
        self.clients[0].init_cluster(peers).await.context("cannot make a cluster")?;
        verify::settle(&self.clients).await.context("the nodes did not find each other")?;
        let candidate = folder.join("last-write.wasm");
        let mut carts = plan(lines).into_iter();

        self.head("Carts of three nodes, merged by the cart module");
        self.show(["module".as_ref(), "push".as_ref(), cart.as_os_str()]).await?;
        self.show("keyspace create carts -n 3 -r 2 -w 2 --module cart --history 1h".split(' '))
            .await?;
        verify::until_everywhere(&self.clients, &[KEYSPACE]).await?;
        let first = self.fill(carts.by_ref().take(CARTS).collect()).await?;
        self.expect_lacking(&first, 0, "read from node 3, merged").await?;
        let some = first.keys().next().context("no cart in the data")?.clone();
        self.show(["kv", "explain", &some, "-k", KEYSPACE]).await?;

        self.head("A candidate that takes the last write runs as a shadow: it is only compared");
        let write = "module rules --rule /items=last-write --rule /removed=union --out";
        let write = write.split(' ').map(OsStr::new);
        self.show(write.chain([candidate.as_os_str()])).await?;
        self.show(["module".as_ref(), "push".as_ref(), candidate.as_os_str()]).await?;
        self.show(["module", "shadow", KEYSPACE, "last-write", "--reason", "it is so short"])
            .await?;
        let shadowed = self.fill(carts.by_ref().take(CARTS).collect()).await?;
        self.expect_lacking(&shadowed, 0, "read meanwhile").await?;
        self.show(["module", "trial", KEYSPACE]).await?;
        self.show(["module", "replay", KEYSPACE, "last-write"]).await?;

        self.head("As a canary it merges a share of the keys, until it differs too often");
        self.show("module canary carts last-write --percent 90 --differing 10".split(' ')).await?;
        let met = self.fill(carts.collect()).await?;
        let wrong = self.lacking(&met).await?;
        self.progress
            .say(&format!("{wrong} of {} carts were read without some of their items", met.len()));
        self.until_rolled_back().await?;
        self.expect_lacking(&met, 0, "read after it was rolled back by itself").await?;
        self.show(["keyspace", "history", KEYSPACE]).await?;

        self.head("Someone activates it all the same, and takes it back");
        self.show(["keyspace", "activate", KEYSPACE, "last-write", "--reason", "by mistake"])
            .await?;
        let wrong = self.lacking(&first).await?;
        ensure!(wrong > 0, "the last write loses nothing of {} carts", first.len());
        self.progress.say(&format!("{wrong} of {} carts lack items now", first.len()));
        self.show(["keyspace", "rollback", KEYSPACE, "--reason", "carts lack items"]).await?;
        self.expect_lacking(&first, 0, "nothing was lost, for the siblings were kept: read again")
            .await?;

        self.head("A client writes an empty cart over a full one; it is put back");
        let full = self.clients[1].read(KEYSPACE, &some).await?;
        let empty = Cart::default().write()?;
        self.clients[1].write(KEYSPACE, &some, empty, full.context).await?;
        self.show(["kv", "history", &some, "-k", KEYSPACE]).await?;
        self.restore(&some).await?;
        self.expect_lacking(&first, 0, "the two siblings are back, and merged").await
    }

    fn head(&self, what: &str) {
        self.progress.say(&format!("\n== {what}"));
    }

    /// Runs the program, as a reader would, and shows what it printed.
    async fn show(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let arguments: Vec<_> = arguments.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let words: Vec<_> = arguments.iter().map(|argument| shell_word(argument)).collect();
        self.progress.say(&format!("\n$ stator {}", words.join(" ")));
        let output = self.output(&arguments).await?;
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        for line in printed.lines().take(LINES_MAX) {
            // A line of JSON may be long.
            self.progress.say(&line.chars().take(160).collect::<String>());
        }
        let more = printed.lines().count().saturating_sub(LINES_MAX);
        if more > 0 {
            self.progress.say(&format!("… and {more} lines more"));
        }
        // A replay says by its code that the candidate fails, a trial that differs does not.
        ensure!(output.status.success(), "`stator {}` failed", words.join(" "));
        Ok(())
    }

    /// Two devices put the halves of each cart in at the same time, without having seen the other's.
    async fn fill(&self, plans: Vec<Vec<Line>>) -> Result<Carts> {
        let filled = plans.into_iter().map(async |lines| {
            let key = lines[0].cart();
            let mut tags = BTreeSet::new();
            let mut halves = [Cart::default(), Cart::default()];
            for (place, line) in lines.iter().enumerate() {
                let tag = format!("line-{}", line.number);
                halves[place % 2].add(&tag, &line.sku, line.quantity.unsigned_abs());
                tags.insert(tag);
            }
            for (client, half) in self.clients.iter().zip(&halves) {
                client.write(KEYSPACE, &key, half.write()?, Bytes::new()).await?;
            }
            Ok::<_, anyhow::Error>((key, tags))
        });
        stream::iter(filled).buffer_unordered(WORKERS).try_collect().await
    }

    /// How many carts lack something when they are read from the third node.
    async fn lacking(&self, carts: &Carts) -> Result<usize> {
        let lacks = carts.iter().map(async |(key, tags)| {
            let read = self.clients[2].read(KEYSPACE, key).await?;
            let cart = Cart::read(read.value.as_deref())?;
            Ok::<_, anyhow::Error>(tags.iter().any(|tag| !cart.items.contains_key(tag)))
        });
        let lacks: Vec<bool> = stream::iter(lacks).buffer_unordered(WORKERS).try_collect().await?;
        Ok(lacks.into_iter().filter(|lacks| *lacks).count())
    }

    async fn expect_lacking(&self, carts: &Carts, wanted: usize, what: &str) -> Result<()> {
        let lacking = self.lacking(carts).await?;
        self.progress.say(&format!("{what}: {lacking} of {} carts lack anything", carts.len()));
        ensure!(lacking == wanted, "{lacking} carts lack items, {wanted} should");
        Ok(())
    }

    /// Waits until no node tries anything any more.
    async fn until_rolled_back(&self) -> Result<()> {
        let deadline = Instant::now() + ROLLED_BACK_WITHIN;
        for client in &self.clients {
            while client.is_trying(KEYSPACE).await? {
                ensure!(Instant::now() < deadline, "the canary is not rolled back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Restores what the history names.
    async fn restore(&self, key: &str) -> Result<()> {
        let asked = ["kv", "history", key, "-k", KEYSPACE, "--output", "json"].map(OsString::from);
        let history: serde_json::Value =
            serde_json::from_slice(&self.output(&asked).await?.stdout)?;
        let versions = history["versions"].as_array().context("no history")?;
        let writes = versions.iter().filter_map(|version| version["writes"][0].as_str());
        let restore = ["kv", "restore", "-k", KEYSPACE, key].into_iter().chain(writes);
        self.show(restore).await
    }

    /// Runs the program against the first node.
    async fn output(&self, arguments: &[OsString]) -> Result<Output> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--admin", &self.addresses.admin, "--endpoint", &self.addresses.client]);
        command.args(["--timeout", "30s", "--profile", ""]).args(arguments).stdin(Stdio::null());
        Ok(command.kill_on_drop(true).output().await?)
    }
}

/// The lines of each cart that has several that put something in.
fn plan(lines: &[Line]) -> Vec<Vec<Line>> {
    let mut carts: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.is_removal() && line.quantity > 0) {
        carts.entry(line.cart()).or_default().push(line.clone());
    }
    carts.into_values().filter(|lines| lines.len() > 1).collect()
}

/// An argument as a shell would need it.
fn shell_word(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    if text.contains(' ') { format!("'{text}'") } else { text.into_owned() }
}
