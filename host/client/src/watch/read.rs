//! What a key is now of which a member told that it was changed.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use stator_core::causality::VersionVector;
use stator_core::id::{Dot, ParseDotError};
use stator_proto::v1;

use super::Watching;
use crate::client::Client;
use crate::error::Error;

/// Gets at a time.
const GETS_MAX: usize = 32;
/// Dots that a get takes.
const DOTS_MAX: usize = 1_000;

/// A key that `node` told to be changed.
pub(super) struct Ask {
    pub(super) node: String,
    pub(super) change: v1::WatchedKey,
    /// What it had seen there.
    pub(super) told: VersionVector,
    /// What the state had seen that was told last.
    pub(super) known: VersionVector,
}

/// What a get of it gave.
pub(super) struct Got {
    pub(super) node: String,
    pub(super) change: v1::WatchedKey,
    pub(super) told: VersionVector,
    pub(super) answer: Result<v1::GetResponse, Error>,
}

pub(super) type Gets = Pin<Box<dyn Stream<Item = Got> + Send>>;

/// Gets of all that, side by side.
pub(super) fn gets(client: &Client, watching: &Arc<Watching>, asks: Vec<Ask>) -> Gets {
    let (client, watching) = (client.clone(), watching.clone());
    let gets = asks.into_iter().map(move |Ask { node, change, told, known }| {
        let (client, watching) = (client.clone(), watching.clone());
        async move {
            let answer = read(&client, &watching, &change.key, (&told, &known)).await;
            Got { node, change, told, answer }
        }
    });
    Box::pin(futures::stream::iter(gets).buffer_unordered(GETS_MAX))
}

/// What the key is, with all that a member has `seen` and, if any owner still knows of it, what was
/// told before.
pub(super) async fn read(
    client: &Client,
    watching: &Watching,
    key: &Bytes,
    (seen, known): (&VersionVector, &VersionVector),
) -> Result<v1::GetResponse, Error> {
    let get = async |at_least: &VersionVector| {
        let request = v1::GetRequest {
            keyspace: watching.keyspace.clone(),
            key: key.clone(),
            view: watching.view().into(),
            at_least: at_least.iter().take(DOTS_MAX).map(|dot| dot.to_string()).collect(),
            tell_seen: true,
            ..Default::default()
        };
        client.send_get(request).await
    };
    if !seen.covers(known) {
        let mut both = seen.clone();
        both.join(known);
        match get(&both).await {
            // Deletes that were told may be forgotten since.
            Err(error) if error.reason() == "SESSION_BEHIND" => {}
            answer => return answer,
        }
    }
    get(seen).await
}

/// What dots say to be seen.
pub(super) fn vector(dots: &[String]) -> Result<VersionVector, Error> {
    let dots = dots.iter().map(|dot| dot.parse::<Dot>());
    let read: Result<VersionVector, ParseDotError> = dots.collect();
    read.map_err(|error| tonic::Status::internal(error.to_string()).into())
}
