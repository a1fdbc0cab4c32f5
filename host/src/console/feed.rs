//! The conflict feed of this node, live, and its dead letters.
//!
//! A reader takes merges from the journal at its own speed, so none waits in memory for it. One that
//! is more than [`LAG_MAX`] behind goes on with the latest, and is told how many it missed; so is one
//! that finds a gap, where the journal has let go of the oldest.

use std::convert::Infallible;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::Stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Refused};
use super::{Console, Lasting, STREAMS_MAX, record};
use crate::conflicts::Conflict;
use crate::journal::Cursor;
use crate::node::Node;

/// How long a live feed goes on. Browsers ask for it anew, from where they were.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// How many merges that were before it a reader begins with.
const BACKLOG: u64 = 100;
/// How many merges a reader may be behind.
const LAG_MAX: u64 = 2_000;
/// How much of the journal is read at a time, in bytes.
const READ_BYTES: u64 = 64 << 10;
/// How long a burst of merges is waited for, so that it is read at once.
const GATHER: Duration = Duration::from_millis(50);
/// The most dead letters that are listed.
const LETTERS_SHOWN_MAX: usize = 500;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    keyspace: String,
    /// Only merges that failed.
    #[serde(default)]
    failures: bool,
}

impl Wanted {
    fn is_met(&self, conflict: &Conflict) -> bool {
        (self.keyspace.is_empty() || self.keyspace == conflict.keyspace)
            && (!self.failures || conflict.is_failure())
    }
}

/// Merges as server-sent events: `conflict`, with its number as id, and `missed`, with a count.
pub(super) async fn conflicts(
    State(console): State<Console>,
    lasting: Option<Extension<Lasting>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refused> {
    let node = console.node()?;
    let Some(last) = node.conflicts.feed().map(|feed| feed.watch()) else {
        return Err(Refused::off("conflict feed", "limits.conflicts_bytes_max"));
    };
    let place = console.streams.clone().try_acquire_owned().map_err(|_| {
        let message = format!("all {STREAMS_MAX} places for live feeds are taken: close a page");
        Refused::new(StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", message)
    })?;
    let newest = *last.borrow();
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    // A number that was never given is of another data directory.
    let seen = seen.filter(|seen| *seen <= newest);
    let events = events((console.node, last), seen, wanted);
    let events = async_stream::stream! {
        for await event in events {
            yield Ok::<_, Infallible>(event);
        }
        drop(place);
    };
    if let Some(Extension(lasting)) = lasting {
        lasting.0.store(true, Ordering::Relaxed);
    }
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn events(
    (node, mut last): (Weak<Node>, watch::Receiver<u64>),
    seen: Option<u64>,
    wanted: Wanted,
) -> impl Stream<Item = Event> {
    let newest = *last.borrow();
    // Of a reader that begins nothing is missed.
    let (mut next, mut cursor) = match seen {
        Some(seen) => (Some(seen + 1), Cursor::after(seen)),
        None => (None, Cursor::after(newest.saturating_sub(BACKLOG))),
    };
    let until = Instant::now() + LIFE;
    async_stream::stream! {
        // Browsers tell their page that the feed is open when the first bytes are there.
        yield Event::default().comment("merges follow");
        while Instant::now() < until {
            last.mark_unchanged();
            let newest = *last.borrow();
            if newest.saturating_sub(cursor.after) > LAG_MAX {
                cursor = Cursor::after(newest - BACKLOG);
            }
            let before = cursor.after;
            let Some((read, now)) = page(&node, cursor).await else { break };
            cursor = now;
            let mut told = before;
            for conflict in read {
                let missed = conflict.sequence.saturating_sub(next.unwrap_or(conflict.sequence));
                next = Some(conflict.sequence + 1);
                if missed > 0 {
                    yield Event::default().event("missed").data(missed.to_string());
                }
                if wanted.is_met(&conflict) {
                    told = conflict.sequence;
                    let number = told.to_string();
                    let data = record::conflict(&conflict).to_string();
                    yield Event::default().event("conflict").id(number).data(data);
                }
            }
            if told < cursor.after {
                // What was passed over is not looked at again by who comes back.
                yield Event::default().id(cursor.after.to_string());
            }
            if cursor.after == before || cursor.after >= *last.borrow() {
                if !matches!(timeout_at(until, last.changed()).await, Ok(Ok(()))) {
                    break;
                }
                tokio::time::sleep(GATHER).await;
            }
        }
    }
}

/// The next merges; none if the node or its disk is gone.
async fn page(node: &Weak<Node>, mut cursor: Cursor) -> Option<(Vec<Conflict>, Cursor)> {
    let node = node.upgrade()?;
    let read = tokio::task::spawn_blocking(move || {
        let read = node.conflicts.feed()?.read(&mut cursor, READ_BYTES, |_| true);
        read.inspect_err(|error| tracing::warn!(%error, "the console cannot read the feed"))
            .ok()
            .map(|read| (read, cursor))
    });
    read.await.ok().flatten()
}

#[derive(Debug, Deserialize)]
pub(super) struct OfKeyspace {
    #[serde(default)]
    keyspace: String,
}

/// The keys that this node could not merge, those that failed last first.
pub(super) async fn letters(
    State(console): State<Console>,
    Query(of): Query<OfKeyspace>,
) -> Answer {
    let node = console.node()?;
    if node.conflicts.feed().is_none() {
        return Err(Refused::off("dead letters", "limits.conflicts_bytes_max"));
    }
    let mut letters = node.conflicts.letters(&of.keyspace);
    letters.sort_by_key(|letter| std::cmp::Reverse(letter.last.at_ms));
    let shown = letters.iter().take(LETTERS_SHOWN_MAX).map(|letter| {
        json!({
            "last": record::conflict(&letter.last),
            "since_ms": letter.since_ms,
            "failures": letter.failures,
        })
    });
    Ok(Json(json!({ "count": letters.len(), "letters": shown.collect::<Vec<_>>() })))
}
