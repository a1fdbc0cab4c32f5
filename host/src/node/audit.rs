//! The audit log: calls of the admin service that change something, in a journal of the node.

use serde::{Deserialize, Serialize};

use crate::journal::Entry;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its number in this node's log, from 1.
    pub number: u64,
    /// When it ended: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Who called; none where the cluster was open to all, or who it was is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// From which address.
    pub address: String,
    /// The method.
    pub method: String,
    /// The gRPC code that it ended with.
    pub code: String,
    /// The client's name for the request, if it gave one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

impl Entry for Call {
    fn number_mut(&mut self) -> &mut u64 {
        &mut self.number
    }
}
