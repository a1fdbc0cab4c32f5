//! A store in memory that speaks the demo's part of the protocol, for tests of the demo itself:
//! the checks must pass on a store that keeps its word and fail on one that does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use stator_proto::v1::admin_server::{Admin, AdminServer};
use stator_proto::v1::kv_server::{Kv, KvServer};
use stator_proto::v1::{self, ReconcilePolicy};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::cart::Cart;
use super::client::NodeClient;

/// How the fake treats concurrent versions in a keyspace with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// As the cart's format wants it.
    Right,
    /// Forgets all versions but one.
    Forgetful,
    /// Forgets what was removed.
    Reviving,
}

/// The store behind all faces of the fake.
#[derive(Debug, Clone)]
pub(super) struct Fake {
    merge: Merge,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    policies: BTreeMap<String, ReconcilePolicy>,
    /// Live versions by keyspace and key, each under the number of its write.
    versions: BTreeMap<(String, Bytes), BTreeMap<u64, Bytes>>,
    writes: u64,
    faults: Vec<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

fn unsupported<T>() -> Answer<T> {
    Err(Status::unimplemented("the fake has no such thing"))
}

impl Fake {
    /// A fake that serves, and three connections to it as if it were three nodes.
    pub(super) async fn start(merge: Merge) -> (Self, Vec<NodeClient>) {
        let fake = Fake { merge, state: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Server::builder()
            .add_service(KvServer::new(fake.clone()))
            .add_service(AdminServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let client = || NodeClient::new(&address, &address).expect("an address");
        (fake, vec![client(), client(), client()])
    }

    /// The calls of the fault switch so far.
    pub(super) fn faults(&self) -> Vec<bool> {
        self.lock().faults.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    fn merged(&self, versions: &BTreeMap<u64, Bytes>) -> Bytes {
        let mut carts = versions.values().map(|value| Cart::read(Some(value)).expect("a cart"));
        let mut merged = carts.next().expect("at least one version");
        if self.merge != Merge::Forgetful {
            for cart in carts {
                merged.items.extend(cart.items);
                merged.removed.extend(cart.removed);
            }
        }
        if self.merge == Merge::Right {
            let removed = merged.removed.clone();
            merged.items.retain(|tag, _| !removed.contains(tag));
        }
        merged.write().expect("a cart").into()
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        let request = request.into_inner();
        let state = self.lock();
        let versions = state.versions.get(&(request.keyspace.clone(), request.key));
        let versions = versions.cloned().unwrap_or_default();
        let value = match state.policies.get(&request.keyspace) {
            _ if versions.is_empty() => None,
            Some(ReconcilePolicy::Module) => Some(self.merged(&versions)),
            _ => versions.values().next_back().cloned(),
        };
        // The writes that the reader sees, as the fake's notion of a context.
        let context = serde_json::to_vec(&versions.keys().collect::<Vec<_>>()).expect("numbers");
        let merge = v1::MergeInfo { sibling_count: versions.len() as u32, ..Default::default() };
        Ok(Response::new(v1::GetResponse {
            versions: value
                .map(|value| v1::Version { value: Some(value), ..Default::default() })
                .into_iter()
                .collect(),
            context: Some(context.into()),
            merge: Some(merge),
            answered: 1,
            ring_version: 1,
            ..Default::default()
        }))
    }

    async fn get_replica(
        &self,
        _: Request<v1::GetReplicaRequest>,
    ) -> Answer<v1::GetReplicaResponse> {
        Err(Status::unimplemented("the demo has nodes coordinate"))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Answer<v1::PutResponse> {
        let request = request.into_inner();
        let mut state = self.lock();
        state.writes += 1;
        let write = state.writes;
        let versions = state.versions.entry((request.keyspace, request.key)).or_default();
        for context in request.contexts {
            let seen: Vec<u64> = serde_json::from_slice(&context).expect("the fake's context");
            versions.retain(|write, _| !seen.contains(write));
        }
        versions.insert(write, request.value);
        Ok(Response::new(v1::PutResponse { acked: 1, ..Default::default() }))
    }

    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        unsupported()
    }

    type ListStream = futures::stream::Empty<Result<v1::ListResponse, Status>>;

    async fn list(&self, _: Request<v1::ListRequest>) -> Answer<Self::ListStream> {
        unsupported()
    }

    type WatchStream = futures::stream::Empty<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        unsupported()
    }

    async fn batch(&self, _: Request<v1::BatchRequest>) -> Answer<v1::BatchResponse> {
        unsupported()
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    async fn init_cluster(
        &self,
        _: Request<v1::InitClusterRequest>,
    ) -> Answer<v1::InitClusterResponse> {
        Ok(Response::new(v1::InitClusterResponse::default()))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::NodeStatus> {
        use v1::Reachability::{Alive, Self_};
        let member = |reachability: v1::Reachability| v1::MemberView {
            reachability: reachability as i32,
            ..Default::default()
        };
        let keyspaces = self.lock().policies.keys().cloned().collect::<Vec<_>>();
        let keyspaces = keyspaces.into_iter().map(|name| v1::KeyspaceStatus {
            name,
            hints_delivered: 1,
            merges: 1,
            ..Default::default()
        });
        Ok(Response::new(v1::NodeStatus {
            members: vec![member(Self_), member(Alive), member(Alive)],
            keyspaces: keyspaces.collect(),
            ..Default::default()
        }))
    }

    async fn create_keyspace(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Answer<v1::Keyspace> {
        let keyspace = request.into_inner().keyspace.expect("a keyspace");
        let policy = keyspace.reconcile.as_ref().expect("a policy").policy();
        self.lock().policies.insert(keyspace.name.clone(), policy);
        Ok(Response::new(keyspace))
    }

    async fn push_module(
        &self,
        request: Request<Streaming<v1::PushModuleRequest>>,
    ) -> Answer<v1::Module> {
        let mut parts = request.into_inner();
        while parts.message().await?.is_some() {}
        Ok(Response::new(v1::Module { digest: "0".repeat(64), ..Default::default() }))
    }

    async fn introduce_node(
        &self,
        _: Request<v1::IntroduceNodeRequest>,
    ) -> Answer<v1::IntroduceNodeResponse> {
        unsupported()
    }

    async fn list_held(&self, _: Request<v1::ListHeldRequest>) -> Answer<v1::ListHeldResponse> {
        unsupported()
    }

    async fn bring_home(
        &self,
        _: Request<Streaming<v1::BringHomeRequest>>,
    ) -> Answer<v1::BringHomeResponse> {
        unsupported()
    }

    async fn change_access(
        &self,
        _: Request<v1::ChangeAccessRequest>,
    ) -> Answer<v1::ChangeAccessResponse> {
        unsupported()
    }

    async fn list_access(
        &self,
        _: Request<v1::ListAccessRequest>,
    ) -> Answer<v1::ListAccessResponse> {
        unsupported()
    }

    type ListAuditStream = futures::stream::Empty<Result<v1::AuditEntry, Status>>;

    async fn list_audit(&self, _: Request<v1::ListAuditRequest>) -> Answer<Self::ListAuditStream> {
        unsupported()
    }

    type ExportObjectsStream = futures::stream::Empty<Result<v1::ExportObjectsResponse, Status>>;

    async fn export_objects(
        &self,
        _: Request<v1::ExportObjectsRequest>,
    ) -> Answer<Self::ExportObjectsStream> {
        unsupported()
    }

    async fn import_objects(
        &self,
        _: Request<Streaming<v1::ImportObjectsRequest>>,
    ) -> Answer<v1::ImportObjectsResponse> {
        unsupported()
    }

    async fn set_fault(
        &self,
        request: Request<v1::SetFaultRequest>,
    ) -> Answer<v1::SetFaultResponse> {
        let isolated = request.into_inner().isolated;
        self.lock().faults.push(isolated);
        Ok(Response::new(v1::SetFaultResponse { isolated }))
    }

    async fn get_keyspace(&self, _: Request<v1::GetKeyspaceRequest>) -> Answer<v1::Keyspace> {
        unsupported()
    }

    async fn list_keyspaces(
        &self,
        _: Request<v1::ListKeyspacesRequest>,
    ) -> Answer<v1::ListKeyspacesResponse> {
        unsupported()
    }

    async fn update_keyspace(&self, _: Request<v1::UpdateKeyspaceRequest>) -> Answer<v1::Keyspace> {
        unsupported()
    }

    async fn delete_keyspace(
        &self,
        _: Request<v1::DeleteKeyspaceRequest>,
    ) -> Answer<v1::DeleteKeyspaceResponse> {
        unsupported()
    }

    async fn delete_module(&self, _: Request<v1::DeleteModuleRequest>) -> Answer<v1::Module> {
        unsupported()
    }

    type PullModuleStream = futures::stream::Empty<Result<v1::PullModuleResponse, Status>>;

    async fn pull_module(
        &self,
        _: Request<v1::PullModuleRequest>,
    ) -> Answer<Self::PullModuleStream> {
        unsupported()
    }

    async fn get_module_log(
        &self,
        _: Request<v1::GetModuleLogRequest>,
    ) -> Answer<v1::GetModuleLogResponse> {
        unsupported()
    }

    async fn begin_trial(&self, _: Request<v1::BeginTrialRequest>) -> Answer<v1::Keyspace> {
        unsupported()
    }

    async fn end_trial(&self, _: Request<v1::EndTrialRequest>) -> Answer<v1::Keyspace> {
        unsupported()
    }

    async fn get_trial(&self, _: Request<v1::GetTrialRequest>) -> Answer<v1::TrialReport> {
        unsupported()
    }

    type TailConflictsStream = futures::stream::Empty<Result<v1::Conflict, Status>>;

    async fn tail_conflicts(
        &self,
        _: Request<v1::TailConflictsRequest>,
    ) -> Answer<Self::TailConflictsStream> {
        unsupported()
    }

    async fn list_dead_letters(
        &self,
        _: Request<v1::ListDeadLettersRequest>,
    ) -> Answer<v1::ListDeadLettersResponse> {
        unsupported()
    }

    type ListRecordingsStream = futures::stream::Empty<Result<v1::Recording, Status>>;

    async fn list_recordings(
        &self,
        _: Request<v1::ListRecordingsRequest>,
    ) -> Answer<Self::ListRecordingsStream> {
        unsupported()
    }

    type ListSupersededStream = futures::stream::Empty<Result<v1::Superseded, Status>>;

    async fn list_superseded(
        &self,
        _: Request<v1::ListSupersededRequest>,
    ) -> Answer<Self::ListSupersededStream> {
        unsupported()
    }

    async fn get_module(&self, _: Request<v1::GetModuleRequest>) -> Answer<v1::Module> {
        unsupported()
    }

    async fn list_modules(
        &self,
        _: Request<v1::ListModulesRequest>,
    ) -> Answer<v1::ListModulesResponse> {
        unsupported()
    }

    async fn stage_ring_change(
        &self,
        _: Request<v1::StageRingChangeRequest>,
    ) -> Answer<v1::RingPlan> {
        unsupported()
    }

    async fn get_ring_plan(&self, _: Request<v1::GetRingPlanRequest>) -> Answer<v1::RingPlan> {
        unsupported()
    }

    async fn commit_ring_plan(
        &self,
        _: Request<v1::CommitRingPlanRequest>,
    ) -> Answer<v1::CommitRingPlanResponse> {
        unsupported()
    }

    async fn cancel_ring_plan(
        &self,
        _: Request<v1::CancelRingPlanRequest>,
    ) -> Answer<v1::CancelRingPlanResponse> {
        unsupported()
    }

    async fn start_repair(&self, _: Request<v1::StartRepairRequest>) -> Answer<v1::Repair> {
        unsupported()
    }

    async fn get_repair(&self, _: Request<v1::GetRepairRequest>) -> Answer<v1::Repair> {
        unsupported()
    }

    async fn list_transfers(
        &self,
        _: Request<v1::ListTransfersRequest>,
    ) -> Answer<v1::ListTransfersResponse> {
        unsupported()
    }
}
