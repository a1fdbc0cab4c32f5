//! Errors as gRPC statuses: the code, words for people, and ErrorInfo with what programs need.
//!
//! By the code there is more: INVALID_ARGUMENT has a BadRequest, FAILED_PRECONDITION a
//! PreconditionFailure, RESOURCE_EXHAUSTED a QuotaFailure or RetryInfo, and what can simply be
//! repeated a RetryInfo. `docs/api.md` lists the reasons: keep it complete.

use std::collections::HashMap;
use std::time::Duration;

use stator_core::catalogue::{AccessError, ChangeError};
use stator_core::causality::ContextError;
use stator_core::event::ChangeFailure;
use stator_core::id::{ModuleDigest, ParseIdError};
use stator_core::request::{Effect, ReplicaRefused, RequestError};
use stator_core::write::WriteRefused;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::address::HostPort;
use crate::driver::DriverStopped;
use crate::merge::laws::MayNotFold;

const DOMAIN: &str = "stator";
/// An answer's headers must fit what clients take, 16 KiB as a rule, whatever of the request its
/// words repeat: the message, which is there two or three times and may be three times as long
/// when encoded, and each fact.
const MESSAGE_BYTES_MAX: usize = 1_000;
const FACT_BYTES_MAX: usize = 200;

/// How long a client is asked to wait before it repeats what did nothing.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A status with an ErrorInfo of `reason` and `facts`, and the details that belong to its code.
pub(super) fn status(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    facts: &[(&str, String)],
) -> Status {
    let message = bounded(&message.into(), MESSAGE_BYTES_MAX);
    let mut details = with_info(reason, facts);
    let is_harmless = facts.iter().any(|(name, value)| *name == "effect" && value == "NONE");
    match code {
        // No field: the message as a whole.
        Code::InvalidArgument => drop(details.add_bad_request_violation("", message.clone())),
        Code::FailedPrecondition => {
            details.add_precondition_failure_violation(reason, "cluster", message.clone());
        }
        Code::Unavailable if is_harmless => drop(details.set_retry_info(Some(RETRY_AFTER))),
        _ => {}
    }
    Status::with_error_details(code, message, details)
}

/// The beginning of a text that may be too long.
fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)])
}

fn with_info(reason: &str, facts: &[(&str, String)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), bounded(value, FACT_BYTES_MAX)))
        .collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata);
    details
}

/// A field of the request is not what it must be.
pub(super) fn bad_field(field: &str, reason: &str, message: impl Into<String>) -> Status {
    bad_field_with(field, reason, message, &[])
}

/// As [`bad_field`], with more `facts`.
pub(super) fn bad_field_with(
    field: &str,
    reason: &str,
    message: impl Into<String>,
    facts: &[(&str, String)],
) -> Status {
    let message = bounded(&message.into(), MESSAGE_BYTES_MAX);
    let facts = [facts, &[("field", field.to_owned())]].concat();
    let mut details = with_info(reason, &facts);
    details.add_bad_request_violation(field, message.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// An address that a request names in `field`, as it is dialled.
pub(super) fn address(field: &str, text: &str) -> Result<String, Status> {
    let read = text.parse::<HostPort>().map(|address| address.to_string());
    read.map_err(|bad| bad_field(field, "BAD_ADDRESS", bad.to_string()))
}

/// A module's digest that a request names in `field`.
pub(super) fn digest(field: &str, text: &str) -> Result<ModuleDigest, Status> {
    text.parse().map_err(|bad: ParseIdError| bad_field(field, "BAD_DIGEST", bad.to_string()))
}

/// What the request asks for is planned, and not offered yet.
pub(super) fn unimplemented(what: &str) -> Status {
    let message = format!("{what}: this version does not offer that yet; nothing was changed");
    status(Code::Unimplemented, "NOT_OFFERED", message, &[("what", what.to_owned())])
}

/// There is no keyspace of this name.
pub(super) fn no_keyspace(name: &str) -> Status {
    let message =
        format!("there is no keyspace {name:?}; `stator keyspace list` shows those there are");
    status(Code::NotFound, "UNKNOWN_KEYSPACE", message, &[("keyspace", name.to_owned())])
}

/// What the client's ring says of a keyspace is not so any more.
pub(super) fn route_stale(name: &str) -> Status {
    let message = format!("keyspace {name:?} is another one by now: fetch the ring again");
    status(Code::FailedPrecondition, "ROUTE_STALE", message, &[("keyspace", name.to_owned())])
}

/// The node belongs to no cluster.
pub(super) fn no_cluster() -> Status {
    let message = RequestError::NoCluster.to_string();
    status(Code::FailedPrecondition, "NO_CLUSTER", message, &[])
}

/// The node is busy; the client may try again.
pub(super) fn overloaded(what: &str, limit: usize) -> Status {
    let message = format!(
        "{limit} {what} are under way on this node, the most it takes; nothing was changed, try again"
    );
    exhausted(message, limit)
}

/// A budget of the node is used up; nothing was done, and soon there may be room.
pub(super) fn exhausted(message: String, limit: usize) -> Status {
    let facts = [("limit", limit.to_string()), ("effect", "NONE".to_owned())];
    let mut details = with_info("OVERLOADED", &facts);
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn stopped(_: DriverStopped) -> Status {
    let message = "the node is stopping; a write may have been applied";
    status(Code::DeadlineExceeded, "STOPPING", message, &[("effect", "MAYBE".to_owned())])
}

pub(super) fn context(error: &ContextError) -> Status {
    let message = error.to_string();
    match error {
        ContextError::TooLarge { .. } => bad_field("contexts", "CONTEXT_TOO_LARGE", message),
        ContextError::Forged => bad_field("contexts", "CONTEXT_FORGED", message),
        ContextError::UnknownSecret { .. } => {
            status(Code::FailedPrecondition, "CONTEXT_SECRET_UNKNOWN", message, &[])
        }
    }
}

pub(super) fn may_not_fold(why: &MayNotFold) -> Status {
    let message = why.to_string();
    match why {
        MayNotFold::Violated { law, .. } | MayNotFold::NotShown { law, .. } => {
            let facts = [("law", law.name().to_owned())];
            status(Code::FailedPrecondition, "MODULE_MAY_NOT_FOLD", message, &facts)
        }
        MayNotFold::TooAlike { .. } => {
            status(Code::FailedPrecondition, "MODULE_MAY_NOT_FOLD", message, &[])
        }
        MayNotFold::Unchecked { .. } => {
            status(Code::Unavailable, "LAWS_NOT_CHECKED", message, &[("effect", "NONE".to_owned())])
        }
    }
}

/// The node that was asked is no member any more.
pub(super) fn removed(ring_version: u64, message: String) -> Status {
    let facts = [("ring_version", ring_version.to_string()), ("effect", "NONE".to_owned())];
    status(Code::FailedPrecondition, "NODE_REMOVED", message, &facts)
}

pub(super) fn replica(error: &ReplicaRefused) -> Status {
    let message = error.to_string();
    match error {
        ReplicaRefused::Request(error) => request(error),
        ReplicaRefused::NotOwner { ring_version } => {
            let facts = [("ring_version", ring_version.to_string())];
            status(Code::FailedPrecondition, "NOT_OWNER", message, &facts)
        }
        ReplicaRefused::NotWhole => {
            let facts = [("effect", "NONE".to_owned())];
            status(Code::Unavailable, "REPLICA_NOT_WHOLE", message, &facts)
        }
    }
}

pub(super) fn request(error: &RequestError) -> Status {
    let message = error.to_string();
    match error {
        RequestError::NoCluster => no_cluster(),
        RequestError::Removed { ring_version } => removed(*ring_version, message),
        RequestError::NotAccepted => {
            let facts = [("effect", "NONE".to_owned())];
            status(Code::Unavailable, "NODE_NOT_ACCEPTED", message, &facts)
        }
        RequestError::SecondHolder { incarnation, address } => {
            let facts = [
                ("incarnation", incarnation.to_string()),
                ("address", address.clone()),
                ("effect", "NONE".to_owned()),
            ];
            status(Code::FailedPrecondition, "SECOND_HOLDER", message, &facts)
        }
        RequestError::UnknownKeyspace(id) => {
            status(Code::NotFound, "UNKNOWN_KEYSPACE", message, &[("keyspace_id", id.to_string())])
        }
        RequestError::BadQuorum { name, .. } => bad_field(name, "BAD_QUORUM", message),
        RequestError::TooFewNodes { needed, owners, .. } => status(
            Code::FailedPrecondition,
            "TOO_FEW_NODES",
            message,
            &[("needed", needed.to_string()), ("owners", owners.to_string())],
        ),
        RequestError::TooFewNear { needed, owners, .. } => status(
            Code::FailedPrecondition,
            "TOO_FEW_LOCAL_OWNERS",
            message,
            &[("needed", needed.to_string()), ("owners", owners.to_string())],
        ),
        RequestError::QuorumNotReached { needed, answered, effect } => fell_short(
            *effect,
            "QUORUM_NOT_REACHED",
            message,
            &[
                ("needed", needed.to_string()),
                ("answered", answered.to_string()),
                ("effect", effect_name(*effect).to_owned()),
            ],
        ),
        RequestError::Expired => {
            status(Code::DeadlineExceeded, "EXPIRED", message, &[("effect", "NONE".to_owned())])
        }
        RequestError::Refused(WriteRefused::PartlyFolded { .. }) => {
            // What a client does with it: read, decide, write again.
            status(Code::Aborted, "PARTLY_FOLDED", message, &[("effect", "NONE".to_owned())])
        }
        RequestError::Refused(WriteRefused::TooManyExpired { .. }) => {
            let mut details = with_info("TOO_MANY_EXPIRED", &[("effect", "NONE".to_owned())]);
            details.add_quota_failure_violation("key", message.clone());
            details.set_retry_info(Some(RETRY_AFTER));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        RequestError::Refused(
            WriteRefused::OverKeys { found, max } | WriteRefused::OverBytes { found, max, .. },
        ) => {
            let is_keys = matches!(error, RequestError::Refused(WriteRefused::OverKeys { .. }));
            over_quota(if is_keys { "keys" } else { "bytes" }, (*found, *max), message, None)
        }
        RequestError::Refused(_) => {
            let mut details = with_info("TOO_MANY_SIBLINGS", &[("effect", "NONE".to_owned())]);
            details.add_quota_failure_violation("key", message.clone());
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        RequestError::RequestReused(dot) => {
            let facts = [("dot", dot.to_string()), ("effect", "NONE".to_owned())];
            status(Code::AlreadyExists, "REQUEST_ID_REUSED", message, &facts)
        }
        RequestError::NoRoom { bytes_max } => exhausted(message, *bytes_max as usize),
        RequestError::Store { effect, .. } => {
            let facts = [("effect", effect_name(*effect).to_owned())];
            fell_short(*effect, "STORE_UNAVAILABLE", message, &facts)
        }
    }
}

/// A keyspace's quota is used up. It does not pass by itself, unless `after` is given.
pub(super) fn over_quota(
    quota: &str,
    (found, max): (u64, u64),
    message: String,
    after: Option<Duration>,
) -> Status {
    let facts = [
        ("quota", quota.to_owned()),
        ("found", found.to_string()),
        ("max", max.to_string()),
        ("effect", "NONE".to_owned()),
    ];
    let mut details = with_info("QUOTA_EXCEEDED", &facts);
    details.add_quota_failure_violation(quota, message.clone());
    if after.is_some() {
        details.set_retry_info(after);
    }
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// What did nothing may be tried again soon, and says when.
fn fell_short(effect: Effect, reason: &str, message: String, facts: &[(&str, String)]) -> Status {
    let mut details = with_info(reason, facts);
    if effect == Effect::None {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code_of(effect), bounded(&message, MESSAGE_BYTES_MAX), details)
}

/// UNAVAILABLE is what clients repeat without asking: only for what certainly did nothing.
fn code_of(effect: Effect) -> Code {
    match effect {
        Effect::None => Code::Unavailable,
        Effect::Maybe => Code::DeadlineExceeded,
    }
}

fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "NONE",
        Effect::Maybe => "MAYBE",
    }
}

/// An operator's update was replaced by that of another, made elsewhere at the same time.
pub(super) fn overruled(name: &str) -> Status {
    let message = format!(
        "keyspace {name:?} was changed by another operator at the same time, and that change \
         stands: look at the keyspace, then update it with its etag"
    );
    status(Code::Aborted, "OVERRULED", message, &[("keyspace", name.to_owned())])
}

pub(super) fn change(failure: &ChangeFailure) -> Status {
    let message = failure.to_string();
    let ChangeFailure::Refused(error) = failure else {
        let facts = [("effect", "MAYBE".to_owned())];
        return status(Code::Unavailable, "NOT_PERSISTED", message, &facts);
    };
    match error {
        ChangeError::NoCluster => no_cluster(),
        ChangeError::Removed { ring_version } => removed(*ring_version, message),
        ChangeError::Access(error) => match error {
            AccessError::BadName(_) => bad_field("principal", "BAD_NAME", message),
            AccessError::NoOperator => {
                status(Code::FailedPrecondition, "NO_OPERATOR", message, &[])
            }
            AccessError::NotFound(_) => status(Code::NotFound, "NO_SUCH_GRANT", message, &[]),
            AccessError::TooMany(_) => {
                status(Code::FailedPrecondition, "TOO_MANY_GRANTS", message, &[])
            }
        },
        ChangeError::KeyspaceExists(name) => {
            status(Code::AlreadyExists, "KEYSPACE_EXISTS", message, &[("keyspace", name.clone())])
        }
        ChangeError::NoSuchKeyspace(name) => no_keyspace(name),
        ChangeError::EtagMismatch { found, expected, .. } => {
            let facts = [("found", found.clone()), ("expected", expected.clone())];
            status(Code::Aborted, "ETAG_MISMATCH", message, &facts)
        }
        ChangeError::BadName { .. } => bad_field("keyspace.name", "BAD_NAME", message),
        ChangeError::BadQuorums { .. } => bad_field("keyspace.n", "BAD_QUORUM", message),
        ChangeError::BadReadRepair { .. } => {
            bad_field("keyspace.read_repair_percent", "BAD_READ_REPAIR", message)
        }
        ChangeError::HistoryTooLong { .. } => {
            bad_field("keyspace.merging.history_ms", "BAD_HISTORY", message)
        }
        ChangeError::TooManyReplicas { n, replicas } => status(
            Code::FailedPrecondition,
            "TOO_MANY_REPLICAS",
            message,
            &[("n", n.to_string()), ("replicas_max", replicas.to_string())],
        ),
        ChangeError::TooFewOwners { n, owners } => status(
            Code::FailedPrecondition,
            "TOO_FEW_NODES",
            message,
            &[("n", n.to_string()), ("owners", owners.to_string())],
        ),
        ChangeError::ResizeTooWeak { .. } => bad_field("keyspace.n", "BAD_QUORUM", message),
        ChangeError::ResizeUnderWay { name, from, to } => status(
            Code::FailedPrecondition,
            "RESIZE_UNDER_WAY",
            message,
            &[("keyspace", name.clone()), ("from", from.to_string()), ("to", to.to_string())],
        ),
        ChangeError::ResizeAmongMoves { moves } => {
            let facts = [("moves", moves.to_string())];
            status(Code::FailedPrecondition, "RING_IS_CHANGING", message, &facts)
        }
        ChangeError::Ring(error) => super::ring::stage_refused(error),
        ChangeError::NoSuchModule(digest) => {
            status(Code::NotFound, "UNKNOWN_MODULE", message, &[("digest", digest.to_string())])
        }
        ChangeError::ModuleInUse { keyspace, .. } => {
            let facts = [("keyspace", keyspace.clone())];
            status(Code::FailedPrecondition, "MODULE_IN_USE", message, &facts)
        }
        ChangeError::NotSigned { keyspace, module, .. } => {
            let facts = [("keyspace", keyspace.clone()), ("digest", module.to_string())];
            status(Code::FailedPrecondition, "MODULE_NOT_SIGNED", message, &facts)
        }
        ChangeError::TooManySigners { .. } => {
            bad_field("keyspace.signed_by", "TOO_MANY_KEYS", message)
        }
        ChangeError::TooManySignatures { .. } => {
            status(Code::FailedPrecondition, "TOO_MANY_SIGNATURES", message, &[])
        }
        ChangeError::NothingToTryBeside(_) | ChangeError::TrialOfThePinned { .. } => {
            status(Code::FailedPrecondition, "NOTHING_TO_TRY", message, &[])
        }
        ChangeError::BadShare { .. } => bad_field("canary.percent", "BAD_SHARE", message),
        ChangeError::NoSuchTrial { .. } => status(Code::NotFound, "NO_TRIAL", message, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fits_into_a_clients_headers_whatever_it_repeats() {
        let name = "🛒".repeat(100_000);
        for status in [no_keyspace(&name), bad_field("keyspace.name", "BAD_NAME", name.clone())] {
            let response = status.into_http::<tonic::body::Body>();
            let headers = response.headers().iter();
            let bytes: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(bytes < 8 << 10, "{bytes} bytes");
        }
    }
}
