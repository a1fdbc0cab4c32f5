//! The nodes that a client knows, and one request to any of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::error::{Error, reason};
use crate::retry::{Safety, is_worth_it, pause};

/// The largest answer taken: as many siblings as a node may send.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How a client goes about its calls.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a call may take with all its attempts. It is the gRPC deadline of the request, so
    /// the nodes know it too. 10 s unless set.
    pub timeout: Duration,
    /// How often a request is sent at most. 5 unless set; 1 turns retries off.
    pub attempts_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { timeout: Duration::from_secs(10), attempts_max: 5 }
    }
}

/// Connects to `endpoint`, `HOST:PORT` or `http://HOST:PORT`, without TLS, when it is first used.
///
/// This is what [`Client::connect`](crate::Client::connect) dials with. For TLS make the channels
/// in your own way and hand them to [`Client::over`](crate::Client::over).
///
/// # Errors
/// It is no such address.
pub fn plain(endpoint: &str) -> Result<Channel, Error> {
    let url = match endpoint.split_once("://") {
        Some(("http", _)) => endpoint.to_owned(),
        Some((scheme, _)) => {
            let message = format!("{endpoint}: {scheme} is not dialled without further setting");
            return Err(Error::local(reason::BAD_ENDPOINT, message));
        }
        None => format!("http://{endpoint}"),
    };
    let bad = |error| {
        Error::local(reason::BAD_ENDPOINT, format!("{endpoint} is no address of a node: {error}"))
    };
    let endpoint = Endpoint::from_shared(url).map_err(bad)?;
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).tcp_nodelay(true).connect_lazy())
}

pub(crate) fn dial<E: AsRef<str>>(
    endpoints: impl IntoIterator<Item = E>,
) -> Result<Vec<Channel>, Error> {
    endpoints.into_iter().map(|endpoint| plain(endpoint.as_ref())).collect()
}

/// Channels to nodes; which of them is asked first moves on when one fails.
#[derive(Debug)]
pub(crate) struct Nodes {
    channels: Vec<Channel>,
    first: AtomicUsize,
    options: Options,
}

impl Nodes {
    pub(crate) fn new(channels: Vec<Channel>, options: Options) -> Result<Self, Error> {
        if channels.is_empty() {
            let message = "give the address of at least one node";
            return Err(Error::local(reason::BAD_ENDPOINT, message));
        }
        Ok(Nodes { channels, first: AtomicUsize::new(0), options })
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The channel that is asked first.
    pub(crate) fn channel(&self) -> Channel {
        let first = self.first.load(Ordering::Relaxed);
        self.channels[first % self.channels.len()].clone()
    }

    /// Sends `message` until it is answered, may not be sent again, or time is up.
    pub(crate) async fn call<M: Clone, A>(
        &self,
        safety: Safety,
        message: M,
        mut send: impl AsyncFnMut(Channel, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let deadline = Instant::now() + self.options.timeout;
        let mut attempt = 1;
        loop {
            let asked = self.first.load(Ordering::Relaxed);
            let channel = self.channels[asked % self.channels.len()].clone();
            let left = deadline.saturating_duration_since(Instant::now());
            let is_last = attempt >= self.options.attempts_max;
            let started = Instant::now();
            let mut request = Request::new(message.clone());
            request.set_timeout(self.share(left, safety, is_last));
            let error = match send(channel, request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => Error::from(status),
            };
            if is_last || !is_worth_it(&error, safety) {
                return Err(error);
            }
            // Whoever failed is asked last now, unless another call has moved on already.
            let next = asked.wrapping_add(1);
            let _ = self.first.compare_exchange(asked, next, Ordering::Relaxed, Ordering::Relaxed);
            let pause = pause(attempt, error.retry_after(), chance());
            // A node that took its time to refuse will again: its answer is worth more than none.
            let least = if error.is_silence() { Duration::ZERO } else { started.elapsed() };
            if Instant::now() + pause + least >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// How much of what is `left` one attempt gets: half of it where another node could be asked.
    fn share(&self, left: Duration, safety: Safety, is_last: bool) -> Duration {
        if safety == Safety::Repeatable && !is_last && self.channels.len() > 1 {
            left / 2
        } else {
            left
        }
    }
}

/// A number by chance; which one matters little.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effect;

    #[test]
    fn an_address_may_lack_its_scheme_and_must_not_name_another() {
        // Channels belong to a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _guard = runtime.enter();
        assert!(plain("127.0.0.1:1").is_ok());
        assert!(plain("http://127.0.0.1:1").is_ok());
        assert_eq!(plain("https://127.0.0.1:1").expect_err("TLS").reason(), "BAD_ENDPOINT");
        assert_eq!(plain("not an address").expect_err("spaces").reason(), "BAD_ENDPOINT");
    }

    fn nodes(count: usize, options: Options) -> Nodes {
        // Port 1 is reserved and nothing listens on it.
        Nodes::new(dial(vec!["127.0.0.1:1"; count]).expect("an address"), options).expect("one")
    }

    #[tokio::test]
    async fn what_was_never_sent_is_sent_elsewhere_even_if_it_may_happen_once_only() {
        let nodes = nodes(2, Options { attempts_max: 3, ..Options::default() });
        let mut asked = 0;
        let answer = nodes
            .call(Safety::Once, (), async |channel, _| {
                asked += 1;
                let mut health = stator_proto::v1::kv_client::KvClient::new(channel);
                health.get(stator_proto::v1::GetRequest::default()).await
            })
            .await;
        let error = answer.expect_err("nobody there");
        assert_eq!((error.reason(), error.effect()), ("NOT_CONNECTED", Effect::None));
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn an_unknown_outcome_ends_a_call_that_may_happen_once_only() {
        for (safety, expected) in [(Safety::Once, 1), (Safety::Repeatable, 4)] {
            let nodes = nodes(2, Options { attempts_max: 4, ..Options::default() });
            let mut asked = 0;
            let answer: Result<(), _> = nodes
                .call(safety, (), async |_, _| {
                    asked += 1;
                    Err(Status::unavailable("the connection broke"))
                })
                .await;
            assert_eq!(answer.expect_err("broken").reason(), "NO_ANSWER");
            assert_eq!(asked, expected, "{safety:?}");
        }
    }

    #[tokio::test]
    async fn the_deadline_bounds_all_attempts() {
        let options = Options { timeout: Duration::from_millis(200), attempts_max: u32::MAX };
        let nodes = nodes(1, options);
        let answer: Result<(), _> = nodes
            .call(Safety::Repeatable, (), async |_, request| {
                assert!(request.metadata().contains_key("grpc-timeout"));
                Err(Status::unavailable("not yet"))
            })
            .await;
        assert!(answer.is_err());
    }

    #[test]
    fn a_client_needs_a_node() {
        let none = Nodes::new(Vec::new(), Options::default());
        assert_eq!(none.expect_err("none").reason(), "BAD_ENDPOINT");
    }
}
