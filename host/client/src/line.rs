//! A connection to a node, with what its requests bear: a token, and the trace that they are a part of.

use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::{AUTHORIZATION, HeaderValue};
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;

use crate::options::Traceparent;

/// A channel whose requests may bear something.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    bears: Bears,
}

/// What requests bear.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bears {
    pub(crate) token: Option<HeaderValue>,
    /// Asked for each request anew.
    pub(crate) trace: Option<Traceparent>,
}

impl Line {
    pub(crate) fn new(channel: Channel) -> Self {
        Line { channel, bears: Bears::default() }
    }

    /// The same with requests that bear this.
    pub(crate) fn bearing(self, bears: Bears) -> Self {
        Line { bears, ..self }
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
        if let Some(token) = &self.bears.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let trace = self.bears.trace.as_ref().and_then(Traceparent::now);
        // What is no header is no trace.
        if let Some(trace) = trace.and_then(|trace| HeaderValue::try_from(trace).ok()) {
            request.headers_mut().insert("traceparent", trace);
        }
        Service::call(&mut self.channel, request)
    }
}
