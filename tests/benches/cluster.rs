//! Three nodes and 64 clients: what a put and a get cost, with a merge module and without.

#[path = "support/node.rs"]
mod node;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use node::Node;
use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use stator_proto::v1::push_module_request::Part;
use tonic::transport::{Channel, Endpoint};

const NODES: usize = 3;
const CLIENTS: usize = 64;
const CONNECTIONS: usize = 8;
const VALUE_BYTES: usize = 1 << 10;
const KEYS: usize = 20_000;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const KEYSPACES: [&str; 2] = ["plain", "merged"];

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Put,
    Get,
}

struct Round {
    per_second: f64,
    server_micros: f64,
    latency: Histogram<u64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir_in(support::built()).expect("a folder on a real disk");
    let nodes: Vec<_> = (0..NODES).map(|index| Node::start(folder.path(), index)).collect();
    set_up(&nodes).await;
    let mut clients = Vec::new();
    for index in 0..CONNECTIONS {
        let address = format!("http://{}", nodes[index % NODES].client);
        let channel = Endpoint::from_shared(address).expect("an address").tcp_nodelay(true);
        clients.push(KvClient::new(channel.connect().await.expect("connected")));
    }
    let value = Bytes::from(support::cart_json(1, VALUE_BYTES));
    for keyspace in KEYSPACES {
        fill(&clients, keyspace, &value).await;
    }
    println!("{NODES} nodes, {CLIENTS} clients, values of {} bytes,", value.len());
    println!("n=3 r=2 w=2, durability all; median of {ROUNDS} rounds of {ROUND:?}");
    println!("| | keyspace | per second | server µs | p50 ms | p99 ms | p99.9 ms |");
    println!("|---|---|---|---|---|---|---|");
    for work in [Work::Put, Work::Get] {
        let mut rounds = [Vec::new(), Vec::new()];
        for number in 0..ROUNDS {
            for (index, keyspace) in KEYSPACES.into_iter().enumerate() {
                let place = (keyspace, number);
                rounds[index].push(round(&nodes, &clients, work, place, &value).await);
            }
        }
        let middles = rounds.map(middle);
        for (keyspace, round) in KEYSPACES.iter().zip(&middles) {
            print_row(work, keyspace, round);
        }
        let ratio = middles[1].server_micros / middles[0].server_micros;
        println!(
            "| | merged / plain | {:.2} | {ratio:.2} | | | |",
            middles[1].per_second / middles[0].per_second
        );
    }
}

fn middle(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds.swap_remove(ROUNDS / 2)
}

fn print_row(work: Work, keyspace: &str, round: &Round) {
    let name = if work == Work::Put { "put" } else { "get" };
    let ms = |quantile| round.latency.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "| {name} | {keyspace} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} |",
        round.per_second,
        round.server_micros,
        ms(0.5),
        ms(0.99),
        ms(0.999)
    );
}

/// Makes a cluster of the nodes, with both keyspaces.
async fn set_up(nodes: &[Node]) {
    let endpoint = Endpoint::from_shared(format!("http://{}", nodes[0].admin));
    let channel = endpoint.expect("an address").connect().await.expect("connected");
    let mut admin = AdminClient::new(channel);
    let peer_addresses = nodes[1..].iter().map(|node| node.peer.clone()).collect();
    let init = v1::InitClusterRequest { peer_addresses, ..Default::default() };
    admin.init_cluster(init).await.expect("a cluster");
    let module = push(&mut admin).await;
    for keyspace in KEYSPACES {
        let digest = (keyspace == "merged").then(|| module.clone());
        create(&mut admin, keyspace, digest).await;
    }
}

async fn push(admin: &mut AdminClient<Channel>) -> String {
    let component = Bytes::from(support::cart());
    let header = v1::ModuleHeader {
        name: "cart".to_owned(),
        size_bytes: component.len() as u64,
        ..Default::default()
    };
    let parts = [Part::Header(header), Part::Chunk(component)];
    let parts = parts.map(|part| v1::PushModuleRequest { part: Some(part) });
    let pushed = admin.push_module(futures::stream::iter(parts)).await;
    pushed.expect("the cart is taken").into_inner().digest
}

async fn create(admin: &mut AdminClient<Channel>, name: &str, module: Option<String>) {
    let policy = match module {
        Some(_) => v1::ReconcilePolicy::Module,
        None => v1::ReconcilePolicy::Siblings,
    };
    let module_digest = module.unwrap_or_default();
    let reconcile = v1::Reconcile { policy: policy.into(), module_digest, ..Default::default() };
    let keyspace = v1::Keyspace {
        name: name.to_owned(),
        n: 3,
        r: 2,
        w: 2,
        reconcile: Some(reconcile),
        ..Default::default()
    };
    let create = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), ..Default::default() };
    admin.create_keyspace(create).await.expect("created");
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("cart-{number:08}"))
}

/// Writes every key once, so that gets find something and the stores are not empty.
async fn fill(clients: &[KvClient<Channel>], keyspace: &str, value: &Bytes) {
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (mut kv, value) = (clients[client % CONNECTIONS].clone(), value.clone());
        let keyspace = keyspace.to_owned();
        tasks.spawn(async move {
            for number in (client..KEYS).step_by(CLIENTS) {
                let (keyspace, value) = (keyspace.clone(), value.clone());
                let put =
                    v1::PutRequest { keyspace, key: key(number), value, ..Default::default() };
                kv.put(put).await.expect("put");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

async fn round(
    nodes: &[Node],
    clients: &[KvClient<Channel>],
    work: Work,
    (keyspace, number): (&str, usize),
    value: &Bytes,
) -> Round {
    let cpu = || nodes.iter().map(Node::cpu_seconds).sum::<f64>();
    let (cpu_before, started) = (cpu(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    let keyspace: Arc<str> = keyspace.into();
    for client in 0..CLIENTS {
        let kv = clients[client % CONNECTIONS].clone();
        let place = (keyspace.clone(), number);
        tasks.spawn(client_until(kv, client, work, place, value.clone(), started + ROUND));
    }
    let mut latency = Histogram::new(3).expect("a histogram");
    while let Some(done) = tasks.join_next().await {
        latency.add(done.expect("no panic")).expect("the same bounds");
    }
    let count = latency.len() as f64;
    Round {
        per_second: count / started.elapsed().as_secs_f64(),
        server_micros: (cpu() - cpu_before) * 1e6 / count,
        latency,
    }
}

/// One client, its requests one after the other. Puts go to new keys: blind puts of known ones
/// would make siblings, and what is measured here is the path without any.
async fn client_until(
    mut kv: KvClient<Channel>,
    client: usize,
    work: Work,
    (keyspace, round): (Arc<str>, usize),
    value: Bytes,
    end: Instant,
) -> Histogram<u64> {
    let mut latency = Histogram::new(3).expect("a histogram");
    let mut number = client;
    while Instant::now() < end {
        let (keyspace, started) = (keyspace.to_string(), Instant::now());
        match work {
            Work::Put => {
                let key = Bytes::from(format!("new-{round:04}-{number:012}"));
                let value = value.clone();
                let put = v1::PutRequest { keyspace, key, value, ..Default::default() };
                kv.put(put).await.expect("put");
            }
            Work::Get => {
                let key = key(number % KEYS);
                let get = v1::GetRequest { keyspace, key, ..Default::default() };
                let answer = kv.get(get).await.expect("got");
                assert_eq!(answer.get_ref().versions.len(), 1);
            }
        }
        latency.record(started.elapsed().as_nanos() as u64).expect("within bounds");
        number += CLIENTS;
    }
    latency
}
