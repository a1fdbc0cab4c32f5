//! The node under attack, and the client that must not notice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stator::tls::{self, ClientTls};
use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Authority, Node, eventually, get, must, put, values};

/// Limits that an attack reaches soon. Attackers come from other addresses than this test's own
/// clients.
const CONFIG: &str = "\
[listeners]
connections_max = 300
connections_per_address_max = 200
opening_ms = 1000
keepalive_ms = 500
keepalive_timeout_ms = 1500
body_ms = 500
[limits]
siblings_max = 20
";

/// The keyspace of the client that is to be served.
const STEADY: &str = "steady";

/// Descriptors that come and go in a node that nobody attacks.
const FILES_SLACK: usize = 12;

/// A node with TLS for operators, and a client that puts and gets all the time.
pub struct Victim {
    pub node: Node,
    pub admin: Channel,
    steady: Steady,
    files_before: usize,
    _folder: TempDir,
}

impl Victim {
    pub async fn start() -> Victim {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = Authority::new(folder.path(), "ours");
        let section = authority.issue("server", "127.0.0.1").section("admin", None);
        let config = folder.path().join("stator.toml").display().to_string();
        std::fs::write(&config, format!("{CONFIG}{section}")).expect("written");
        let node = Node::start(folder.path(), "victim", &["--config", &config]).await;
        let trust = ClientTls::load(authority.ca().as_ref(), None, None).expect("files");
        let url = format!("https://{}", node.addresses.admin);
        let endpoint = Endpoint::from_shared(url).expect("an address");
        let admin = tls::connect(&endpoint, Some(&trust)).await.expect("connected");
        // Not `default`: who reaches the admin listener may change that or delete it.
        let created = v1::CreateKeyspaceRequest {
            keyspace: Some(v1::Keyspace { name: STEADY.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        AdminClient::new(admin.clone()).create_keyspace(created).await.expect("created");
        let steady = Steady::start(node.kv());
        eventually("it serves", async || must(steady.served() > 50, || "little".to_owned())).await;
        let files_before = files(node.pid());
        Victim { node, admin, steady, files_before, _folder: folder }
    }

    /// Memory that the node's process holds, in KiB.
    pub fn rss_kib(&self) -> usize {
        let path = format!("/proc/{}/status", self.node.pid());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many requests of the steady client were served.
    pub fn served(&self) -> usize {
        self.steady.served()
    }

    /// Waits until it holds no descriptor of the attack any more, and checks that it is well.
    pub async fn recovers(&self, attack: &str) {
        let most = self.files_before + FILES_SLACK;
        eventually("descriptors are free again", async || {
            let open = files(self.node.pid());
            must(open <= most, || format!("{attack}: {open} are open, {most} at most before"))
        })
        .await;
        let goal = self.served() + 10;
        eventually("others are served", async || {
            must(self.served() >= goal, || {
                let failures = self.steady.failures.lock().expect("no panic");
                format!("{attack}: {} of {goal}; {failures:?}", self.served())
            })
        })
        .await;
        let failures = self.steady.failures.lock().expect("no panic").clone();
        assert_eq!(failures, Vec::<String>::new(), "{attack}: others were not served");
        let log = self.node.log();
        assert!(!log.contains("panicked"), "{attack}: {log}");
    }

    /// Stops it cleanly: nothing that is left of the attacks holds it up.
    pub async fn stops(mut self) {
        self.steady.is_stopped.store(true, Ordering::Relaxed);
        self.steady.lane.await.expect("no panic");
        self.node.signal(libc::SIGTERM);
        assert!(self.node.ended().await, "{}", self.node.log());
    }
}

fn files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A client as it should be.
struct Steady {
    served: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    is_stopped: Arc<AtomicBool>,
    lane: JoinHandle<()>,
}

impl Steady {
    fn start(kv: KvClient<Channel>) -> Steady {
        let served = Arc::<AtomicUsize>::default();
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let is_stopped = Arc::<AtomicBool>::default();
        let lane = tokio::spawn(go_on(kv, served.clone(), failures.clone(), is_stopped.clone()));
        Steady { served, failures, is_stopped, lane }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

async fn go_on(
    mut kv: KvClient<Channel>,
    served: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    is_stopped: Arc<AtomicBool>,
) {
    let mut contexts = Vec::new();
    for number in 0.. {
        if is_stopped.load(Ordering::Relaxed) {
            return;
        }
        let value = format!("value {number}");
        let mut replacing = Request::new(v1::PutRequest {
            contexts: std::mem::take(&mut contexts),
            ..put(STEADY, "key", &value)
        });
        replacing.set_timeout(Duration::from_secs(10));
        let written = kv.put(replacing).await.map_err(|status| format!("put: {status}"));
        let read = kv.get(get(STEADY, "key")).await;
        let outcome = written.and(read.map_err(|status| format!("get: {status}")));
        match outcome {
            Ok(read) if values(read.get_ref()) == [value].into() => {
                contexts.extend(read.into_inner().context);
                served.fetch_add(2, Ordering::Relaxed);
            }
            Ok(read) => failures.lock().expect("no panic").push(format!("{read:?}")),
            Err(status) => failures.lock().expect("no panic").push(status),
        }
        // A pace, not a wait: an attack meets requests at any moment.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
