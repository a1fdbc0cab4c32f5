//! A client that writes all the time and remembers what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use stator_proto::v1;
use stator_proto::v1::kv_client::KvClient;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Node, eventually, get, must, put, values};

/// How long one put may take: a lane at a dead node goes on.
const PUT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many keys are looked at at a time in the end.
const GETS_AT_ONCE: usize = 64;

/// Writes one new key after the other, through each of its nodes at the same time.
#[derive(Debug)]
pub struct Writer {
    seen: Arc<Seen>,
    lanes: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    failures: Mutex<Vec<Status>>,
    is_stopped: AtomicBool,
}

/// What is written under `key`.
fn value_of(key: &str) -> String {
    format!("the value of {key}")
}

impl Writer {
    /// Starts writing with the keyspace's w. Its keys start with `name`.
    pub fn start<'a>(
        name: &str,
        keyspace: &str,
        nodes: impl IntoIterator<Item = &'a Node>,
    ) -> Writer {
        let seen = Arc::new(Seen::default());
        let lanes = nodes.into_iter().enumerate().map(|(lane, node)| {
            let prefix = format!("{name}-{lane}");
            tokio::spawn(write(seen.clone(), node.kv(), keyspace.to_owned(), prefix))
        });
        let lanes = lanes.collect();
        Writer { seen, lanes }
    }

    fn count(&self) -> usize {
        self.seen.acknowledged.lock().expect("no panic").len()
    }

    /// Waits until `more` puts are acknowledged from now on.
    pub async fn acknowledges(&self, more: usize) {
        let goal = self.count() + more;
        eventually("puts are acknowledged", async || {
            let failures = self.seen.failures.lock().expect("no panic").len();
            must(self.count() >= goal, || format!("{} of {goal}, {failures} failed", self.count()))
        })
        .await;
    }

    /// Ends it, and tells the keys that were acknowledged and what the others were answered.
    pub async fn stop(self) -> (Vec<String>, Vec<Status>) {
        self.seen.is_stopped.store(true, Ordering::Relaxed);
        for lane in self.lanes {
            lane.await.expect("no panic");
        }
        let take = std::mem::take::<Vec<String>>;
        let acknowledged = take(&mut self.seen.acknowledged.lock().expect("no panic"));
        let failures = std::mem::take(&mut *self.seen.failures.lock().expect("no panic"));
        (acknowledged, failures)
    }
}

async fn write(seen: Arc<Seen>, mut kv: KvClient<Channel>, keyspace: String, prefix: String) {
    for number in 0.. {
        if seen.is_stopped.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{prefix}-{number}");
        let mut request: Request<v1::PutRequest> =
            Request::new(put(&keyspace, &key, &value_of(&key)));
        request.set_timeout(PUT_TIMEOUT);
        match kv.put(request).await {
            Ok(_) => seen.acknowledged.lock().expect("no panic").push(key),
            Err(status) => {
                seen.failures.lock().expect("no panic").push(status);
                // A dead node refuses at once.
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Checks that `node` answers a get at `r` with what was written under each of `keys`.
///
/// # Errors
/// The first key that is missing or wrong.
pub async fn nothing_is_lost(
    node: &Node,
    keyspace: &str,
    r: u32,
    keys: &[String],
) -> Result<(), String> {
    let kv = node.kv();
    let check = async |key: &String| {
        let request = v1::GetRequest { r: Some(r), ..get(keyspace, key) };
        let answer = kv.clone().get(request).await.map_err(|status| format!("{key}: {status}"))?;
        let found: Vec<_> = values(answer.get_ref()).into_iter().collect();
        let expected = [value_of(key)];
        must(found == expected, || {
            format!("{key}, one of {} acknowledged, has {found:?}", keys.len())
        })
    };
    let mut checked = futures::stream::iter(keys).map(check).buffer_unordered(GETS_AT_ONCE);
    while let Some(result) = checked.next().await {
        result?;
    }
    Ok(())
}
