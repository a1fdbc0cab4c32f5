//! Why a request failed, with what programs need to know of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Whether a request that failed changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly did not.
    None,
    /// It may have been applied, or may yet be.
    Maybe,
}

/// What is wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, or what the precondition or limit is about.
    pub subject: String,
    /// In words.
    pub description: String,
}

/// A request that failed.
///
/// The [reason](Self::reason) is what to branch on: `docs/api.md` lists all of them.
#[derive(Debug)]
pub struct Error {
    status: Box<Status>,
    reason: String,
    metadata: BTreeMap<String, String>,
    effect: Effect,
    retry_after: Option<Duration>,
    violations: Vec<Violation>,
}

/// Reasons that this crate gives itself, when no node did.
pub(crate) mod reason {
    pub(crate) const BAD_ENDPOINT: &str = "BAD_ENDPOINT";
    pub(crate) const BAD_TOKEN: &str = "BAD_TOKEN";
    pub(crate) const NO_RING: &str = "NO_RING";
    pub(crate) const NO_CONTEXT: &str = "NO_CONTEXT";
    pub(crate) const NO_VALUE: &str = "NO_VALUE";
    pub(crate) const NOT_CONNECTED: &str = "NOT_CONNECTED";
    pub(crate) const NO_ANSWER: &str = "NO_ANSWER";
    pub(crate) const SIBLINGS_REMAIN: &str = "SIBLINGS_REMAIN";
}

impl Error {
    /// What a call was refused for before anything was sent.
    pub(crate) fn local(reason: &str, message: impl Into<String>) -> Self {
        let status = Status::failed_precondition(message);
        Error { reason: reason.to_owned(), effect: Effect::None, ..Error::from(status) }
    }

    pub(crate) fn bad_endpoint(endpoint: &str, error: &dyn fmt::Display) -> Self {
        let message = format!("{endpoint} is no address of a node: {error}");
        Error::local(reason::BAD_ENDPOINT, message)
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// The node's words.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// The reason of the node's ErrorInfo, in capitals. `NOT_CONNECTED` and `NO_ANSWER` if no node
    /// said anything; empty if what answered is no node of Stator.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What belongs to the reason, by name.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether a write may be applied all the same.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// How long the node asks to wait before another attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What is wrong with the request, part by part.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether no node has answered.
    pub(crate) fn is_silence(&self) -> bool {
        [reason::NOT_CONNECTED, reason::NO_ANSWER].contains(&self.reason.as_str())
    }

    /// Whether no node has received it.
    pub(crate) fn is_unsent(&self) -> bool {
        self.reason == reason::NOT_CONNECTED
    }

    /// The whole answer, for tools.
    pub fn into_status(self) -> Status {
        *self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.message() {
            "" => self.code().description(),
            message => message,
        };
        match self.reason.as_str() {
            "" => write!(f, "{words} ({})", self.code().description()),
            reason => write!(f, "{words} [{reason}]"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.status)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let is_unsent = was_never_sent(&status);
        let (reason, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone().into_iter().collect()),
            None => (silence(&status, is_unsent).to_owned(), BTreeMap::new()),
        };
        let effect = match metadata.get("effect").map(String::as_str) {
            Some("NONE") => Effect::None,
            Some(_) => Effect::Maybe,
            None if is_unsent => Effect::None,
            // A connection that is closed for its owner's manners has this code, and no reason.
            None if status.code() == Code::ResourceExhausted && reason.is_empty() => Effect::Maybe,
            None if is_refusal(status.code()) => Effect::None,
            None => Effect::Maybe,
        };
        let mut violations = Vec::new();
        let mut add = |subject: &str, description: &str| {
            let (subject, description) = (subject.to_owned(), description.to_owned());
            violations.push(Violation { subject, description });
        };
        let fields = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
        fields.for_each(|v| add(&v.field, &v.description));
        let unmet = details.precondition_failure().into_iter().flat_map(|f| &f.violations);
        unmet.for_each(|v| add(&v.subject, &v.description));
        let quotas = details.quota_failure().into_iter().flat_map(|f| &f.violations);
        quotas.for_each(|v| add(&v.subject, &v.description));
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        Error { status: Box::new(status), reason, metadata, effect, retry_after, violations }
    }
}

/// Whether the transport here made the status: it says why. What a node sent has no source, but
/// for the resets of HTTP/2, which say no more than that the stream is gone.
fn is_made_here(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.message().starts_with("h2 protocol error")
}

/// The reason if no node gave one.
fn silence(status: &Status, is_unsent: bool) -> &'static str {
    match status.code() {
        _ if is_unsent => reason::NOT_CONNECTED,
        // Made here, not sent by a node: the connection broke with the request under way.
        Code::Unknown | Code::Internal if is_made_here(status) => reason::NO_ANSWER,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => reason::NO_ANSWER,
        _ => "",
    }
}

/// Codes that say what the request is, not how it went.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

/// Whether not even a connection was made.
fn was_never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn told(code: Code, reason: &str, facts: &[(&str, &str)]) -> Error {
        let facts: HashMap<String, String> =
            facts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let details = ErrorDetails::with_error_info(reason, "stator", facts);
        Status::with_error_details(code, "words", details).into()
    }

    #[test]
    fn the_effect_is_what_the_node_says_else_what_the_code_allows() {
        let reached = |effect| told(Code::Unavailable, "QUORUM_NOT_REACHED", &[("effect", effect)]);
        assert_eq!(reached("NONE").effect(), Effect::None);
        assert_eq!(reached("MAYBE").effect(), Effect::Maybe);
        assert_eq!(reached("something newer").effect(), Effect::Maybe);
        assert_eq!(told(Code::NotFound, "UNKNOWN_KEYSPACE", &[]).effect(), Effect::None);
        assert_eq!(told(Code::Unavailable, "NOT_PERSISTED", &[]).effect(), Effect::Maybe);
        let silent = |status: Status| Error::from(status);
        assert_eq!(silent(Status::unavailable("broken pipe")).effect(), Effect::Maybe);
        assert_eq!(silent(Status::cancelled("Timeout expired")).reason(), "NO_ANSWER");
        assert_eq!(silent(Status::internal("?")).effect(), Effect::Maybe);
        assert_eq!(silent(Status::from_error("it broke".into())).reason(), "NO_ANSWER");
        assert_eq!(silent(Status::unknown("said by a proxy")).reason(), "");
    }

    #[test]
    fn details_are_typed() {
        let mut details = ErrorDetails::with_bad_request_violation("key", "too long");
        details.set_retry_info(Some(Duration::from_millis(7)));
        let error = Error::from(Status::with_error_details(Code::InvalidArgument, "no", details));
        assert_eq!(error.violations()[0].subject, "key");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(7)));
        assert_eq!(told(Code::Aborted, "R", &[("a", "b")]).metadata()["a"], "b");
        assert_eq!(told(Code::Aborted, "R", &[]).to_string(), "words [R]");
    }
}
