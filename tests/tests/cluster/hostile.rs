//! A node under attack by modules: others are served meanwhile, nothing written is lost, and the
//! node is as small afterwards as before.
//!
//! Prints the node's memory: `cargo test --workspace --test cluster hostile -- --nocapture`.

use std::collections::BTreeSet;
use std::fs;

use stator_proto::v1;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::codegen::Bytes;

use crate::support::{
    LOOP, Node, ambush, compile_bomb, eventually, get, keyspace, must, pushing, put, values,
};

/// Puts and gets of others during each attack.
const REQUESTS: usize = 200;
/// How much the node's memory may grow over an attack. What a call may use is 32 MiB, on two
/// threads or more, and stays with the pool in small part; the store caches what is written.
const GROWTH_BYTES_MAX: u64 = 128 << 20;

#[tokio::test]
async fn hostile_compile_bombs_and_loops_leave_others_served() {
    let (node, _folder) = node().await;
    let loops = use_module(&node, "loops", ambush(LOOP)).await;
    others_are_served(&node, 0).await;
    let before = resident(&node);

    // A compilation that lasts, and reads that burn all their fuel, each of another key.
    let bomb = push(&node, compile_bomb(1));
    eventually("the bomb is being compiled", async || {
        must(!children(&node).is_empty(), || "no child process".to_owned())
    })
    .await;
    let burning = tokio::spawn({
        let kv = node.kv();
        async move {
            for n in 0.. {
                let key = format!("burning {n}");
                for value in ["a", "b"] {
                    let put = put("loops", &key, value);
                    kv.clone().put(put).await.expect("a module refuses no write");
                }
                // The client may give up before its merge has burnt its fuel: no failure.
                let _ = kv.clone().get(get("loops", &key)).await;
            }
        }
    });
    others_are_served(&node, 1).await;
    assert!(!bomb.is_finished(), "others waited for the compiler");
    assert!(!burning.is_finished(), "a write was refused");
    burning.abort();

    // Who gives up leaves nothing behind.
    bomb.abort();
    eventually("the compiler is gone", async || {
        must(children(&node).is_empty(), || format!("{:?}", children(&node)))
    })
    .await;
    siblings_and_reason(&node, &loops, "fuel").await;
    let after = resident(&node);
    println!("node's memory: {} MiB before, {} MiB after", before >> 20, after >> 20);
    let growth = after.saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "it grew by {growth} bytes");
}

#[tokio::test]
async fn hostile_modules_lose_no_write() {
    let (node, _folder) = node().await;
    let beyond = "(i32.store (i32.const 72) (i32.const 0x2000000))
        (i32.store (i32.const 76) (i32.const 9))";
    let greedy = "(if (i32.eq (memory.grow (i32.const 600)) (i32.const -1)) (then unreachable))";
    for (name, harm, says) in [
        ("traps", "unreachable", "unreachable"),
        ("greedy", greedy, "33554432 bytes"),
        ("lies", beyond, "out of bounds"),
    ] {
        let module = use_module(&node, name, ambush(harm)).await;
        siblings_and_reason(&node, &module, says).await;
    }
    node.serves("default", "modules that fail").await;
}

#[tokio::test]
async fn hostile_pushes_beyond_their_number_are_turned_away() {
    let (node, _folder) = node().await;
    let before = resident(&node);
    let pushes: Vec<_> = (0..20).map(|n| push(&node, compile_bomb(100 + n))).collect();
    // One compiles and some wait; the others are told at once.
    eventually("the rest is turned away", async || {
        let ended = pushes.iter().filter(|push| push.is_finished()).count();
        must(ended >= 12, || format!("{ended} of 20 ended"))
    })
    .await;
    others_are_served(&node, 0).await;
    let mut turned_away = 0;
    for push in pushes {
        if !push.is_finished() {
            push.abort();
            continue;
        }
        let refusal = push.await.expect("not cancelled").expect_err("a bomb is not taken");
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted, "{refusal}");
        assert!(refusal.message().contains("8 modules are being checked"), "{refusal}");
        turned_away += 1;
    }
    assert!(turned_away >= 12);
    eventually("the compilers are gone", async || {
        must(children(&node).is_empty(), || format!("{:?}", children(&node)))
    })
    .await;
    let growth = resident(&node).saturating_sub(before);
    println!("20 pushes: the node's memory grew by {} MiB", growth >> 20);
    assert!(growth <= GROWTH_BYTES_MAX, "it grew by {growth} bytes");
}

async fn node() -> (Node, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    (node, folder)
}

fn push(node: &Node, component: Bytes) -> JoinHandle<Result<(), tonic::Status>> {
    let mut admin = node.patient_admin();
    tokio::spawn(async move { admin.push_module(pushing(component)).await.map(drop) })
}

/// Pushes a module and makes a keyspace of this name that uses it. Returns the name.
async fn use_module(node: &Node, name: &str, component: Bytes) -> String {
    let pushed =
        node.patient_admin().push_module(pushing(component)).await.expect("harmless so far");
    let reconcile = Some(v1::Reconcile {
        policy: v1::ReconcilePolicy::Module.into(),
        module_digest: pushed.into_inner().digest,
        ..Default::default()
    });
    let keyspace = Some(v1::Keyspace { n: 1, reconcile, ..keyspace(name, 1, 1) });
    let request = v1::CreateKeyspaceRequest { keyspace, ..Default::default() };
    node.admin().create_keyspace(request).await.expect("created");
    name.to_owned()
}

/// Puts and gets as others do; every one of them must be answered.
async fn others_are_served(node: &Node, round: usize) {
    for n in 0..REQUESTS {
        let (key, value) = (format!("key {round} {n}"), format!("value {n}"));
        let written = node.kv().put(put("default", &key, &value)).await;
        written.unwrap_or_else(|status| panic!("put {n}: {status}"));
        let read = node.kv().get(get("default", &key)).await;
        let read = read.unwrap_or_else(|status| panic!("get {n}: {status}"));
        assert_eq!(values(read.get_ref()), BTreeSet::from([value]), "get {n}");
    }
}

/// Writes siblings to a keyspace whose module fails: both come back, with the reason.
async fn siblings_and_reason(node: &Node, keyspace: &str, says: &str) {
    for value in ["one", "two"] {
        node.kv().put(put(keyspace, "k", value)).await.expect("a module refuses no write");
    }
    let read = node.kv().get(get(keyspace, "k")).await.expect("answered").into_inner();
    let both = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
    assert_eq!(values(&read), both, "{keyspace}");
    let merge = read.merge.expect("the module was asked");
    assert!(merge.failure.contains(says), "{keyspace}: {}", merge.failure);
    assert!(read.context.is_some(), "{keyspace}: they can be resolved by hand");
}

/// The resident memory of the node, in bytes.
fn resident(node: &Node) -> u64 {
    let path = format!("/proc/{}/status", node.pid());
    let status = fs::read_to_string(path).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

/// The processes that the node has started and not reaped.
fn children(node: &Node) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).expect("the node runs");
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.ok()?.path().join("children")).ok()
    };
    let lists: Vec<String> = tasks.filter_map(of_task).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}
