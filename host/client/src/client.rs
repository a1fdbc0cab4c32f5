//! Reading and writing keys.

use std::sync::Arc;

use bytes::Bytes;
use stator_proto::v1;
use stator_proto::v1::kv_client::KvClient;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::entry::Entry;
use crate::error::{Error, reason};
use crate::line::Line;
use crate::nodes::{ANSWER_BYTES_MAX, Nodes, dial, http, made};
use crate::options::{Coordination, Options};
use crate::pages::Listing;
use crate::peer::{Kind, Peer};
use crate::replicas;
use crate::retry::Safety;
use crate::routes::{Dial, Routes};
use crate::watch::{Watch, Watching};

/// A client of the client listeners of some nodes. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    routes: Arc<Routes>,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its dot, as NODE.INCARNATION.EPOCH:COUNTER.
    pub dot: String,
    /// Whether other versions are left beside it, which the client has not seen.
    pub siblings_remain: bool,
    /// How many distinct nodes hold it.
    pub acked: u32,
    /// How many of them keep it for an absent owner.
    pub hinted: u32,
    /// The entry to write on with, without another get. Only if no other version is left.
    pub entry: Option<Entry>,
}

pub(crate) fn kv(channel: Line) -> KvClient<Line> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// A client of the cluster that some nodes belong to, whose client listeners are at `endpoints`,
    /// each `HOST:PORT`, without TLS. Connections are made when they are first used.
    ///
    /// # Errors
    /// An endpoint is no address, or there is none.
    pub fn connect<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Result<Self, Error> {
        Client::plain(endpoints, Options::default())
    }

    /// As [`Self::connect`], going about its calls in another way.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn plain<E: AsRef<str>>(
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
    ) -> Result<Self, Error> {
        let http = |address: &str| Ok(http(address)?.connect_lazy());
        Client::of(dial(endpoints)?, Some(Box::new(http)), options)
    }

    /// A client that makes its channels with `dial`, of an address `HOST:PORT`: with TLS, for
    /// instance. It is called for the endpoints now, and for other nodes of the ring in time, so it
    /// should connect when the channel is first used ([`tonic::transport::Endpoint::connect_lazy`]).
    ///
    /// # Errors
    /// There is no endpoint, or `dial` does not take one.
    pub fn connect_with<E: AsRef<str>>(
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
        dial: impl Fn(&str) -> Result<Channel, tonic::transport::Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let peer = |endpoint: E| {
            let address = endpoint.as_ref();
            let channel = dial(address).map_err(|error| Error::bad_endpoint(address, &error))?;
            Ok(Peer::new(address.to_owned(), channel))
        };
        let peers = endpoints.into_iter().map(peer).collect::<Result<_, Error>>()?;
        Client::of(peers, Some(Box::new(dial)), options)
    }

    /// A client over channels that were made elsewhere. It reaches no other nodes, so its
    /// coordination is [`Coordination::Any`].
    ///
    /// # Errors
    /// There is no channel.
    pub fn over(channels: Vec<Channel>, options: Options) -> Result<Self, Error> {
        Client::of(made(channels), None, options)
    }

    fn of(endpoints: Vec<Peer>, dial: Option<Dial>, options: Options) -> Result<Self, Error> {
        Ok(Client { routes: Routes::new(Nodes::new(endpoints, options)?, dial) })
    }

    /// Fetches the ring now, if it is another one than before, and tells its version. There is no
    /// need to: the first request begins to, and does not wait for it.
    ///
    /// # Errors
    /// No node has one.
    pub async fn fetch_ring(&self) -> Result<u64, Error> {
        self.routes.fetch().await
    }

    /// Reads a key as its keyspace's policy makes it: one version, or siblings where the policy
    /// keeps them or the merge failed.
    ///
    /// # Errors
    /// See [`Error::reason`]. An absent key is none: its entry has no version.
    pub async fn get(
        &self,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
    ) -> Result<Entry, Error> {
        let (keyspace, key) = (keyspace.into(), key.into());
        let deadline = self.routes.nodes.deadline();
        if self.routes.coordination() == Coordination::Client
            && let Some(entry) = replicas::read(&self.routes, &keyspace, &key, deadline).await
        {
            return Ok(entry);
        }
        self.read(keyspace, key, v1::View::Merged, deadline).await
    }

    /// Reads every sibling of a key as it is stored, deletes too.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn siblings(
        &self,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
    ) -> Result<Entry, Error> {
        let deadline = self.routes.nodes.deadline();
        self.read(keyspace.into(), key.into(), v1::View::Siblings, deadline).await
    }

    /// As [`Self::siblings`], without the values.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn metadata(
        &self,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
    ) -> Result<Entry, Error> {
        let deadline = self.routes.nodes.deadline();
        self.read(keyspace.into(), key.into(), v1::View::Metadata, deadline).await
    }

    async fn read(
        &self,
        keyspace: String,
        key: Bytes,
        view: v1::View,
        deadline: Instant,
    ) -> Result<Entry, Error> {
        let request = v1::GetRequest {
            keyspace: keyspace.clone(),
            key: key.clone(),
            view: view.into(),
            quorum: self.quorum(),
            ..Default::default()
        };
        Ok(Entry::read(keyspace, key, self.get_by(deadline, request).await?))
    }

    /// Writes what was [set](Entry::set) in place of what the entry had read.
    ///
    /// # Errors
    /// Nothing was set, the entry was not read whole, or the node's word: see
    /// [`Error::effect`] for whether the write may be applied.
    pub async fn put(&self, entry: Entry) -> Result<Written, Error> {
        let request = v1::PutRequest { quorum: self.quorum(), ..entry.put_request()? };
        let answer = self.send_put(request).await?;
        Ok(Written {
            dot: answer.dot,
            siblings_remain: answer.siblings_remain,
            acked: answer.acked,
            hinted: answer.hinted,
            entry: answer.context.map(|context| entry.after_put(context)),
        })
    }

    /// Reads a key, has `change` say what its value becomes, and puts that in the place of what was
    /// read; again, with what is there then, if another write came between and left a sibling. What
    /// `change` gives `None` for stays as it is.
    ///
    /// Each put is named, so a retry is one write. `change` is called up to `attempts_max` times:
    /// it should depend on nothing but the entry.
    ///
    /// # Errors
    /// As [`Self::get`] and [`Self::put`]; `SIBLINGS_REMAIN` if others wrote the key again and again:
    /// the last value of `change` is stored, beside theirs.
    pub async fn update(
        &self,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
        mut change: impl FnMut(&Entry) -> Option<Bytes>,
    ) -> Result<Option<Written>, Error> {
        let (keyspace, key) = (keyspace.into(), key.into());
        for _ in 0..self.routes.nodes.options.attempts_max.max(1) {
            let mut entry = self.get(keyspace.clone(), key.clone()).await?;
            let Some(value) = change(&entry) else { return Ok(None) };
            entry.set(value);
            entry.request_id(random_id());
            let written = self.put(entry).await?;
            if !written.siblings_remain {
                return Ok(Some(written));
            }
        }
        let message =
            "others write the key as well: what this client wrote is stored, as a sibling";
        Err(Error::local(reason::SIBLINGS_REMAIN, message))
    }

    /// Deletes exactly the versions that the entry had read.
    ///
    /// # Errors
    /// As [`Self::put`]; a blind entry is refused.
    pub async fn delete(&self, entry: Entry) -> Result<Written, Error> {
        let request = entry.delete_request()?;
        self.deleted(request, entry).await
    }

    /// Deletes exactly what the coordinating node finds when it looks.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete_observed(
        &self,
        keyspace: impl Into<String>,
        key: impl Into<Bytes>,
    ) -> Result<Written, Error> {
        let entry = Entry::blind(keyspace, key);
        let request = v1::DeleteRequest {
            keyspace: entry.keyspace().to_owned(),
            key: entry.key().clone(),
            observed: true,
            ..Default::default()
        };
        self.deleted(request, entry).await
    }

    async fn deleted(&self, request: v1::DeleteRequest, entry: Entry) -> Result<Written, Error> {
        let request = v1::DeleteRequest { quorum: self.quorum(), ..request };
        let answer = self.send_delete(request).await?;
        Ok(Written {
            dot: answer.dot,
            siblings_remain: answer.siblings_remain,
            acked: answer.acked,
            hinted: answer.hinted,
            entry: answer.context.map(|context| entry.after_put(context)),
        })
    }

    fn quorum(&self) -> i32 {
        self.routes.nodes.options.quorum().into()
    }

    /// The keys of a keyspace, all or a range of them, in order within each partition of the ring.
    /// Where the stream breaks off it goes on by itself.
    pub fn list(&self, request: v1::ListRequest) -> Listing {
        Listing::new(self.routes.nodes.clone(), request, kv)
    }

    /// What is changed of some keys, from now on or from where another watch was, as it happens.
    /// It goes on by itself, whatever node goes away or comes: see [`Watch`].
    ///
    /// ```
    /// # use stator_client::{Client, Entry, Error, Event, Watching};
    /// # fn index(_: Entry) {}
    /// # fn mark_all() {}
    /// # fn drop_marked() {}
    /// # fn save(_: String) {}
    /// # async fn follow(client: Client) -> Result<(), Error> {
    /// let mut watch = client.watch(Watching::of("carts").prefix("cart-")).await?;
    /// while let Some(event) = watch.next().await? {
    ///     match event {
    ///         Event::Changed(changed) => index(changed.into_entry("carts")),
    ///         Event::Listing => mark_all(),      // see below
    ///         Event::Listed => drop_marked(),
    ///         _ => {}
    ///     }
    ///     save(watch.token());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The client cannot dial all nodes ([`Client::over`]); no node has a ring; the token is none.
    pub async fn watch(&self, watching: Watching) -> Result<Watch, Error> {
        Watch::begin(self.clone(), watching).await
    }

    pub(crate) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Sends several gets, puts and deletes at once. Each has an outcome of its own; what failed is
    /// not retried.
    ///
    /// # Errors
    /// The node's word about the whole. Writes of the batch may be applied.
    pub async fn send_batch(&self, request: v1::BatchRequest) -> Result<v1::BatchResponse, Error> {
        let send = async |channel, request| kv(channel).batch(request).await;
        self.routes.nodes.call(Safety::Once, request, send).await
    }

    /// Sends a get as a message to a node that coordinates it, with the retries of any get.
    ///
    /// # Errors
    /// The node's word.
    pub async fn send_get(&self, request: v1::GetRequest) -> Result<v1::GetResponse, Error> {
        self.get_by(self.routes.nodes.deadline(), request).await
    }

    async fn get_by(
        &self,
        deadline: Instant,
        request: v1::GetRequest,
    ) -> Result<v1::GetResponse, Error> {
        let send = async |channel, request| kv(channel).get(request).await;
        let terms = (Kind::Get, Safety::Repeatable, deadline);
        let plan = self.routes.plan((&request.keyspace, &request.key), request.quorum(), terms);
        let answer = self.routes.nodes.call_by(plan, request, send).await?;
        self.routes.heard(answer.ring_version);
        Ok(answer)
    }

    /// Sends a put as a message, with the retries of any put.
    ///
    /// # Errors
    /// The node's word.
    pub async fn send_put(&self, request: v1::PutRequest) -> Result<v1::PutResponse, Error> {
        let send = async |channel, request| kv(channel).put(request).await;
        let terms = (Kind::Write, named(&request.request_id), self.routes.nodes.deadline());
        let plan = self.routes.plan((&request.keyspace, &request.key), request.quorum(), terms);
        let answer = self.routes.nodes.call_by(plan, request, send).await?;
        self.routes.heard(answer.ring_version);
        Ok(answer)
    }

    /// Sends a delete as a message, with the retries of any delete.
    ///
    /// # Errors
    /// The node's word.
    pub async fn send_delete(
        &self,
        request: v1::DeleteRequest,
    ) -> Result<v1::DeleteResponse, Error> {
        let send = async |channel, request| kv(channel).delete(request).await;
        let terms = (Kind::Write, named(&request.request_id), self.routes.nodes.deadline());
        let plan = self.routes.plan((&request.keyspace, &request.key), request.quorum(), terms);
        let answer = self.routes.nodes.call_by(plan, request, send).await?;
        self.routes.heard(answer.ring_version);
        Ok(answer)
    }
}

/// Names a write as no other is named.
fn random_id() -> Bytes {
    let mut id = [0; 16];
    // Without randomness it has no name: it is then not retried where that could write it twice.
    match getrandom::fill(&mut id) {
        Ok(()) => Bytes::copy_from_slice(&id),
        Err(_) => Bytes::new(),
    }
}

fn named(request_id: &Bytes) -> Safety {
    if request_id.is_empty() { Safety::Once } else { Safety::Repeatable }
}
