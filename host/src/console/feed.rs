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
use super::{Console, STREAMS_MAX, record};
use crate::conflicts::Conflict;
use crate::journal::{Cursor, Journal};
use crate::node::Node;
use crate::web::Lasting;

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

/// Who has a feed.
trait Feeds: Send + Sync + 'static {
    fn feed(&self) -> Option<&Journal<Conflict>>;
}

impl Feeds for Node {
    fn feed(&self) -> Option<&Journal<Conflict>> {
        self.conflicts.feed()
    }
}

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

fn events<F: Feeds>(
    (node, mut last): (Weak<F>, watch::Receiver<u64>),
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
async fn page<F: Feeds>(node: &Weak<F>, mut cursor: Cursor) -> Option<(Vec<Conflict>, Cursor)> {
    let node = node.upgrade()?;
    let read = tokio::task::spawn_blocking(move || {
        let read = node.feed()?.read(&mut cursor, READ_BYTES, |_| true);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;

    use super::*;

    impl Feeds for Journal<Conflict> {
        fn feed(&self) -> Option<&Journal<Conflict>> {
            Some(self)
        }
    }

    fn conflict(keyspace: &str, came: serde_json::Value) -> Conflict {
        let conflict = json!({
            "sequence": 0, "id": "1", "at_ms": 1, "keyspace": keyspace, "key": "YQ==",
            "cause": "read", "module": "m", "came": came, "siblings": [["a"], ["b"]],
            "bytes_in": 2, "bytes_out": 1, "fuel": 3, "micros": 4,
        });
        serde_json::from_value(conflict).expect("a conflict")
    }

    fn wanted(keyspace: &str, failures: bool) -> Wanted {
        Wanted { keyspace: keyspace.to_owned(), failures }
    }

    /// The first `count` events of a reader, as they are sent, without their data.
    async fn sent(
        feed: &Arc<Journal<Conflict>>,
        (seen, wanted): (Option<u64>, Wanted),
        count: usize,
    ) -> Vec<String> {
        let events = events((Arc::downgrade(feed), feed.watch()), seen, wanted);
        let events = events.take(count).map(Ok::<_, Infallible>);
        let body = Sse::new(events).into_response().into_body();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        let told = |line: &&str| !line.is_empty() && !line.starts_with("data: {");
        text.lines().filter(told).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_it_was_or_is_told_what_it_missed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Arc::new(Journal::open(("test", folder.path()), 1 << 24).expect("opened"));
        (0..3_000).for_each(|_| feed.append(&mut conflict("a", json!("value"))));
        let all = || wanted("", false);
        let begins = sent(&feed, (None, all()), 2).await;
        assert_eq!(begins, [": merges follow", "event: conflict", "id: 2901"]);
        let goes_on = sent(&feed, (Some(1_500), all()), 2).await;
        assert_eq!(goes_on[1..], ["event: conflict", "id: 1501"], "not too far behind");
        let lags = sent(&feed, (Some(10), all()), 3).await;
        assert_eq!(lags[1..], ["event: missed", "data: 2890", "event: conflict", "id: 2901"]);
    }

    #[tokio::test]
    async fn what_is_not_wanted_is_passed_over_and_remembered_as_seen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Arc::new(Journal::open(("test", folder.path()), 1 << 24).expect("opened"));
        for keyspace in ["a", "b", "a"] {
            feed.append(&mut conflict(keyspace, json!("value")));
            feed.append(&mut conflict(keyspace, json!({ "failed": "no" })));
        }
        let of_b = sent(&feed, (None, wanted("b", true)), 3).await;
        assert_eq!(of_b[1..], ["event: conflict", "id: 4", "id: 6"]);
        let none = sent(&feed, (Some(6), wanted("c", false)), 1);
        assert_eq!(none.await, [": merges follow"]);
    }

    #[tokio::test]
    async fn a_feed_ends_with_its_node() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Arc::new(Journal::open(("test", folder.path()), 1 << 24).expect("opened"));
        let mut events =
            Box::pin(events((Arc::downgrade(&feed), feed.watch()), None, wanted("", false)));
        assert!(events.next().await.is_some());
        drop(feed);
        assert!(events.next().await.is_none());
    }
}
