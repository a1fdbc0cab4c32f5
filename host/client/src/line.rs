//! A connection to a node, with the token that its requests bear.

use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::{AUTHORIZATION, HeaderValue};
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;

/// A channel whose requests may bear a token.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    bearer: Option<HeaderValue>,
}

impl Line {
    pub(crate) fn new(channel: Channel) -> Self {
        Line { channel, bearer: None }
    }

    /// The same with requests that bear this.
    pub(crate) fn bearing(self, bearer: Option<HeaderValue>) -> Self {
        Line { bearer, ..self }
    }
}

/// A token as a header; `None` if it is none, which is refused like a wrong one.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
    // Not in debug output.
    value.set_sensitive(true);
    Some(value)
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        Service::call(&mut self.channel, request)
    }
}
