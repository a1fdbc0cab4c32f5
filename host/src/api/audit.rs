//! The audit log: who called what of the admin service that changes something, and how it ended.
//!
//! It is a [journal](crate::journal) of the node that was called, on its disk. What was asked for in
//! detail is in the node's log, under the same request id.

use std::sync::Arc;

use stator_proto::v1;
use tonic::Code;
use tonic::codegen::http::Request;

use super::journals::Listed;
use super::{errors, journals};
use crate::journal::Journal;
use crate::listen::Peer;
use crate::node::Node;
use crate::node::audit::Call;

/// The audit log of a node.
#[derive(Clone)]
pub struct Audit(Arc<Node>);

impl Audit {
    /// That of `node`, if it keeps one.
    pub(super) fn of(node: &Arc<Node>) -> Option<Self> {
        journal(node).map(|_| Audit(node.clone()))
    }

    /// A call begins.
    pub(super) fn begin<B>(self, request: &Request<B>) -> Noted {
        let text = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(|text| text.chars().take(64).collect()).unwrap_or_default()
        };
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let peer = request.extensions().get::<Peer>();
        let address = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
        Noted { audit: self, method, address, request_id: text("x-request-id") }
    }
}

fn journal(node: &Node) -> Option<&Journal<Call>> {
    node.audit.as_ref()
}

/// A call that is under way.
pub(super) struct Noted {
    audit: Audit,
    method: String,
    address: String,
    request_id: String,
}

impl Noted {
    pub(super) fn end(self, principal: Option<String>, code: Code) {
        let Noted { audit: Audit(node), method, address, request_id } = self;
        let (at_ms, code) = (node.clock.now().wall_ms, format!("{code:?}"));
        let who = principal.as_deref().unwrap_or("-");
        tracing::info!(target: "audit", who, method, code, address, request_id, "admin call");
        let mut call = Call { number: 0, at_ms, principal, address, method, code, request_id };
        if let Some(journal) = journal(&node) {
            journal.append(&mut call);
        }
    }
}

/// What the node has of it.
pub(super) fn list(
    node: &Arc<Node>,
    _: &v1::ListAuditRequest,
) -> Result<Listed<v1::AuditEntry>, tonic::Status> {
    if journal(node).is_none() {
        return Err(journals::off("audit log", "limits.audit_bytes_max"));
    }
    node.catalogue().ok_or_else(errors::no_cluster)?;
    let message = |_: &Node, call: Call| {
        Some(v1::AuditEntry {
            number: call.number,
            at_ms: call.at_ms,
            principal: call.principal.unwrap_or_default(),
            address: call.address,
            method: call.method,
            code: call.code,
            request_id: call.request_id,
        })
    };
    Ok(journals::listed(node, (journal, journals::Marks::default()), message))
}
