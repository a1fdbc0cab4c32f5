//! How a client goes about its calls.

use std::sync::Arc;
use std::time::Duration;

use stator_proto::v1;

use crate::line::{Bears, bearer};

/// Who coordinates a client's requests.
///
/// Every node takes every request, so this decides about speed, not about what is promised: what the
/// README says of quorums, deletes and merges holds with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Coordination {
    /// The endpoints, the next one when one fails. The client needs to know nothing, and reaches no
    /// node but those that it was given. A node that does not own the key asks those that do, which
    /// costs one more way through the network.
    Any,
    /// An owner of the key: the client knows the [ring](crate#who-is-asked), and sends a request to
    /// the owner that answered fastest lately. A message whose quorum is of a region goes to the endpoints.
    #[default]
    Owner,
    /// The client itself, for [`Client::get`](crate::Client::get): it asks r owners for what they
    /// hold, and answers by that if they hold the same, one version or none. That is one way through
    /// the network less than any node could do with, and no work for a coordinator. Owners that
    /// differ, siblings, and every other request go to an owner as with [`Self::Owner`].
    ///
    /// Only owners count, unless too few of them answer; then a node coordinates the get, with
    /// fallbacks if they [may count](Options::is_strict). What the r owners agree on is not compared with the
    /// others, so it repairs none of them: writes, hints and anti-entropy do.
    Client,
}

/// How a client goes about its calls.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a call may take with all its attempts. It is the gRPC deadline of the request, so
    /// the nodes know it too. 10 s unless set.
    pub timeout: Duration,
    /// How often a request is sent at most. 5 unless set; 1 turns retries off.
    pub attempts_max: u32,
    /// Who coordinates. [`Coordination::Owner`] unless set.
    pub coordination: Coordination,
    /// Whether only owners count for a quorum (`QUORUM_STRICT`), in gets, puts and deletes: with
    /// r + w > n a get sees every put that was acknowledged before, whatever nodes fail meanwhile.
    /// Not unless set: fallbacks stand in for owners, so that more is answered.
    pub is_strict: bool,
    /// The token that each request bears, where the cluster serves only those who have a role.
    pub token: Option<Token>,
    /// What each request is a part of, where traces are kept.
    pub trace: Option<Traceparent>,
}

/// Tells what a request is a part of that is sent now: the header `traceparent` of
/// <https://www.w3.org/TR/trace-context/>, or nothing. It is called for every attempt, where the call is
/// made. With the crate `opentelemetry` the span that is active there is:
///
/// ```ignore
/// let trace = Traceparent::from(|| {
///     let mut headers = std::collections::HashMap::new();
///     TraceContextPropagator::new().inject_context(&Context::current(), &mut headers);
///     headers.remove("traceparent")
/// });
/// ```
///
/// A node follows its sampled flag: a traced request is traced in all nodes that it reaches.
#[derive(Clone)]
pub struct Traceparent(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl Traceparent {
    pub(crate) fn now(&self) -> Option<String> {
        (self.0)()
    }
}

impl<F: Fn() -> Option<String> + Send + Sync + 'static> From<F> for Traceparent {
    fn from(tell: F) -> Self {
        Traceparent(Arc::new(tell))
    }
}

impl std::fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traceparent(…)")
    }
}

/// A token; prints nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Options {
    pub(crate) fn bears(&self) -> Bears {
        let token = self.token.as_ref().and_then(|token| bearer(&token.0));
        Bears { token, trace: self.trace.clone() }
    }

    pub(crate) fn quorum(&self) -> v1::Quorum {
        if self.is_strict { v1::Quorum::Strict } else { v1::Quorum::Sloppy }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(10),
            attempts_max: 5,
            coordination: Coordination::default(),
            is_strict: false,
            token: None,
            trace: None,
        }
    }
}
