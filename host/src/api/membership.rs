//! The door of the services for clients: a node that was removed from its cluster answers nobody.

use std::sync::Arc;

use stator_core::request::RequestError;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::errors;
use crate::node::Node;

/// Lets calls pass while the node is no former member.
#[derive(Clone)]
pub struct Membership(Arc<Node>);

impl Membership {
    /// Of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        Membership(node)
    }
}

impl Interceptor for Membership {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match self.0.removed_with() {
            None => Ok(request),
            Some(ring_version) => Err(errors::request(&RequestError::Removed { ring_version })),
        }
    }
}
