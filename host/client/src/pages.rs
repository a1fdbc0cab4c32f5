//! Listings and exports: long streams that go on by themselves where one breaks off.
//!
//! A node that stops, or a connection that breaks, ends a stream in the middle. The last page's token
//! tells where it was; the next stream begins there, on another node if there is one. What comes is
//! handed on once: a part of an object that is not complete is forgotten and comes again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use stator_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::error::Error;
use crate::line::Line;
use crate::nodes::Nodes;
use crate::retry::{Safety, is_worth_it, pause};

/// How often in a row a stream may fail without a page in between.
const FAILURES_MAX: u32 = 30;
/// How long a stream may be silent. A page takes its owners five seconds at most.
const SILENCE_MAX: Duration = Duration::from_secs(30);

type Opened<A> = Pin<Box<dyn Future<Output = Result<Response<Streaming<A>>, Status>> + Send>>;

/// How a stream is opened, on a node and behind a token.
type Open<A> = Box<dyn Fn(Line, String) -> Opened<A> + Send + Sync>;

/// A stream of pages that is opened anew where it breaks off.
struct Resumed<A> {
    nodes: Arc<Nodes>,
    open: Open<A>,
    stream: Option<Streaming<A>>,
    token: String,
    failures: u32,
}

impl<A: 'static> Resumed<A> {
    fn new(nodes: Arc<Nodes>, token: String, open: Open<A>) -> Self {
        Resumed { nodes, open, stream: None, token, failures: 0 }
    }

    async fn message(&mut self) -> Result<Option<A>, Error> {
        if self.stream.is_none() {
            let channel = self.nodes.channel();
            let opened = (self.open)(channel, self.token.clone()).await.map_err(Error::from)?;
            self.stream = Some(opened.into_inner());
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
            Ok(message) => Ok(message?),
            Err(_) => Err(Status::unavailable("the stream of pages is silent").into()),
        }
    }

    /// The next message; whether the stream was opened anew before it.
    async fn next(&mut self) -> Result<(Option<A>, bool), Error> {
        let mut is_anew = false;
        loop {
            let error = match self.message().await {
                Ok(message) => return Ok((message, is_anew)),
                Err(error) => error,
            };
            self.failures += 1;
            if self.failures > FAILURES_MAX || !is_worth_it(&error, Safety::Repeatable) {
                return Err(error);
            }
            (self.stream, is_anew) = (None, true);
            self.nodes.turn();
            tokio::time::sleep(pause(self.failures, error.retry_after(), u32::MAX)).await;
        }
    }

    fn came_to(&mut self, token: &str) {
        token.clone_into(&mut self.token);
        self.failures = 0;
    }
}

/// The keys of a keyspace, a page at a time: [`Client::list`](crate::Client::list).
pub struct Listing {
    pages: Resumed<v1::ListResponse>,
    left: Option<u64>,
    is_over: bool,
}

impl Listing {
    pub(crate) fn new(
        nodes: Arc<Nodes>,
        request: v1::ListRequest,
        kv: fn(Line) -> v1::kv_client::KvClient<Line>,
    ) -> Self {
        let left = Some(request.limit).filter(|limit| *limit > 0);
        let token = request.page_token.clone();
        let open = move |channel, page_token| -> Opened<v1::ListResponse> {
            // What was listed before the break is counted here.
            let request = v1::ListRequest { page_token, limit: 0, ..request.clone() };
            Box::pin(async move { kv(channel).list(Request::new(request)).await })
        };
        Listing { pages: Resumed::new(nodes, token, Box::new(open)), left, is_over: false }
    }

    /// The next page; it may be empty. `None` is the end.
    ///
    /// # Errors
    /// The node's word, where another attempt does not help.
    pub async fn next(&mut self) -> Result<Option<v1::ListResponse>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let (Some(mut page), _) = self.pages.next().await? else { return Ok(None) };
        self.pages.came_to(&page.page_token);
        self.is_over = page.page_token.is_empty();
        if let Some(left) = &mut self.left {
            page.keys.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= page.keys.len() as u64;
            self.is_over |= *left == 0;
        }
        Ok(Some(page))
    }
}

/// Objects of a keyspace as they are stored: a page of an [`Export`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPage {
    /// Keys and objects, in key order.
    pub objects: Vec<(Bytes, Bytes)>,
    /// Of which partition of the ring.
    pub partition: u32,
    /// How much of all partitions is done, of 1,000.
    pub permille: u32,
}

/// The objects of a keyspace, a page at a time: [`Admin::export`](crate::Admin::export).
pub struct Export {
    pages: Resumed<v1::ExportObjectsResponse>,
    is_over: bool,
}

impl Export {
    pub(crate) fn new(
        nodes: Arc<Nodes>,
        request: v1::ExportObjectsRequest,
        admin: fn(Line) -> v1::admin_client::AdminClient<Line>,
    ) -> Self {
        let token = request.page_token.clone();
        let open = move |channel, page_token| -> Opened<v1::ExportObjectsResponse> {
            let request = v1::ExportObjectsRequest { page_token, ..request.clone() };
            Box::pin(async move { admin(channel).export_objects(Request::new(request)).await })
        };
        Export { pages: Resumed::new(nodes, token, Box::new(open)), is_over: false }
    }

    /// The next page of whole objects; it may be empty. `None` is the end.
    ///
    /// # Errors
    /// The node's word, where another attempt does not help; or the stream ended before its end.
    pub async fn next(&mut self) -> Result<Option<ObjectPage>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let mut objects: Vec<(Bytes, BytesMut)> = Vec::new();
        let mut is_open = false;
        loop {
            let (message, is_anew) = self.pages.next().await?;
            let Some(message) = message else {
                let message = "the export ended before its end";
                return Err(Status::data_loss(message).into());
            };
            if is_anew {
                objects.clear();
                is_open = false;
            }
            for part in message.parts {
                match (is_open, objects.last_mut()) {
                    (true, Some((_, bytes))) => bytes.extend_from_slice(&part.chunk),
                    _ => objects.push((part.key, part.chunk.into())),
                }
                is_open = part.more;
            }
            if message.is_end || !message.page_token.is_empty() {
                self.pages.came_to(&message.page_token);
                self.is_over = message.is_end;
                let objects = objects.into_iter().map(|(key, bytes)| (key, bytes.freeze()));
                let (partition, permille) = (message.partition, message.permille);
                return Ok(Some(ObjectPage { objects: objects.collect(), partition, permille }));
            }
        }
    }
}

/// Bytes of an object in one message.
const CHUNK_BYTES: usize = 512 << 10;

/// The messages of an import.
pub(crate) fn import_messages(
    header: v1::ImportHeader,
    objects: Vec<(Bytes, Bytes)>,
) -> impl Iterator<Item = v1::ImportObjectsRequest> + Clone {
    use v1::import_objects_request::Part;
    let parts = objects.into_iter().flat_map(|(key, bytes)| {
        let count = bytes.len().div_ceil(CHUNK_BYTES).max(1);
        (0..count).map(move |at| {
            let end = bytes.len().min((at + 1) * CHUNK_BYTES);
            let key = if at == 0 { key.clone() } else { Bytes::new() };
            let chunk = bytes.slice(at * CHUNK_BYTES..end);
            Part::Object(v1::ObjectPart { key, chunk, more: at + 1 < count })
        })
    });
    let all = std::iter::once(Part::Header(header)).chain(parts);
    all.map(|part| v1::ImportObjectsRequest { part: Some(part) })
}
