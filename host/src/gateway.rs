//! The gateway: keys by plain HTTP, for `curl` and a quick look.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/KEYSPACE/KEY` | the value as it is; 300 and a JSON list where there are siblings; 404 |
//! | `PUT /v1/KEYSPACE/KEY` | writes the body; `?replace` in the place of what is there |
//! | `DELETE /v1/KEYSPACE/KEY` | deletes what is there, or what the context has seen |
//! | `GET /v1/KEYSPACE?prefix=P&limit=N` | keys, as a JSON list of at most 1,000 |
//!
//! The causal context is in the header `x-stator-context`, in base64, of answers and of the puts and
//! deletes that replace what was read. Every request becomes one of [`stator_proto::v1::kv_client`], in this
//! process and through the same guard as on the listener for clients: who may do what, limits and errors
//! are the same, and `authorization: Bearer TOKEN` is handed on.
//!
//! Off unless `http_listen` is set; its certificates are those of the console (`[tls.console]`). Scripts in
//! pages of browsers are refused, of this site too: whoever can point a name here could have some. Left
//! out: everything else of the interface. It is no client library, and one connection is one request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use stator_proto::v1;
use stator_proto::v1::kv_client::KvClient;
use tonic::service::Routes;
use tonic::{Request, Status};
use tower::Layer;

use crate::api::{Guard, Guarded};
use crate::console::Refused;

/// The largest body: what the listener for clients takes is less or says so itself.
const BODY_BYTES_MAX: usize = 64 << 20;
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The most keys of a list.
const KEYS_MAX: u64 = 1_000;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
static CONTEXT: HeaderName = HeaderName::from_static("x-stator-context");

type Kv = KvClient<Guarded<Routes>>;
type Answer = Result<Response, Refused>;

/// What serves the gateway by these services of clients.
pub fn router(guard: &Guard, routes: Routes) -> Router {
    let kv = KvClient::new(guard.layer(routes)).max_decoding_message_size(ANSWER_BYTES_MAX);
    Router::new()
        .route("/v1/{keyspace}", get(list))
        .route("/v1/{keyspace}/{*key}", get(read).put(write).delete(remove))
        .fallback(async || {
            let message = "there is nothing here; keys are at /v1/KEYSPACE/KEY";
            Refused::new(StatusCode::NOT_FOUND, "NO_SUCH_PAGE", message)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(no_scripts))
        .with_state(Arc::new(kv))
}

/// Refuses what a page's script asks, as browsers tell it.
async fn no_scripts(request: axum::extract::Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    if site.is_some_and(|site| site.as_bytes() != b"none") {
        let message = "the gateway is for programs, not for pages; nothing was done";
        return Refused::new(StatusCode::FORBIDDEN, "OTHER_SITE", message).into_response();
    }
    next.run(request).await
}

/// A message as the caller's.
fn from<T>(headers: &HeaderMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(shown) = shown.and_then(|text| text.parse().ok()) {
        request.metadata_mut().insert("authorization", shown);
    }
    request
}

/// The contexts that a request gives.
fn contexts(headers: &HeaderMap) -> Result<Vec<Body>, Refused> {
    let decoded = headers.get_all(&CONTEXT).iter().map(|value| STANDARD.decode(value));
    let decoded = decoded.map(|context| context.map(Body::from)).collect::<Result<_, _>>();
    decoded.map_err(|_| {
        let message = "x-stator-context is base64, as an answer gave it; nothing was done";
        Refused::new(StatusCode::BAD_REQUEST, "CONTEXT_FORGED", message)
    })
}

fn with_context(context: Option<&Body>) -> HeaderMap {
    let value = context.and_then(|context| STANDARD.encode(context).parse().ok());
    value.map(|value| (CONTEXT.clone(), value)).into_iter().collect()
}

fn refused(status: Status) -> Refused {
    status.into()
}

async fn read(
    State(kv): State<Arc<Kv>>,
    Path((keyspace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let request = v1::GetRequest { keyspace, key: key.into(), ..Default::default() };
    let mut kv = Kv::clone(&kv);
    let found = kv.get(from(&headers, request)).await.map_err(refused)?.into_inner();
    let context = with_context(found.context.as_ref());
    let values: Vec<_> = found.versions.iter().filter(|version| !version.tombstone).collect();
    Ok(match values[..] {
        [] => {
            (StatusCode::NOT_FOUND, context, Json(json!({ "reason": "NO_VALUE" }))).into_response()
        }
        [version] if found.versions.len() == 1 => {
            (context, version.value.clone().unwrap_or_default()).into_response()
        }
        _ => {
            let all: Vec<_> = found.versions.iter().map(version_json).collect();
            (StatusCode::MULTIPLE_CHOICES, context, Json(json!({ "siblings": all })))
                .into_response()
        }
    })
}

fn version_json(version: &v1::Version) -> Value {
    let text = version.value.as_ref().and_then(|value| std::str::from_utf8(value).ok());
    json!({
        "value": text,
        "value_base64": version.value.as_ref().map(|value| STANDARD.encode(value)),
        "deleted": version.tombstone,
        "dots": version.dots,
        "written_at_ms": version.written_at_ms,
    })
}

#[derive(Debug, Deserialize)]
struct Terms {
    /// In the place of what is there; any value but "false" is yes.
    replace: Option<String>,
}

async fn write(
    State(kv): State<Arc<Kv>>,
    Path((keyspace, key)): Path<(String, String)>,
    Query(terms): Query<Terms>,
    headers: HeaderMap,
    value: Body,
) -> Answer {
    let mut kv = Kv::clone(&kv);
    let mut contexts = contexts(&headers)?;
    if terms.replace.is_some_and(|replace| replace != "false") {
        let get = v1::GetRequest {
            keyspace: keyspace.clone(),
            key: key.clone().into(),
            view: v1::View::Metadata.into(),
            ..Default::default()
        };
        let found = kv.get(from(&headers, get)).await.map_err(refused)?.into_inner();
        contexts.extend(found.context);
    }
    let put = v1::PutRequest { keyspace, key: key.into(), value, contexts, ..Default::default() };
    let put = kv.put(from(&headers, put)).await.map_err(refused)?.into_inner();
    let document = json!({
        "dot": put.dot, "siblings_remain": put.siblings_remain, "acked": put.acked,
    });
    Ok((with_context(put.context.as_ref()), Json(document)).into_response())
}

async fn remove(
    State(kv): State<Arc<Kv>>,
    Path((keyspace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let contexts = contexts(&headers)?;
    let observed = contexts.is_empty();
    let delete =
        v1::DeleteRequest { keyspace, key: key.into(), contexts, observed, ..Default::default() };
    let mut kv = Kv::clone(&kv);
    let deleted = kv.delete(from(&headers, delete)).await.map_err(refused)?.into_inner();
    let document = json!({
        "dot": deleted.dot, "siblings_remain": deleted.siblings_remain, "acked": deleted.acked,
    });
    Ok((with_context(deleted.context.as_ref()), Json(document)).into_response())
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    prefix: String,
    limit: Option<u64>,
    #[serde(default)]
    page_token: String,
}

async fn list(
    State(kv): State<Arc<Kv>>,
    Path(keyspace): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer {
    let limit = wanted.limit.unwrap_or(KEYS_MAX).clamp(1, KEYS_MAX);
    let (prefix, page_token) = (wanted.prefix.into(), wanted.page_token);
    let request = v1::ListRequest { keyspace, prefix, limit, page_token, ..Default::default() };
    let mut kv = Kv::clone(&kv);
    let mut pages = kv.list(from(&headers, request)).await.map_err(refused)?.into_inner();
    let (mut keys, mut next) = (Vec::new(), String::new());
    while let Some(page) = pages.message().await.map_err(refused)? {
        keys.extend(page.keys.iter().map(|key| match std::str::from_utf8(&key.key) {
            Ok(text) => json!({ "key": text }),
            Err(_) => json!({ "key_base64": STANDARD.encode(&key.key) }),
        }));
        next = page.page_token;
    }
    let next = Some(next).filter(|next| !next.is_empty());
    Ok(Json(json!({ "keys": keys, "page_token": next })).into_response())
}
