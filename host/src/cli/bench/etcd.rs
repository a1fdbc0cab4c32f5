//! etcd as a target, by the two calls of its gRPC interface that matter here: Range of one key and
//! Put (`etcdserverpb.KV`, api/etcdserverpb/rpc.proto of etcd 3).
//!
//! The messages have only the fields that are sent or read; protobuf skips the rest. A get is
//! *linearizable* unless told otherwise: the node asks its leader, which asks a majority, before it
//! answers. *Serializable* it answers from what it has. A put is answered when a majority has
//! synced it. There are no siblings, and a write replaces whatever is there.

use std::time::Duration;

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::target::{Over, Reading, Reason, Target, Written};
use super::workload::Family;
use crate::address::HostPort;
use crate::cli::failure::{Failure, Kind};

const RANGE: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Range");
const PUT: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Put");

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// A connection to one node.
#[derive(Debug)]
pub(super) struct Etcd {
    channel: Channel,
    family: Family,
    serializable: bool,
}

impl Etcd {
    /// A connection to the node at `address` that has answered a get.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub(super) async fn connect(
        address: &HostPort,
        family: Family,
        serializable: bool,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let missing = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Unavailable, format!("etcd at {address}: {error}"))
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| missing(&error))?;
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        let channel = endpoint.connect().await.map_err(|error| missing(&error))?;
        let etcd = Etcd { channel, family, serializable };
        etcd.read(0).await.map_err(|Reason(reason)| missing(&reason))?;
        Ok(etcd)
    }

    async fn call<Q, A>(&self, path: PathAndQuery, request: Q) -> Result<A, Reason>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        // A channel is a handle: its clones share the connection.
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|_| Reason("UNAVAILABLE".to_owned()))?;
        let answer = grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await;
        Ok(answer.map_err(reason)?.into_inner())
    }
}

fn reason(status: Status) -> Reason {
    Reason(format!("{:?}", status.code()))
}

impl Target for Etcd {
    type Seen = ();

    async fn read(&self, key: u64) -> Result<Reading<()>, Reason> {
        let request = RangeRequest { key: self.family.key(key), serializable: self.serializable };
        let answer: RangeResponse = self.call(RANGE, request).await?;
        let values: Vec<_> = answer.kvs.into_iter().map(|found| found.value).collect();
        Ok(Reading { siblings: values.len() as u32, values, seen: () })
    }

    async fn write(&self, key: u64, value: Bytes, _: Over<()>) -> Result<Written, Reason> {
        let _: PutResponse =
            self.call(PUT, PutRequest { key: self.family.key(key), value }).await?;
        Ok(Written { has_siblings: false })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Bytes as etcd's rpc.proto and kv.proto number the fields: number * 8 + wire type.
    #[test]
    fn messages_have_the_field_numbers_of_etcd() {
        let range = RangeRequest { key: "k".into(), serializable: true };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x38\x01");
        let put = PutRequest { key: "k".into(), value: "vw".into() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vw");
        // A header, a pair with its key, revisions and value, `more`, and the count.
        let answer = b"\x0a\x02\x18\x07\x12\x0b\x0a\x01k\x10\x02\x18\x03\x2a\x02vw\x20\x01";
        let answer = RangeResponse::decode(&answer[..]).expect("understood");
        assert_eq!(answer.kvs, [KeyValue { value: "vw".into() }]);
        assert!(PutResponse::decode(&b"\x0a\x02\x18\x07"[..]).is_ok());
    }
}
