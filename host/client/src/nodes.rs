//! The nodes that a client was given, and one request: whom it goes to, attempt by attempt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::budget::Budget;
use crate::error::{Error, reason};
use crate::line::Line;
use crate::options::Options;
use crate::peer::{Kind, Outcome, Peer};
use crate::retry::{Safety, is_worth_it, pause};

/// The largest answer taken: as many siblings as a node may send.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Connects to `endpoint`, `HOST:PORT` or `http://HOST:PORT`, without TLS, when it is first used.
///
/// This is what [`Client::connect`](crate::Client::connect) dials with. For TLS dial in your own way:
/// [`Client::connect_with`](crate::Client::connect_with).
///
/// # Errors
/// It is no such address.
pub fn plain(endpoint: &str) -> Result<Channel, Error> {
    let address = match endpoint.split_once("://") {
        Some(("http", address)) => address,
        Some((scheme, _)) => {
            let message = format!("{endpoint}: {scheme} is not dialled without further setting");
            return Err(Error::local(reason::BAD_ENDPOINT, message));
        }
        None => endpoint,
    };
    let dialled = http(address).map_err(|error| Error::bad_endpoint(endpoint, &error))?;
    Ok(dialled.connect_lazy())
}

/// HOST:PORT without TLS.
pub(crate) fn http(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).tcp_nodelay(true))
}

pub(crate) fn dial<E: AsRef<str>>(
    endpoints: impl IntoIterator<Item = E>,
) -> Result<Vec<Peer>, Error> {
    let peer = |endpoint: E| {
        let channel = plain(endpoint.as_ref())?;
        Ok(Peer::new(endpoint.as_ref().trim_start_matches("http://").to_owned(), channel))
    };
    endpoints.into_iter().map(peer).collect()
}

/// Channels that the caller made, to nodes whose addresses are not known.
pub(crate) fn made(channels: Vec<Channel>) -> Vec<Peer> {
    channels.into_iter().map(|channel| Peer::new(String::new(), channel)).collect()
}

/// How one request is to go.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Who is asked first, in order; after them the endpoints in turn.
    pub(crate) route: Vec<Arc<Peer>>,
    pub(crate) kind: Kind,
    pub(crate) safety: Safety,
    pub(crate) deadline: Instant,
}

/// The endpoints; which of them is asked first moves on when one fails.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) endpoints: Vec<Arc<Peer>>,
    first: AtomicUsize,
    pub(crate) options: Options,
    budget: Mutex<Budget>,
    /// Told when a node does not answer.
    pub(crate) trouble: Arc<Notify>,
}

impl Nodes {
    pub(crate) fn new(endpoints: Vec<Peer>, options: Options) -> Result<Self, Error> {
        if endpoints.is_empty() {
            let message = "give the address of at least one node";
            return Err(Error::local(reason::BAD_ENDPOINT, message));
        }
        let bearing = |peer: Peer| peer.bearing(options.bears());
        Ok(Nodes {
            endpoints: endpoints.into_iter().map(bearing).map(Arc::new).collect(),
            first: AtomicUsize::new(0),
            options,
            budget: Mutex::new(Budget::new(Instant::now())),
            trouble: Arc::default(),
        })
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// When a call that begins now has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// The channel that is asked first.
    pub(crate) fn channel(&self) -> Line {
        let first = self.first.load(Ordering::Relaxed);
        self.endpoints[first % self.endpoints.len()].channel.clone()
    }

    /// Another one is asked first from now on.
    pub(crate) fn turn(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }

    /// The caller asks for something.
    pub(crate) fn begin(&self) {
        self.budget().request();
    }

    /// Whether one more request may be sent than was asked for.
    pub(crate) fn may_repeat(&self) -> bool {
        self.budget().take(Instant::now())
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `message` to an endpoint: see [`Self::call_by`].
    pub(crate) async fn call<M: Clone, A>(
        &self,
        safety: Safety,
        message: M,
        send: impl AsyncFnMut(Line, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let deadline = self.deadline();
        let plan = Plan { route: Vec::new(), kind: Kind::Other, safety, deadline };
        self.call_by(plan, message, send).await
    }

    /// Sends `message` until it is answered, may not be sent again, or time is up.
    pub(crate) async fn call_by<M: Clone, A>(
        &self,
        plan: Plan,
        message: M,
        mut send: impl AsyncFnMut(Line, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let Plan { route, kind, safety, deadline } = plan;
        let is_alone = route.len() + self.endpoints.len() < 2;
        let mut route = route.into_iter();
        self.begin();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let turn = self.first.load(Ordering::Relaxed);
            let owner = route.next();
            let peer = owner.as_ref().unwrap_or(&self.endpoints[turn % self.endpoints.len()]);
            let left = deadline.saturating_duration_since(Instant::now());
            let is_last = attempt >= self.options.attempts_max;
            let mut request = Request::new(message.clone());
            request.set_timeout(share(left, safety, is_last || is_alone));
            let asked = peer.ask(kind);
            let error = match send(peer.channel.clone(), request).await {
                Ok(answer) => {
                    asked.end(Outcome::Answered);
                    return Ok(answer.into_inner());
                }
                Err(status) => Error::from(status),
            };
            let took = asked.took();
            asked.end(self.judged(&error));
            if is_last || !is_worth_it(&error, safety) {
                return Err(error);
            }
            if owner.is_none() {
                // Whoever failed is asked last now, unless another call has moved on already.
                let next = turn.wrapping_add(1);
                let _ =
                    self.first.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            // The next owner is another node: it need not be spared, and is no slower for this one.
            let is_fresh = route.len() > 0;
            let pause = match is_fresh && error.is_silence() {
                true => Duration::ZERO,
                false => pause(attempt, error.retry_after(), chance()),
            };
            // A node that took its time to refuse will again: its answer is worth more than none.
            let least = if is_fresh || error.is_silence() { Duration::ZERO } else { took };
            let is_in_time = Instant::now() + pause + least < deadline;
            // What no node has received costs none of them anything.
            if !is_in_time || !(error.is_unsent() || self.may_repeat()) {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// What an error says of the node that gave it, or gave none.
    pub(crate) fn judged(&self, error: &Error) -> Outcome {
        if error.is_silence() {
            self.trouble.notify_one();
            return Outcome::Silent;
        }
        match is_worth_it(error, Safety::Repeatable) {
            true => Outcome::Failed,
            false => Outcome::Answered,
        }
    }
}

/// How much of what is `left` one attempt gets: half of it where another one could follow.
fn share(left: Duration, safety: Safety, is_last: bool) -> Duration {
    if safety == Safety::Repeatable && !is_last { left / 2 } else { left }
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
        let timeout = Duration::from_millis(200);
        let options = Options { timeout, attempts_max: u32::MAX, ..Options::default() };
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
