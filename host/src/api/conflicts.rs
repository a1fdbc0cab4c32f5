//! The conflict feed and the dead letters of a node, as messages.

use std::sync::Arc;
use std::time::Duration;

use stator_core::request::RequestError;
use stator_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Status};

use super::errors;
use super::journals::{self, Listed, Marks, Of, off};
use super::limits::timeout_ms;
use crate::conflicts::{Came, Comparison, Conflict, Letter};
use crate::journal::Cursor;
use crate::node::Node;

/// Where a client says how long it waits.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How long a burst of merges is waited for, so that it is read at once.
const GATHER: Duration = Duration::from_millis(20);

/// The feed, until the client's deadline if it has one.
pub(super) fn tail(
    node: &Arc<Node>,
    request: Request<v1::TailConflictsRequest>,
) -> Result<Listed<v1::Conflict>, Status> {
    let has_deadline = request.metadata().contains_key(GRPC_TIMEOUT);
    let waits = has_deadline.then(|| timeout_ms(request.metadata(), 0));
    let deadline = waits.map(|ms| Instant::now() + Duration::from_millis(ms));
    let request = request.into_inner();
    let of: Of<Conflict> = |node| node.conflicts.feed();
    let Some(mut last) = of(node).map(|feed| feed.watch()) else {
        return Err(off("conflict feed", "limits.conflicts_bytes_max"));
    };
    let after = if request.from_now { *last.borrow() } else { request.after };
    let (node, me) = (node.clone(), node.id.to_string());
    let marks = Marks::of(&request.keyspace, &request.key);
    let mut cursor = Cursor::after(after);
    Ok(Box::pin(async_stream::try_stream! {
        loop {
            last.mark_unchanged();
            let before = cursor.after;
            let read;
            (cursor, read) = journals::page(&node, of, cursor, marks.clone()).await?;
            // What the disk refused has a number and is nowhere: nothing more comes of it.
            let is_end = cursor.after == before || cursor.after >= *last.borrow();
            for conflict in read.into_iter().filter(|conflict| is_wanted(&request, conflict)) {
                yield message(conflict, &me);
            }
            if is_end && request.no_wait {
                break;
            }
            if is_end {
                if !is_more(&mut last, deadline).await? {
                    break;
                }
                tokio::time::sleep(GATHER).await;
            }
        }
    }))
}

/// Waits for the next record; false if there will be none.
///
/// # Errors
/// The client's deadline came first.
async fn is_more(
    last: &mut watch::Receiver<u64>,
    deadline: Option<Instant>,
) -> Result<bool, Status> {
    let changed = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, last.changed()).await,
        None => Ok(last.changed().await),
    };
    changed.map(|changed| changed.is_ok()).map_err(|_| errors::request(&RequestError::Expired))
}

fn is_wanted(request: &v1::TailConflictsRequest, conflict: &Conflict) -> bool {
    (request.keyspace.is_empty() || request.keyspace == conflict.keyspace)
        && (request.key.is_empty() || request.key == conflict.key)
        && (!request.only_failures || conflict.is_failure())
}

pub(super) fn letters(node: &Node, keyspace: &str) -> v1::ListDeadLettersResponse {
    let me = node.id.to_string();
    let letter = |letter: Letter| v1::DeadLetter {
        last: Some(message(letter.last, &me)),
        since_ms: letter.since_ms,
        failures: letter.failures,
    };
    let letters = node.conflicts.letters(keyspace).into_iter().map(letter).collect();
    v1::ListDeadLettersResponse { letters }
}

fn message(conflict: Conflict, node: &str) -> v1::Conflict {
    let (came, failure) = match conflict.came {
        Came::Value => ("value", String::new()),
        Came::Delete => ("delete", String::new()),
        Came::KeptSiblings => ("kept-siblings", String::new()),
        Came::Failed(why) => ("failed", why),
    };
    let comparison = match conflict.comparison {
        None | Some(Comparison::Same) => "",
        Some(Comparison::Differs) => "differs",
        Some(Comparison::CandidateFailed) => "candidate-failed",
        Some(Comparison::PinnedFailed) => "pinned-failed",
    };
    let events = conflict.events.into_iter();
    v1::Conflict {
        sequence: conflict.sequence,
        id: conflict.id,
        at_ms: conflict.at_ms,
        keyspace: conflict.keyspace,
        key: conflict.key.into(),
        cause: conflict.cause.word().to_owned(),
        module_digest: conflict.module,
        came: came.to_owned(),
        failure,
        siblings: conflict.siblings.into_iter().map(|dots| v1::Dots { dots }).collect(),
        bytes_in: conflict.bytes_in,
        bytes_out: conflict.bytes_out,
        fuel: conflict.fuel,
        micros: conflict.micros,
        note: conflict.note,
        events: events
            .map(|event| v1::MergeEvent { topic: event.topic, payload: event.payload.into() })
            .collect(),
        comparison: comparison.to_owned(),
        node_id: node.to_owned(),
    }
}
