//! Three nodes with a full store, from which keys are deleted as fast as wanted: whether what was
//! deleted leaves the stores as fast, or piles up.
//!
//! `STATOR_DELETES_KEYS`, `_PER_SECOND`, `_SECONDS`: how many keys stay in the store, how many are put
//! and deleted a second, and for how long.

#[path = "support/node.rs"]
mod node;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use node::Node;
use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

const NODES: usize = 3;
const CLIENTS: u64 = 64;
const CONNECTIONS: usize = 9;
const VALUE_BYTES: usize = 256;
const LOOK: Duration = Duration::from_secs(5);
/// How long what is left may take at the end.
const PATIENCE: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.tcp_nodelay(true).connect().await.expect("connected")
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let keys = number("STATOR_DELETES_KEYS", 100_000);
    let per_second = number("STATOR_DELETES_PER_SECOND", 1_000).max(1);
    let seconds = number("STATOR_DELETES_SECONDS", 60);
    let folder = tempfile::tempdir_in(support::built()).expect("a folder on a real disk");
    let nodes: Vec<_> = (0..NODES).map(|index| Node::start(folder.path(), index)).collect();
    let mut admins = Vec::new();
    for node in &nodes {
        admins.push(AdminClient::new(channel(&node.admin).await));
    }
    set_up(&mut admins[0], &nodes).await;
    let mut kvs = Vec::new();
    for index in 0..CONNECTIONS {
        kvs.push(KvClient::new(channel(&nodes[index % NODES].client).await));
    }
    fill(&kvs, keys).await;
    println!("{NODES} nodes, n=3 r=2 w=2, {keys} keys of {VALUE_BYTES} bytes that stay;");
    println!("{per_second} keys a second are put and deleted for {seconds} s");
    println!("| s | deleted | waiting in the fullest store | server µs a pair |");
    println!("|---|---|---|---|");
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let kv = kvs[client as usize % CONNECTIONS].clone();
        tasks.spawn(deletes(kv, (client, per_second), seconds * per_second, done.clone()));
    }
    let cpu = || nodes.iter().map(Node::cpu_seconds).sum::<f64>();
    let (cpu_before, mut next) = (cpu(), started + LOOK);
    let end = started + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep_until(next.min(end).into()).await;
        next += LOOK;
        let deleted = done.load(Ordering::Relaxed);
        let micros = (cpu() - cpu_before) * 1e6 / deleted.max(1) as f64;
        let waiting = waiting(&mut admins, keys).await;
        println!(
            "| {:.0} | {deleted} | {waiting} | {micros:.0} |",
            started.elapsed().as_secs_f64()
        );
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let last = Instant::now();
    while waiting(&mut admins, keys).await > 0 {
        assert!(last.elapsed() < PATIENCE, "what was deleted does not leave the stores");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "the stores were rid of all {:.1} s after the last delete",
        last.elapsed().as_secs_f64()
    );
}

async fn set_up(admin: &mut AdminClient<Channel>, nodes: &[Node]) {
    let peer_addresses = nodes[1..].iter().map(|node| node.peer.clone()).collect();
    let init = v1::InitClusterRequest { peer_addresses, ..Default::default() };
    admin.init_cluster(init).await.expect("a cluster");
    let name = "plain".to_owned();
    let keyspace = v1::Keyspace { name, n: 3, r: 2, w: 2, ..Default::default() };
    let create = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), ..Default::default() };
    admin.create_keyspace(create).await.expect("created");
}

fn put(key: String) -> v1::PutRequest {
    let value = Bytes::from_static(&[b'x'; VALUE_BYTES]);
    v1::PutRequest { keyspace: "plain".to_owned(), key: key.into(), value, ..Default::default() }
}

async fn fill(kvs: &[KvClient<Channel>], keys: u64) {
    // Until every node is accepted by the others and has heard of the keyspace.
    let until = Instant::now() + PATIENCE;
    for mut kv in kvs.iter().cloned() {
        while let Err(status) = kv.put(put("stays-0".to_owned())).await {
            assert!(Instant::now() < until, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let mut kv = kvs[client as usize % CONNECTIONS].clone();
        tasks.spawn(async move {
            for number in (client..keys).step_by(CLIENTS as usize) {
                kv.put(put(format!("stays-{number}"))).await.expect("put");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

/// One client's share: each pair at its time, or as soon as the last one is done.
async fn deletes(
    mut kv: KvClient<Channel>,
    (client, per_second): (u64, u64),
    count: u64,
    done: Arc<AtomicU64>,
) {
    let started = tokio::time::Instant::now();
    for number in (client..count).step_by(CLIENTS as usize) {
        let at = Duration::from_secs_f64(number as f64 / per_second as f64);
        tokio::time::sleep_until(started + at).await;
        let key = format!("goes-{number}");
        let answer = kv.put(put(key.clone())).await.expect("put").into_inner();
        let contexts = vec![answer.context.expect("it is the only version")];
        let (keyspace, key) = ("plain".to_owned(), key.into());
        let delete = v1::DeleteRequest { keyspace, key, contexts, ..Default::default() };
        kv.delete(delete).await.expect("deleted");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many objects beyond those that stay the fullest store holds.
async fn waiting(admins: &mut [AdminClient<Channel>], keys: u64) -> u64 {
    let mut most = 0;
    for admin in admins {
        let status = admin.get_status(v1::GetStatusRequest {}).await.expect("its status");
        let stores = status.into_inner().stores;
        let data = stores.iter().find(|store| store.name == "data").expect("a data store");
        most = most.max(data.objects);
    }
    most.saturating_sub(keys)
}
