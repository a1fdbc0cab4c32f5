//! Waiting until the cluster is at rest, and reading what it holds then.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::cart::Cart;
use super::client::{NodeClient, NodeView};
use super::report::KeyspaceReport;
use super::truth::Finals;

/// How long the cluster may take to come to rest, or to agree on a cart.
const REST_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is asked. Longer than a replica's time-out: a write that is on its way in one
/// poll is answered or a hint in the next.
const POLL: Duration = Duration::from_millis(700);
/// How many carts are read at the same time.
const READS_AT_ONCE: usize = 16;

/// The carts of a keyspace, as every node gives them.
#[derive(Debug, Default)]
pub struct Reading {
    /// For each key, what each node answered.
    pub finals: Finals,
    /// The keys on which the nodes still differ, byte for byte.
    pub unequal: BTreeSet<String>,
}

/// Waits until all nodes see each other and none keeps a hint, twice in a row.
///
/// # Errors
/// A node does not answer, or they are not at rest in time; the message tells what is left.
pub async fn settle(clients: &[NodeClient]) -> Result<()> {
    let deadline = Instant::now() + REST_TIMEOUT;
    let mut at_rest = 0;
    loop {
        let views = try_join_all(clients.iter().map(NodeClient::view)).await?;
        let busy: Vec<_> = views
            .iter()
            .enumerate()
            .filter_map(|(i, view)| unrest(i, view, clients.len()))
            .collect();
        at_rest = if busy.is_empty() { at_rest + 1 } else { 0 };
        if at_rest == 2 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "after {} s the cluster is not at rest: {}",
                REST_TIMEOUT.as_secs(),
                busy.join(", ")
            );
        }
        sleep(POLL).await;
    }
}

fn unrest(index: usize, view: &NodeView, nodes: usize) -> Option<String> {
    let number = index + 1;
    if view.members != nodes || view.alive + 1 != nodes {
        let (alive, members) = (view.alive, view.members);
        return Some(format!("node {number} sees {alive} others alive of {members} members"));
    }
    (view.hints_held > 0).then(|| format!("node {number} holds {} hints", view.hints_held))
}

/// Waits until every node knows the keyspaces `names`.
///
/// # Errors
/// A node does not answer or does not learn of them in time.
pub async fn until_everywhere(clients: &[NodeClient], names: &[&str]) -> Result<()> {
    let deadline = Instant::now() + REST_TIMEOUT;
    loop {
        let views = try_join_all(clients.iter().map(NodeClient::view)).await?;
        let knows = |view: &NodeView| names.iter().all(|name| view.keyspaces.contains_key(*name));
        if views.iter().all(knows) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("not every node has learnt of the keyspaces {}", names.join(" and "));
        }
        sleep(POLL / 10).await;
    }
}

/// Reads the carts `keys` from every node. Where answers differ they are asked again for a
/// while: what was read is what repairs a stale replica.
///
/// # Errors
/// A node does not answer, or a value is no cart.
pub async fn read_all(clients: &[NodeClient], keyspace: &str, keys: &[String]) -> Result<Reading> {
    let deadline = Instant::now() + REST_TIMEOUT;
    let mut reading = Reading::default();
    let mut left: Vec<String> = keys.to_vec();
    loop {
        let reads = left.iter().map(|key| async move {
            let values =
                try_join_all(clients.iter().map(|client| read(client, keyspace, key))).await?;
            anyhow::Ok((key.clone(), values))
        });
        let answers: Vec<_> =
            stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        left.clear();
        for (key, values) in answers {
            if values.windows(2).any(|pair| pair[0] != pair[1]) {
                left.push(key.clone());
            }
            let carts: serde_json::Result<_> =
                values.iter().map(|value| Cart::read(value.as_deref())).collect();
            let carts =
                carts.with_context(|| format!("the cart {key} is not in the cart's format"))?;
            reading.finals.insert(key, carts);
        }
        if left.is_empty() || Instant::now() >= deadline {
            reading.unequal = left.into_iter().collect();
            return Ok(reading);
        }
        sleep(POLL).await;
    }
}

async fn read(client: &NodeClient, keyspace: &str, key: &str) -> Result<Option<Bytes>> {
    let read = client.read(keyspace, key).await;
    Ok(read.with_context(|| format!("cannot read the cart {key} of {keyspace} at the end"))?.value)
}

/// Adds up what the nodes counted of each keyspace.
///
/// # Errors
/// A node does not answer.
pub async fn add_counters(clients: &[NodeClient], keyspaces: &mut [KeyspaceReport]) -> Result<()> {
    for view in try_join_all(clients.iter().map(NodeClient::view)).await? {
        for report in keyspaces.iter_mut() {
            let counters = view.keyspaces.get(report.name).copied().unwrap_or_default();
            report.hints_delivered += counters.hints_delivered;
            report.merges += counters.merges;
        }
    }
    Ok(())
}
