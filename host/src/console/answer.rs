//! Answers of `/api/…`: JSON, or why there is none.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::Console;
use crate::node::Node;

pub(super) type Answer = Result<Json<Value>, Refused>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    reason: String,
    message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Refused { status, reason: reason.to_owned(), message: message.into() }
    }

    /// The node does not keep what is asked for.
    pub(super) fn off(what: &str, setting: &str) -> Self {
        let message = format!("this node keeps no {what}: {setting} is 0");
        Refused::new(StatusCode::CONFLICT, "JOURNAL_OFF", message)
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        Refused::new(code, reason, status.message())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "reason": self.reason, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl Console {
    /// The node, unless it has stopped.
    pub(super) fn node(&self) -> Result<Arc<Node>, Refused> {
        self.node.upgrade().ok_or_else(|| {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "STOPPING", "the node is stopping")
        })
    }
}

pub(super) async fn unknown() -> Refused {
    let message = "there is nothing here; the console is at /";
    Refused::new(StatusCode::NOT_FOUND, "NO_SUCH_PAGE", message)
}

/// A name of a protobuf enum as people write it: `NODE_STATE_SERVING` without its prefix.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

/// `None` for a text that is empty where nothing is meant.
pub(super) fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
