//! Reading and writing keys.

use std::sync::Arc;

use bytes::Bytes;
use stator_proto::v1;
use stator_proto::v1::kv_client::KvClient;
use tonic::transport::Channel;

use crate::entry::Entry;
use crate::error::Error;
use crate::nodes::{ANSWER_BYTES_MAX, Nodes, Options, dial};
use crate::retry::Safety;

/// A client of the client listeners of some nodes. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    nodes: Arc<Nodes>,
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

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// A client of the nodes at `endpoints`, each `HOST:PORT` of a client listener, without TLS.
    /// Connections are made when they are first used.
    ///
    /// # Errors
    /// An endpoint is no address, or there is none.
    pub fn connect<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Result<Self, Error> {
        Client::over(dial(endpoints)?, Options::default())
    }

    /// A client over channels that were made elsewhere, with TLS for instance.
    ///
    /// # Errors
    /// There is no channel.
    pub fn over(channels: Vec<Channel>, options: Options) -> Result<Self, Error> {
        Ok(Client { nodes: Arc::new(Nodes::new(channels, options)?) })
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
        self.read(keyspace.into(), key.into(), v1::View::Merged).await
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
        self.read(keyspace.into(), key.into(), v1::View::Siblings).await
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
        self.read(keyspace.into(), key.into(), v1::View::Metadata).await
    }

    async fn read(&self, keyspace: String, key: Bytes, view: v1::View) -> Result<Entry, Error> {
        let request = v1::GetRequest {
            keyspace: keyspace.clone(),
            key: key.clone(),
            view: view.into(),
            ..Default::default()
        };
        Ok(Entry::read(keyspace, key, self.send_get(request).await?))
    }

    /// Writes what was [set](Entry::set) in place of what the entry had read.
    ///
    /// # Errors
    /// Nothing was set, the entry was not read whole, or the node's word: see
    /// [`Error::effect`] for whether the write may be applied.
    pub async fn put(&self, entry: Entry) -> Result<Written, Error> {
        let answer = self.send_put(entry.put_request()?).await?;
        Ok(Written {
            dot: answer.dot,
            siblings_remain: answer.siblings_remain,
            acked: answer.acked,
            hinted: answer.hinted,
            entry: answer.context.map(|context| entry.after_put(context)),
        })
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
        let answer = self.send_delete(request).await?;
        Ok(Written {
            dot: answer.dot,
            siblings_remain: answer.siblings_remain,
            acked: answer.acked,
            hinted: answer.hinted,
            entry: answer.context.map(|context| entry.after_put(context)),
        })
    }

    /// Sends a get as a message, with the retries of any get.
    ///
    /// # Errors
    /// The node's word.
    pub async fn send_get(&self, request: v1::GetRequest) -> Result<v1::GetResponse, Error> {
        let send = async |channel, request| kv(channel).get(request).await;
        self.nodes.call(Safety::Repeatable, request, send).await
    }

    /// Sends a put as a message, with the retries of any put.
    ///
    /// # Errors
    /// The node's word.
    pub async fn send_put(&self, request: v1::PutRequest) -> Result<v1::PutResponse, Error> {
        let send = async |channel, request| kv(channel).put(request).await;
        self.nodes.call(named(&request.request_id), request, send).await
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
        self.nodes.call(named(&request.request_id), request, send).await
    }
}

fn named(request_id: &Bytes) -> Safety {
    if request_id.is_empty() { Safety::Once } else { Safety::Repeatable }
}
