//! `stator bench echo`: the limit of what a gRPC server of this kind can do.
//!
//! The service `Kv` of stator.v1 that stores nothing: it answers any get with the same value and
//! takes any put. Measured by the same client it tells what transport, encoding and the loop of the
//! bench cost by themselves, which no store behind the same interface can be faster than.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use clap::Args;
use stator_proto::v1;
use stator_proto::v1::kv_server::{Kv, KvServer};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::signals::Stop;

/// Answer gets and puts without storing anything
#[derive(Debug, Args)]
pub(super) struct Echo {
    /// How large a value is
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    value_bytes: u32,
}

#[derive(Debug)]
struct Same(Bytes);

impl Echo {
    /// Serves on a free port of loopback, which it prints, until it is told to stop.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::refused(format!("echo: {error}"));
        let mut stop = Stop::new()?;
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let incoming = TcpIncoming::bind(free).map_err(|error| failed(&error))?;
        let address = incoming.local_addr().map_err(|error| failed(&error))?;
        output::line(address.to_string())?;
        let same = Same(vec![b'x'; self.value_bytes as usize].into());
        let server = Server::builder().add_service(KvServer::new(same));
        let incoming = incoming.with_nodelay(Some(true));
        let served = server.serve_with_incoming_shutdown(incoming, stop.requested()).await;
        served.map_err(|error| failed(&error))
    }
}

#[tonic::async_trait]
impl Kv for Same {
    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let version = v1::Version { value: Some(self.0.clone()), ..Default::default() };
        Ok(Response::new(v1::GetResponse { versions: vec![version], ..Default::default() }))
    }

    async fn get_replica(
        &self,
        _: Request<v1::GetReplicaRequest>,
    ) -> Result<Response<v1::GetReplicaResponse>, Status> {
        Err(Status::unimplemented("nothing is replicated"))
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        Ok(Response::new(v1::PutResponse { acked: 1, ..Default::default() }))
    }

    type ListStream = futures::stream::Empty<Result<v1::ListResponse, Status>>;

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    type WatchStream = futures::stream::Empty<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn batch(
        &self,
        _: Request<v1::BatchRequest>,
    ) -> Result<Response<v1::BatchResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }
}
