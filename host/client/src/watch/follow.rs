//! One member's stream, opened anew from where it was whenever it ends.

use std::sync::Arc;
use std::time::Duration;

use stator_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::client::kv;
use crate::error::Error;
use crate::retry::pause;
use crate::routes::Routes;

/// A node says something every five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// What may be because a node has not heard of a role or keyspace yet is asked for so often.
const REFUSALS_MAX: u32 = 8;

/// What is heard of a member.
pub(super) struct Heard {
    pub(super) node: String,
    /// Which of its followers this is from.
    pub(super) run: u64,
    pub(super) what: What,
}

pub(super) enum What {
    Told(v1::WatchResponse),
    Away(String),
    /// It refuses.
    Failed(Error),
}

/// Follows a member until it is dropped.
pub(super) struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    pub(super) fn of(
        (routes, address): (Arc<Routes>, String),
        request: v1::WatchRequest,
        hear: mpsc::Sender<Heard>,
        (node, run): (String, u64),
    ) -> Self {
        // A connection of its own: what is not read yet must not be in the way of gets.
        let stream = Stream { routes, address, request, failures: 0 };
        let tell = Tell { hear, node, run };
        Follower(tokio::spawn(follow(stream, tell)))
    }
}

struct Tell {
    hear: mpsc::Sender<Heard>,
    node: String,
    run: u64,
}

impl Tell {
    /// Whether anybody listens.
    async fn tell(&self, what: What) -> bool {
        self.hear.send(Heard { node: self.node.clone(), run: self.run, what }).await.is_ok()
    }
}

struct Stream {
    routes: Arc<Routes>,
    address: String,
    request: v1::WatchRequest,
    failures: u32,
}

impl Stream {
    /// Reads it to its end.
    async fn read(&mut self, tell: &Tell) -> Result<(), Error> {
        let unreached = || Error::from(Status::unavailable("its address cannot be dialled"));
        let line = self.routes.line(&self.address).ok_or_else(unreached)?;
        let mut client = kv(line);
        let opened = client.watch(self.request.clone());
        let silent = |_| Status::unavailable("it is silent");
        let mut stream = timeout(SILENCE_MAX, opened).await.map_err(silent)??.into_inner();
        loop {
            let message = timeout(SILENCE_MAX, stream.message()).await.map_err(silent)??;
            let Some(message) = message else {
                return Err(Status::unavailable("it has ended its stream").into());
            };
            self.failures = 0;
            self.request.position.clone_from(&message.position);
            if !tell.tell(What::Told(message)).await {
                return Ok(());
            }
        }
    }
}

async fn follow(mut stream: Stream, tell: Tell) {
    loop {
        let Err(error) = stream.read(&tell).await else { return };
        stream.failures += 1;
        let is_final = match error.code() {
            Code::InvalidArgument => true,
            Code::NotFound | Code::PermissionDenied | Code::Unauthenticated => {
                stream.failures >= REFUSALS_MAX
            }
            _ => false,
        };
        if is_final {
            tell.tell(What::Failed(error)).await;
            return;
        }
        let wait = pause(stream.failures, error.retry_after(), u32::MAX);
        if !tell.tell(What::Away(error.to_string())).await {
            return;
        }
        sleep(wait).await;
    }
}
