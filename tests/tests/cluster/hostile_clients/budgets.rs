//! What a node holds for clients that ask for much and take little: bounded, and in a table.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use stator_proto::v1::kv_client::KvClient;
use stator_proto::{upload, v1};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, Outcomes, PREFACE, Raw, SETTINGS, frame};
use super::raw::{message, request_headers};
use crate::support::{Node, built, eventually, get, put, stator};

const MIB: usize = 1 << 20;
/// What a node may hold beyond the budget that bounds an attack: what the allocator and the
/// engine's cache keep, and values on their way between two budgets.
const SLACK_MIB: usize = 192;

/// The most memory that the process had while this lives.
struct Peak {
    is_over: Arc<AtomicBool>,
    kib: Arc<AtomicUsize>,
    before_kib: usize,
}

impl Peak {
    fn of(pid: u32) -> Peak {
        let (is_over, kib) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let before_kib = rss_kib(pid);
        let (over, seen) = (is_over.clone(), kib.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(rss_kib(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Peak { is_over, kib, before_kib }
    }

    fn grown_mib(&self) -> usize {
        self.kib.load(Ordering::Relaxed).saturating_sub(self.before_kib) >> 10
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn rss_kib(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn client(node: &Node) -> KvClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.addresses.client));
    KvClient::new(endpoint.expect("an address").connect_lazy()).max_decoding_message_size(64 * MIB)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_make_a_node_hold_is_bounded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("stator.toml").display().to_string();
    std::fs::write(&config, "[listeners]\nanswer_ms = 1000\n").expect("written");
    let flags = ["--config", &config, "--engine", "memory"];
    let node = Node::start(folder.path(), "node", &flags).await;
    let mut table = String::new();
    macro_rules! attack {
        ($name:expr, $budget_mib:expr, $attack:expr) => {{
            let peak = Peak::of(node.pid());
            let outcomes: Outcomes = $attack.await;
            // What it took in before may keep it busy for a while.
            eventually("others are served", async || {
                let put = node.kv().put(put("default", "after", $name)).await;
                put.map(drop).map_err(|status| status.to_string())
            })
            .await;
            let (grown, before) = (peak.grown_mib(), peak.before_kib >> 10);
            let got: Vec<_> = outcomes.0.iter().map(|(what, n)| format!("{n} {what}")).collect();
            let _ = writeln!(
                table,
                "{:<28} {before:>7} {grown:>7} {:>7}  {}",
                $name,
                $budget_mib,
                got.join(", ")
            );
            assert!(grown < $budget_mib + SLACK_MIB, "{table}");
            outcomes
        }};
    }
    let large = vec![b'v'; 900 << 10];
    attack!("puts that are reset", 256 + 256, reset_puts(&node, &large, 600));

    let mut kv = node.kv();
    for number in 0..15 {
        // Equal values would be one.
        let value = vec![number; MIB].into();
        kv.put(v1::PutRequest { value, ..put("default", "wide", "") }).await.expect("written");
    }
    let got = attack!("wide keys read by many", 128 + 128, reads(&node, 60));
    assert!(got.of("Ok") > 0 && got.of("ResourceExhausted") > 0, "{table}");
    kv.put(v1::PutRequest { value: large.into(), ..put("default", "large", "") })
        .await
        .expect("written");
    let to = node.addresses.client.clone();
    let got = attack!("answers that are not read", 128 + 128, unread(&to, 2, 150));
    assert!(got.of("closed") + got.of("reset") > 0, "{table}");
    attack!("small answers, not read", 64, unread_small(&to, 4, 1_000));
    println!("{:<28} {:>7} {:>7} {:>7}  MiB\n{table}", "attack", "before", "grown", "limit");
}

/// Puts whose client hangs up as soon as they are sent, and sends the next.
async fn reset_puts(node: &Node, value: &[u8], count: usize) -> Outcomes {
    let kv = client(node);
    let one = async |number: usize| {
        let value = value.to_vec().into();
        let request = v1::PutRequest { value, ..put("default", &format!("r{}", number % 4), "") };
        let patience = Duration::from_millis(40);
        match tokio::time::timeout(patience, kv.clone().put(request)).await {
            Ok(Ok(_)) => "Ok".to_owned(),
            Ok(Err(status)) => format!("{:?}", status.code()),
            Err(_) => "reset".to_owned(),
        }
    };
    let mut outcomes = Outcomes::default();
    let numbers: Vec<_> = (0..count).collect();
    for some in numbers.chunks(100) {
        for outcome in join_all(some.iter().map(|number| one(*number))).await {
            outcomes.add(outcome);
        }
    }
    outcomes
}

/// Many clients, each with a connection of its own, that read one key of many siblings.
async fn reads(node: &Node, count: usize) -> Outcomes {
    let one = async |_| match client(node).get(get("default", "wide")).await {
        Ok(answer) => {
            assert_eq!(answer.get_ref().versions.len(), 15);
            "Ok".to_owned()
        }
        Err(status) => {
            let is_named = status.message().contains("_bytes_max");
            assert!(status.code() != Code::ResourceExhausted || is_named, "{status}");
            format!("{:?}", status.code())
        }
    };
    let mut outcomes = Outcomes::default();
    join_all((0..count).map(one)).await.into_iter().for_each(|outcome| outcomes.add(outcome));
    outcomes
}

/// Gets on `connections` connections that open no window for the answers, but give signs of life.
async fn unread_of(to: &str, key: &str, connections: usize, streams: usize) -> Outcomes {
    let no_window = [0, 4, 0, 0, 0, 0];
    let body = prost::Message::encode_to_vec(&get("default", key));
    let one = async |_| {
        let mut outcomes = Outcomes::default();
        let Ok(mut raw) = Raw::connect(to, 21).await else { return outcomes };
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &no_window)].concat();
        for number in 0..streams {
            let stream = 2 * number as u32 + 1;
            let headers = request_headers("/stator.v1.Kv/Get");
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &headers));
            let sent = message(0, body.len() as u32, &body);
            bytes.extend(frame(DATA, END_STREAM, stream, &sent));
        }
        if raw.send(&bytes).await.is_ok() {
            outcomes.join(raw.outcome(0, true).await);
        }
        outcomes
    };
    let mut outcomes = Outcomes::default();
    for outcome in join_all((0..connections).map(one)).await {
        outcomes.join(outcome);
    }
    outcomes
}

async fn unread(to: &str, connections: usize, streams: usize) -> Outcomes {
    unread_of(to, "large", connections, streams).await
}

async fn unread_small(to: &str, connections: usize, streams: usize) -> Outcomes {
    unread_of(to, "nothing is here", connections, streams).await
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_of_a_module() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let messages = upload::messages("dry".to_owned(), String::new(), built("cart"), true);
    let tried = node.patient_admin().push_module(futures::stream::iter(messages)).await;
    assert!(!tried.expect("it would be taken").get_ref().laws.is_empty());
    for folder in ["compiled", "modules"] {
        let path = node.data_dir.join(folder);
        let files = std::fs::read_dir(&path).map_or(0, Iterator::count);
        assert_eq!(files, 0, "{} holds something of it", path.display());
    }
    let listed = node.admin().list_modules(v1::ListModulesRequest::default()).await;
    assert!(listed.expect("listed").get_ref().modules.is_empty());
}

#[tokio::test]
async fn connections_leave_descriptors_to_the_store_and_to_operators() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start_under("ulimit -n 1024", folder.path(), "node").await;
    node.serves("default", "its start").await;
    let to = node.addresses.client.clone();
    let mut held = Vec::new();
    for number in 0..1_200 {
        // From several addresses: one alone has a part of the places.
        held.extend(Raw::open(&to, 30 + (number % 8) as u8).await);
    }
    for number in 0..20 {
        node.serves("default", &format!("flood {number}")).await;
    }
    let admin = format!("http://{}", node.addresses.admin);
    let status = stator(["--admin", &admin, "cluster", "status"]).await;
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    node.logs("listeners.connections_max").await;
    assert!(!node.log().contains("Too many open files"), "{}", node.log_tail());
    drop(held);
}
