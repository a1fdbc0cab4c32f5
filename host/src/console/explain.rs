//! How the value of a key came to be: as `stator kv explain` tells it, by the same calls.
//!
//! It reads the key as a client does, so what it finds divergent is merged, and on record. Values are
//! told only if they are asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use stator_proto::v1;
use stator_proto::v1::kv_server::Kv;
use tonic::Request;
use tonic::service::Interceptor;

use super::Console;
use super::answer::{Answer, Refused, given};
use super::record::{self, VALUE_BYTES_MAX};
use crate::api::{KvService, Membership};
use crate::conflicts::Conflict;
use crate::journal::Cursor;
use crate::node::Node;

/// The most siblings that are told of.
const VERSIONS_MAX: usize = 100;
/// The most merges of a key that are told of, the last ones.
const CONFLICTS_MAX: usize = 50;
/// How much of the feed is passed over at a time, in bytes.
const PASSED_BYTES: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    keyspace: String,
    /// The key as text …
    #[serde(default)]
    key: String,
    /// … or as bytes.
    #[serde(default)]
    key_base64: String,
    #[serde(default)]
    values: bool,
}

impl Asked {
    fn key_bytes(&self) -> Result<Bytes, Refused> {
        if self.key_base64.is_empty() {
            return Ok(Bytes::copy_from_slice(self.key.as_bytes()));
        }
        STANDARD.decode(&self.key_base64).map(Bytes::from).map_err(|error| {
            let message = format!("key_base64 is no base64: {error}");
            Refused::new(StatusCode::BAD_REQUEST, "BAD_KEY", message)
        })
    }
}

pub(super) async fn explain(State(console): State<Console>, Query(asked): Query<Asked>) -> Answer {
    let node = console.node()?;
    let key = asked.key_bytes()?;
    Membership::new(node.clone()).call(Request::new(()))?;
    let kv = KvService::new(node.clone());
    let view = if asked.values { v1::View::Siblings } else { v1::View::Metadata };
    let get = |view: v1::View| {
        Request::new(v1::GetRequest {
            keyspace: asked.keyspace.clone(),
            key: key.clone(),
            view: view.into(),
            ..Default::default()
        })
    };
    let stored = kv.get(get(view)).await?.into_inner();
    let read = kv.get(get(v1::View::Merged)).await?.into_inner();
    let conflicts = on_record(node.clone(), asked.keyspace.clone(), key.to_vec()).await;
    let all = |versions: &[v1::Version]| -> Vec<Value> {
        let shown = versions.iter().take(VERSIONS_MAX);
        shown.map(|version| version_json(version, asked.values)).collect()
    };
    Ok(Json(json!({
        "node": node.id.to_string(),
        "keyspace": asked.keyspace,
        "key": record::key(&key),
        "place": place(&node, &asked.keyspace, &key),
        "answered": stored.answered,
        "stored_count": stored.versions.len(),
        "stored": all(&stored.versions),
        "read": all(&read.versions),
        "merge": read.merge.as_ref().map(|merge| json!({
            "module_digest": given(&merge.module_digest),
            "sibling_count": merge.sibling_count,
            "merged": merge.merged,
            "failure": given(&merge.failure),
            "note": given(&merge.note),
        })),
        "conflicts": conflicts.iter().map(record::conflict).collect::<Vec<_>>(),
    })))
}

/// The key's partition and its owners, in the order of preference.
fn place(node: &Node, keyspace: &str, key: &[u8]) -> Option<Value> {
    let catalogue = node.catalogue()?;
    let keyspace = catalogue.keyspace(keyspace)?;
    let partition = catalogue.ring.partition(keyspace.id, key);
    let owners = catalogue.ring.owners(partition).take(keyspace.reading().n as usize);
    let owners: Vec<String> = owners.map(|owner| owner.to_string()).collect();
    Some(json!({ "partition": partition.0, "owners": owners }))
}

fn version_json(version: &v1::Version, with_value: bool) -> Value {
    let made_by = match version.origin.as_ref().and_then(|origin| origin.maker.as_ref()) {
        Some(v1::origin::Maker::Merge(merge)) => json!({
            "module_digest": given(&merge.module_digest),
            "input_dots": merge.input_dots,
        }),
        _ => "client".into(),
    };
    let value = version.value.as_ref().filter(|_| with_value);
    json!({
        "dots": version.dots,
        "written_at_ms": version.written_at_ms,
        "expires_at_ms": version.expires_at_ms,
        "tombstone": version.tombstone,
        "value_bytes": version.value_bytes,
        "schema": version.schema,
        "labels": version.labels,
        "made_by": made_by,
        "value": value.map(|value| record::shown(value, VALUE_BYTES_MAX)),
    })
}

/// The last merges of the key that this node has on record, the oldest first; what cannot be read
/// is missing.
async fn on_record(node: Arc<Node>, keyspace: String, key: Vec<u8>) -> VecDeque<Conflict> {
    let mark = format!("\"key\":\"{}\"", STANDARD.encode(&key)).into_bytes();
    let search = move || {
        let mut found = VecDeque::new();
        let Some(feed) = node.conflicts.feed() else { return found };
        let mut cursor = Cursor::default();
        loop {
            let before = cursor.after;
            let may_be = |line: &[u8]| memchr::memmem::find(line, &mark).is_some();
            let Ok(read) = feed.read(&mut cursor, PASSED_BYTES, may_be) else { return found };
            let is_of_it = |one: &Conflict| one.keyspace == keyspace && one.key == key;
            found.extend(read.into_iter().filter(is_of_it));
            found.drain(..found.len().saturating_sub(CONFLICTS_MAX));
            if cursor.after == before {
                return found;
            }
        }
    };
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}
