//! Changes of the ring: what is asked for, what is planned, what became of it.

use stator_core::catalogue::StageError;
use tonic::{Code, Status};

use super::errors;

/// A change that does not fit. Nothing was changed.
pub(super) fn stage_refused(error: &StageError) -> Status {
    let message = error.to_string();
    let failed = |reason: &str, facts: &[(&str, String)]| {
        errors::status(Code::FailedPrecondition, reason, message.clone(), facts)
    };
    match error {
        StageError::NoMember(node) => {
            let facts = [("node_id", node.to_string())];
            errors::status(Code::NotFound, "UNKNOWN_MEMBER", message, &facts)
        }
        StageError::Removed { node, ring_version } => failed(
            "NODE_REMOVED",
            &[("node_id", node.to_string()), ("ring_version", ring_version.to_string())],
        ),
        StageError::AddressTaken { owner, node, .. } => {
            failed("ADDRESS_TAKEN", &[("node_id", node.to_string()), ("member", owner.to_string())])
        }
        StageError::HasSeat(node) => failed("HAS_SEAT", &[("node_id", node.to_string())]),
        StageError::NoSeat(node) => failed("NO_SEAT", &[("node_id", node.to_string())]),
        StageError::IsLeaving(node) => failed("IS_LEAVING", &[("node_id", node.to_string())]),
        StageError::StagedAlready(node) => {
            failed("STAGED_ALREADY", &[("node_id", node.to_string())])
        }
        StageError::StillOwns(node) => failed("STILL_OWNS", &[("node_id", node.to_string())]),
        StageError::NobodyLeft => failed("NOBODY_LEFT", &[]),
        StageError::NothingStaged => failed("NOTHING_STAGED", &[]),
        StageError::NeedsReplicas { name, n } => {
            failed("NEEDS_REPLICAS", &[("keyspace", name.clone()), ("n", n.to_string())])
        }
        StageError::OutOfRange { .. } => errors::bad_field("change", "OUT_OF_RANGE", message),
    }
}
