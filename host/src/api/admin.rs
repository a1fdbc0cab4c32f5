//! `stator.v1.Admin`: running a cluster.

use std::sync::Arc;

use stator_core::catalogue::Role;
use stator_proto::v1;
use stator_proto::v1::admin_server::Admin;
use tonic::{Code, Request, Response, Status, Streaming};

use super::guard::Caller;
use super::journals::Listed;
use super::{
    access, audit, conflicts, errors, journals, keyspaces, modules, objects, recover, repair, ring,
    status, trials,
};
use crate::node::{InitError, InitRequest, Node};
use crate::transport::setup::SetupError;

/// The longest name of a cluster.
const CLUSTER_NAME_CHARS_MAX: usize = 64;

/// The service.
pub struct AdminService {
    node: Arc<Node>,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    /// The service of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        AdminService { node }
    }

    fn catalogue(&self) -> Result<Arc<stator_core::catalogue::Catalogue>, Status> {
        self.node.catalogue().ok_or_else(errors::no_cluster)
    }
}

fn init_failed(error: &InitError) -> Status {
    let message = error.to_string();
    match error {
        InitError::Belongs(_)
        | InitError::Differs { .. }
        | InitError::PeerBelongs { .. }
        | InitError::OtherName { .. }
        | InitError::Founder { error: SetupError::Exists { .. }, .. } => {
            errors::status(Code::FailedPrecondition, "CLUSTER_EXISTS", message, &[])
        }
        InitError::Ring(_) | InitError::Founder { error: SetupError::BadRing { .. }, .. } => {
            errors::bad_field("partitions", "BAD_RING", message)
        }
        InitError::Introduce(_)
        | InitError::NotPromised(_)
        | InitError::Advertised { .. }
        | InitError::Promised { .. }
        | InitError::Founder { .. }
        | InitError::Adopt(_) => {
            errors::status(Code::FailedPrecondition, "PEER_NOT_READY", message, &[])
        }
        InitError::Persist(_) | InitError::Randomness(_) | InitError::Stopping => errors::status(
            Code::Unavailable,
            "NOT_PERSISTED",
            message,
            &[("effect", "MAYBE".to_owned())],
        ),
    }
}

/// Refuses who may not do what the role may in the keyspace; in all of them for none.
fn may<T>(request: &Request<T>, role: Role, keyspace: &str) -> Result<(), Status> {
    let keyspace = Some(keyspace).filter(|keyspace| !keyspace.is_empty());
    Caller::check(request.extensions(), role, keyspace)
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init_cluster(
        &self,
        request: Request<v1::InitClusterRequest>,
    ) -> Answer<v1::InitClusterResponse> {
        let request = request.into_inner();
        let replicas_max = u16::try_from(request.replicas_max).map_err(|_| {
            errors::bad_field("replicas_max", "BAD_RING", "65,535 is the most possible")
        })?;
        if request.cluster_name.chars().count() > CLUSTER_NAME_CHARS_MAX {
            let message = format!("at most {CLUSTER_NAME_CHARS_MAX} characters are possible");
            return Err(errors::bad_field("cluster_name", "BAD_NAME", message));
        }
        let addresses = request
            .peer_addresses
            .iter()
            .enumerate()
            .map(|(index, text)| errors::address(&format!("peer_addresses[{index}]"), text));
        let init = InitRequest {
            peer_addresses: addresses.collect::<Result<_, _>>()?,
            cluster_name: request.cluster_name,
            partitions: request.partitions,
            replicas_max,
        };
        let catalogue = self.node.init(init).await.map_err(|error| init_failed(&error))?;
        let members = catalogue.members.iter();
        Ok(Response::new(v1::InitClusterResponse {
            cluster: Some(status::cluster(&catalogue)),
            members: members
                .map(|(id, member)| status::member(&catalogue, *id, &member.value))
                .collect(),
        }))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::NodeStatus> {
        Ok(Response::new(status::of(&self.node)))
    }

    async fn create_keyspace(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Answer<v1::Keyspace> {
        keyspaces::create(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_keyspace(&self, request: Request<v1::GetKeyspaceRequest>) -> Answer<v1::Keyspace> {
        keyspaces::get(&self.node, &request.into_inner().name).map(Response::new)
    }

    async fn list_keyspaces(
        &self,
        request: Request<v1::ListKeyspacesRequest>,
    ) -> Answer<v1::ListKeyspacesResponse> {
        keyspaces::list(&self.node, request.get_ref()).map(Response::new)
    }

    async fn update_keyspace(
        &self,
        request: Request<v1::UpdateKeyspaceRequest>,
    ) -> Answer<v1::Keyspace> {
        let update = request.get_ref();
        let keyspace = update.keyspace.as_ref().map_or("", |keyspace| &keyspace.name);
        may(&request, keyspaces::role_to_update(update), keyspace)?;
        keyspaces::update(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn delete_keyspace(
        &self,
        request: Request<v1::DeleteKeyspaceRequest>,
    ) -> Answer<v1::DeleteKeyspaceResponse> {
        keyspaces::delete(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn push_module(
        &self,
        request: Request<Streaming<v1::PushModuleRequest>>,
    ) -> Answer<v1::Module> {
        modules::push(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_module(&self, request: Request<v1::GetModuleRequest>) -> Answer<v1::Module> {
        modules::look_up(&self.node, request.get_ref()).await.map(Response::new)
    }

    async fn list_modules(
        &self,
        request: Request<v1::ListModulesRequest>,
    ) -> Answer<v1::ListModulesResponse> {
        modules::list(&*self.catalogue()?, request.get_ref()).map(Response::new)
    }

    async fn delete_module(&self, request: Request<v1::DeleteModuleRequest>) -> Answer<v1::Module> {
        modules::delete(&self.node, request.into_inner()).await.map(Response::new)
    }

    type PullModuleStream = modules::Chunks;

    async fn pull_module(
        &self,
        request: Request<v1::PullModuleRequest>,
    ) -> Answer<Self::PullModuleStream> {
        modules::pull(&self.node, &request.get_ref().digest).await.map(Response::new)
    }

    async fn get_module_log(
        &self,
        request: Request<v1::GetModuleLogRequest>,
    ) -> Answer<v1::GetModuleLogResponse> {
        modules::log(&self.node, &request.get_ref().digest).map(Response::new)
    }

    async fn begin_trial(&self, request: Request<v1::BeginTrialRequest>) -> Answer<v1::Keyspace> {
        may(&request, Role::Publisher, &request.get_ref().keyspace)?;
        trials::begin(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn end_trial(&self, request: Request<v1::EndTrialRequest>) -> Answer<v1::Keyspace> {
        may(&request, Role::Publisher, &request.get_ref().keyspace)?;
        trials::end(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_trial(&self, request: Request<v1::GetTrialRequest>) -> Answer<v1::TrialReport> {
        may(&request, Role::Publisher, &request.get_ref().keyspace)?;
        trials::report(&self.node, &request.get_ref().keyspace).map(Response::new)
    }

    type TailConflictsStream = Listed<v1::Conflict>;

    async fn tail_conflicts(
        &self,
        request: Request<v1::TailConflictsRequest>,
    ) -> Answer<Self::TailConflictsStream> {
        may(&request, Role::Reader, &request.get_ref().keyspace)?;
        conflicts::tail(&self.node, request).map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Answer<v1::ListDeadLettersResponse> {
        may(&request, Role::Reader, &request.get_ref().keyspace)?;
        Ok(Response::new(conflicts::letters(&self.node, &request.get_ref().keyspace)))
    }

    type ListRecordingsStream = Listed<v1::Recording>;

    async fn list_recordings(
        &self,
        request: Request<v1::ListRecordingsRequest>,
    ) -> Answer<Self::ListRecordingsStream> {
        may(&request, Role::Reader, &request.get_ref().keyspace)?;
        journals::recordings(&self.node, request.get_ref()).map(Response::new)
    }

    type ListSupersededStream = Listed<v1::Superseded>;

    async fn list_superseded(
        &self,
        request: Request<v1::ListSupersededRequest>,
    ) -> Answer<Self::ListSupersededStream> {
        may(&request, Role::Reader, &request.get_ref().keyspace)?;
        journals::superseded(&self.node, request.get_ref()).map(Response::new)
    }

    async fn stage_ring_change(
        &self,
        request: Request<v1::StageRingChangeRequest>,
    ) -> Answer<v1::RingPlan> {
        ring::stage(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_ring_plan(&self, _: Request<v1::GetRingPlanRequest>) -> Answer<v1::RingPlan> {
        ring::get_plan(&self.node).await.map(Response::new)
    }

    async fn commit_ring_plan(
        &self,
        request: Request<v1::CommitRingPlanRequest>,
    ) -> Answer<v1::CommitRingPlanResponse> {
        ring::commit(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn cancel_ring_plan(
        &self,
        _: Request<v1::CancelRingPlanRequest>,
    ) -> Answer<v1::CancelRingPlanResponse> {
        ring::cancel(&self.node).await.map(Response::new)
    }

    async fn list_transfers(
        &self,
        request: Request<v1::ListTransfersRequest>,
    ) -> Answer<v1::ListTransfersResponse> {
        let driven = self.node.driver.shared().transfers();
        ring::transfers(&*self.catalogue()?, &driven, request.get_ref()).map(Response::new)
    }

    async fn start_repair(&self, request: Request<v1::StartRepairRequest>) -> Answer<v1::Repair> {
        repair::start(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_repair(&self, request: Request<v1::GetRepairRequest>) -> Answer<v1::Repair> {
        repair::get(&self.node, &request.into_inner().id).map(Response::new)
    }

    async fn introduce_node(
        &self,
        request: Request<v1::IntroduceNodeRequest>,
    ) -> Answer<v1::IntroduceNodeResponse> {
        let address = errors::address("peer_address", &request.get_ref().peer_address)?;
        let met = self.node.meet(&address).await.map_err(|error| {
            let message = format!("{error}; nothing was changed");
            errors::status(Code::FailedPrecondition, "PEER_NOT_READY", message, &[])
        })?;
        let (is_member, is_connected) = self.node.is_joined_by(&met).await;
        Ok(Response::new(v1::IntroduceNodeResponse {
            node: Some(status::stranger(met.node, &met.member)),
            is_member,
            is_connected,
        }))
    }

    async fn list_held(
        &self,
        request: Request<v1::ListHeldRequest>,
    ) -> Answer<v1::ListHeldResponse> {
        recover::list_held(&self.node, request.get_ref()).await.map(Response::new)
    }

    async fn bring_home(
        &self,
        request: Request<Streaming<v1::BringHomeRequest>>,
    ) -> Answer<v1::BringHomeResponse> {
        recover::bring_home(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn change_access(
        &self,
        request: Request<v1::ChangeAccessRequest>,
    ) -> Answer<v1::ChangeAccessResponse> {
        access::change(&self.node, request).await.map(Response::new)
    }

    async fn list_access(
        &self,
        _: Request<v1::ListAccessRequest>,
    ) -> Answer<v1::ListAccessResponse> {
        Ok(Response::new(access::list(&*self.catalogue()?)))
    }

    type ListAuditStream = Listed<v1::AuditEntry>;

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Answer<Self::ListAuditStream> {
        audit::list(&self.node, request.get_ref()).map(Response::new)
    }

    type ExportObjectsStream = Listed<v1::ExportObjectsResponse>;

    async fn export_objects(
        &self,
        request: Request<v1::ExportObjectsRequest>,
    ) -> Answer<Self::ExportObjectsStream> {
        objects::export(&self.node, request).map(Response::new)
    }

    async fn import_objects(
        &self,
        request: Request<Streaming<v1::ImportObjectsRequest>>,
    ) -> Answer<v1::ImportObjectsResponse> {
        objects::import(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn set_fault(
        &self,
        request: Request<v1::SetFaultRequest>,
    ) -> Answer<v1::SetFaultResponse> {
        let isolated = request.into_inner().isolated;
        self.node.transport.set_isolated(isolated).map_err(|error| {
            errors::status(Code::FailedPrecondition, "FAULTS_DISABLED", error.to_string(), &[])
        })?;
        tracing::warn!(isolated, "the fault switch was set");
        Ok(Response::new(v1::SetFaultResponse { isolated }))
    }
}
