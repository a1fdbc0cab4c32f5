//! A pause is no licence: what waited for a stopped node is void when it goes on.
//!
//! Clients put through the stopped node, and through another one that hands their put to it, with a
//! short deadline. Then they try again elsewhere, read, and delete or replace what they read. None
//! of the first values may be seen again.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use stator_client::{Client, Entry, Options, plain};

use crate::cluster::{Cluster, eventually};
use crate::load::{KEYSPACE, client};

/// How many keys are written on each way.
const KEYS: usize = 40;
/// How long such a client waits.
const DEADLINE: Duration = Duration::from_millis(1_200);

fn key(way: usize, number: usize) -> String {
    format!("late-{way}-{number}")
}

fn value(key: &str) -> String {
    format!("{key}-first")
}

/// Node 3 is stopped, and gets puts at once: from clients of its own, and of node 2.
pub async fn pause(cluster: &mut Cluster) -> Result<()> {
    let mut clients = Vec::new();
    for number in [3, 2] {
        let mut options = Options::default();
        (options.timeout, options.attempts_max) = (DEADLINE, 1);
        let client = Client::over(vec![plain(&cluster.nodes[number - 1].endpoint())?], options)?;
        // The connection is there before the node is stopped.
        let _ = client.siblings(KEYSPACE, "late").await?;
        clients.push(client);
    }
    cluster.node(3).signal(libc::SIGSTOP)?;
    let puts = clients.iter().enumerate().flat_map(|(way, client)| {
        (0..KEYS).map(move |number| async move {
            let key = key(way, number);
            let mut entry = Entry::blind(KEYSPACE, key.clone());
            entry.set(value(&key));
            // Most of them have no known end, some are done at once by others.
            drop(client.put(entry).await);
        })
    });
    join_all(puts).await;
    // The clients live on: their connections are not closed.
    for way in 0..clients.len() {
        for number in 0..KEYS {
            let key = key(way, number);
            let value = value(&key);
            cluster.gone.push((key, value));
        }
    }
    cluster.open = clients;
    Ok(())
}

/// Every put is tried again through node 1; what is read then is deleted or replaced.
pub async fn retry_elsewhere(cluster: &mut Cluster) -> Result<()> {
    let client = client(&cluster.nodes[0].endpoint())?;
    let all: Vec<(String, String)> = cluster.gone.clone();
    for (number, (key, value)) in all.iter().enumerate() {
        eventually("a retry is acknowledged", async || {
            let mut again = Entry::blind(KEYSPACE, key.clone());
            again.set(value.clone());
            client.put(again).await.context("the retry")?;
            let mut read = client.siblings(KEYSPACE, key.clone()).await?;
            match number % 2 {
                0 => client.delete(read).await?,
                _ => {
                    read.set(format!("{key}-second"));
                    client.put(read).await?
                }
            };
            Ok(())
        })
        .await?;
    }
    Ok(())
}
