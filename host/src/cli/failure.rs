//! Why a command did not do what it was asked, for people and for programs.

use std::error::Error;
use std::io;

use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::output::{self, Output};

/// The kind of a failure: the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A node refused or failed.
    Refused = 1,
    /// Wrong usage or configuration; nothing was sent.
    Usage = 2,
    /// The key, keyspace or module does not exist.
    NotFound = 3,
    /// No answer in time, or too few replicas. A write may have been applied.
    Unavailable = 4,
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    message: String,
    /// The machine-readable reason of the node's ErrorInfo.
    reason: Option<String>,
    /// What belongs to the reason, in order of the names.
    facts: Map<String, Value>,
    /// More about it, a line each: what is wrong where, what to do.
    hints: Vec<String>,
    /// Nobody reads what is written to standard output any more.
    pub(super) is_closed_pipe: bool,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure {
            kind,
            message: message.into(),
            reason: None,
            facts: Map::new(),
            hints: Vec::new(),
            is_closed_pipe: false,
        }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Kind::Usage, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Failure::new(Kind::Refused, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts what was tried before the message.
    pub(super) fn during(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What happened, without what to do about it.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Writes the failure to standard error.
    pub(super) fn print(&self, output: Output) {
        let text = match output {
            Output::Table => self.words(),
            Output::Json => self.json().to_string(),
        };
        // If standard error is closed the exit code must do.
        output::say(text);
    }

    fn words(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if let Some(reason) = &self.reason {
            text.push_str(&format!(" [{reason}]"));
        }
        // What a detail says again was said.
        let is_said = |hint: &&String| {
            hint.split_once(": ").is_some_and(|(_, words)| self.message.contains(words))
        };
        for hint in self.hints.iter().filter(|hint| !is_said(hint)) {
            text.push_str(&format!("\n  {hint}"));
        }
        text
    }

    fn json(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "exit_code": self.kind as u8,
            "reason": self.reason,
            "facts": self.facts,
            "hints": self.hints,
        }})
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let is_closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        let failure = Failure::refused(format!("cannot write the result: {error}"));
        Failure { is_closed_pipe, ..failure }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::refused(format!("{error:#}"))
    }
}

impl From<stator_client::Error> for Failure {
    fn from(error: stator_client::Error) -> Self {
        error.into_status().into()
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Unavailable,
            _ => Kind::Refused,
        };
        let message = match (status.message(), status.code()) {
            ("", code) => code.description().to_owned(),
            (message, Code::DeadlineExceeded | Code::Cancelled)
                if details.error_info().is_none() =>
            {
                format!("no answer in time ({message}); a write may have been applied")
            }
            (message, _) => message.to_owned(),
        };
        // Of a connection that broke the cause at the bottom says why: what TLS or the node told.
        let cause = std::iter::successors(status.source(), |&error| error.source()).last();
        let (kind, message) = match cause.filter(|_| details.error_info().is_none()) {
            Some(cause) => (Kind::Unavailable, format!("{message} ({cause})")),
            None => (kind, message),
        };
        let mut failure = Failure::new(kind, message);
        failure.take_details(&details);
        if status.code() == Code::Unimplemented {
            failure.hints.push("this node's version does not offer that".to_owned());
        }
        failure
    }
}

impl Failure {
    fn take_details(&mut self, details: &ErrorDetails) {
        if let Some(info) = details.error_info() {
            self.reason = Some(info.reason.clone());
            self.facts =
                info.metadata.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
            if info.metadata.get("effect").is_some_and(|effect| effect == "MAYBE") {
                self.hints
                    .push("the write may be applied, now or later; read before you retry".into());
            }
        }
        if let Some(bad) = details.bad_request() {
            let lines = bad.field_violations.iter();
            self.hints.extend(lines.map(|v| format!("{}: {}", v.field, v.description)));
        }
        if let Some(unmet) = details.precondition_failure() {
            let lines = unmet.violations.iter();
            self.hints.extend(lines.map(|v| format!("{}: {}", v.subject, v.description)));
        }
        if let Some(quota) = details.quota_failure() {
            let lines = quota.violations.iter();
            self.hints.extend(lines.map(|v| format!("{}: {}", v.subject, v.description)));
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            self.hints.push(format!("try again in {} ms", delay.as_millis()));
        }
        if let Some(help) = details.help() {
            self.hints.extend(help.links.iter().map(|l| format!("{}: {}", l.description, l.url)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn quorum_not_reached() -> Status {
        let facts = [("needed", "2"), ("answered", "1"), ("effect", "MAYBE")];
        let facts: HashMap<_, _> = facts.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let details = ErrorDetails::with_error_info("QUORUM_NOT_REACHED", "stator", facts);
        Status::with_error_details(Code::Unavailable, "1 of 2 replicas acknowledged", details)
    }

    #[test]
    fn a_missed_quorum_says_that_the_write_may_be_applied() {
        let failure = Failure::from(quorum_not_reached());
        assert_eq!(failure.kind, Kind::Unavailable);
        assert!(failure.words().contains("QUORUM_NOT_REACHED"));
        assert!(failure.words().contains("may be applied"));
        assert_eq!(failure.json()["error"]["facts"]["answered"], "1");
    }

    #[test]
    fn a_bad_request_names_the_field() {
        let details = ErrorDetails::with_bad_request_violation("key", "2000 bytes; 1024 allowed");
        let status = Status::with_error_details(Code::InvalidArgument, "bad key", details);
        let failure = Failure::from(status);
        assert_eq!(failure.kind, Kind::Refused);
        assert!(failure.words().contains("key: 2000 bytes; 1024 allowed"), "{}", failure.words());
    }

    #[test]
    fn what_does_not_exist_has_an_exit_code_of_its_own() {
        assert_eq!(Failure::from(Status::not_found("no such keyspace")).kind, Kind::NotFound);
    }
}
