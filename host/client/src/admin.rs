//! Running a cluster: the admin listener.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::{upload, v1};
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::error::Error;
use crate::line::Line;
use crate::nodes::{ANSWER_BYTES_MAX, Nodes, dial, made};
use crate::options::Options;
use crate::pages::{Export, import_messages};
use crate::peer::Peer;
use crate::retry::Safety;

/// A client of the admin listeners of some nodes. Clones share connections.
///
/// One method for each call of the service, by the messages of [`v1`]; what reads is retried as a
/// get is.
#[derive(Debug, Clone)]
pub struct Admin {
    nodes: Arc<Nodes>,
}

fn admin(channel: Line) -> AdminClient<Line> {
    AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Calls of one message, alike but for their types.
macro_rules! calls {
    ($($(#[$doc:meta])* $safety:ident $name:ident($request:ident) -> $answer:ident;)*) => {
        impl Admin {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The node's word.
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                    let send = async |channel, request| admin(channel).$name(request).await;
                    self.nodes.call(Safety::$safety, request, send).await
                }
            )*
        }
    };
}

calls! {
    /// Makes one cluster of the node and others that wait for one.
    Once init_cluster(InitClusterRequest) -> InitClusterResponse;
    /// What the node is, does and sees.
    Repeatable get_status(GetStatusRequest) -> NodeStatus;
    /// Makes a keyspace.
    Once create_keyspace(CreateKeyspaceRequest) -> Keyspace;
    /// Looks a keyspace up.
    Repeatable get_keyspace(GetKeyspaceRequest) -> Keyspace;
    /// One page of the keyspaces.
    Repeatable list_keyspaces(ListKeyspacesRequest) -> ListKeyspacesResponse;
    /// Changes what a keyspace promises.
    Once update_keyspace(UpdateKeyspaceRequest) -> Keyspace;
    /// Deletes a keyspace with all its keys.
    Once delete_keyspace(DeleteKeyspaceRequest) -> DeleteKeyspaceResponse;
    /// Looks a module up.
    Repeatable get_module(GetModuleRequest) -> Module;
    /// One page of the modules.
    Repeatable list_modules(ListModulesRequest) -> ListModulesResponse;
    /// Deletes a module that no keyspace needs.
    Once delete_module(DeleteModuleRequest) -> Module;
    /// Tries a module beside the one that a keyspace is pinned to.
    Once begin_trial(BeginTrialRequest) -> Keyspace;
    /// Ends a trial.
    Once end_trial(EndTrialRequest) -> Keyspace;
    /// What the node has seen of a trial.
    Repeatable get_trial(GetTrialRequest) -> TrialReport;
    /// The last lines that a module has logged on the node.
    Repeatable get_module_log(GetModuleLogRequest) -> GetModuleLogResponse;
    /// The keys that the node could not merge.
    Repeatable list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    /// Stages a change of the ring, and answers with the plan.
    Once stage_ring_change(StageRingChangeRequest) -> RingPlan;
    /// What is staged, and what committing it would do.
    Repeatable get_ring_plan(GetRingPlanRequest) -> RingPlan;
    /// Makes what is staged the next ring.
    Once commit_ring_plan(CommitRingPlanRequest) -> CommitRingPlanResponse;
    /// Drops what is staged.
    Once cancel_ring_plan(CancelRingPlanRequest) -> CancelRingPlanResponse;
    /// One page of what is still to be handed over.
    Repeatable list_transfers(ListTransfersRequest) -> ListTransfersResponse;
    /// Has all owners compared and repaired.
    Once start_repair(StartRepairRequest) -> Repair;
    /// How far a repair is that the node was asked for.
    Repeatable get_repair(GetRepairRequest) -> Repair;
    /// Tells the node where another one is, and that one where it is.
    Repeatable introduce_node(IntroduceNodeRequest) -> IntroduceNodeResponse;
    /// One page of what a node holds that was removed from its cluster.
    Repeatable list_held(ListHeldRequest) -> ListHeldResponse;
    /// Changes what somebody may do.
    Once change_access(ChangeAccessRequest) -> ChangeAccessResponse;
    /// Who may do what.
    Repeatable list_access(ListAccessRequest) -> ListAccessResponse;
    /// Cuts the node off from its peers, or heals the cut.
    Repeatable set_fault(SetFaultRequest) -> SetFaultResponse;
}

impl Admin {
    /// A client of the nodes at `endpoints`, each `HOST:PORT` of an admin listener, without TLS.
    ///
    /// # Errors
    /// An endpoint is no address, or there is none.
    pub fn connect<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> Result<Self, Error> {
        Admin::of(dial(endpoints)?, Options::default())
    }

    /// A client over channels that were made elsewhere, with TLS for instance.
    ///
    /// # Errors
    /// There is no channel.
    pub fn over(channels: Vec<Channel>, options: Options) -> Result<Self, Error> {
        Admin::of(made(channels), options)
    }

    fn of(endpoints: Vec<Peer>, options: Options) -> Result<Self, Error> {
        Ok(Admin { nodes: Arc::new(Nodes::new(endpoints, options)?) })
    }

    /// All keyspaces, in order of their names.
    ///
    /// # Errors
    /// The node's word.
    pub async fn keyspaces(&self) -> Result<Vec<v1::Keyspace>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListKeyspacesRequest { page_size: 0, page_token };
            let page = self.list_keyspaces(request).await?;
            all.extend(page.keyspaces);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// All modules, in order of their digests.
    ///
    /// # Errors
    /// The node's word.
    pub async fn modules(&self) -> Result<Vec<v1::Module>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListModulesRequest { page_size: 0, page_token };
            let page = self.list_modules(request).await?;
            all.extend(page.modules);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The distinct merges of the node, in order, and further ones as they happen, for as long as
    /// that takes. Nothing is retried: who was cut off goes on after the last record that came.
    ///
    /// # Errors
    /// The node's word.
    pub async fn tail_conflicts(
        &self,
        request: v1::TailConflictsRequest,
    ) -> Result<Streaming<v1::Conflict>, Error> {
        Ok(admin(self.nodes.channel()).tail_conflicts(Request::new(request)).await?.into_inner())
    }

    /// The whole inputs of merges that the node has recorded of a keyspace.
    ///
    /// # Errors
    /// The node's word.
    pub async fn list_recordings(
        &self,
        request: v1::ListRecordingsRequest,
    ) -> Result<Streaming<v1::Recording>, Error> {
        Ok(admin(self.nodes.channel()).list_recordings(Request::new(request)).await?.into_inner())
    }

    /// The versions that made way for others in the node's store.
    ///
    /// # Errors
    /// The node's word.
    pub async fn list_superseded(
        &self,
        request: v1::ListSupersededRequest,
    ) -> Result<Streaming<v1::Superseded>, Error> {
        Ok(admin(self.nodes.channel()).list_superseded(Request::new(request)).await?.into_inner())
    }

    /// The calls of the admin service that the node has written down.
    ///
    /// # Errors
    /// The node's word.
    pub async fn list_audit(&self) -> Result<Streaming<v1::AuditEntry>, Error> {
        let request = Request::new(v1::ListAuditRequest {});
        Ok(admin(self.nodes.channel()).list_audit(request).await?.into_inner())
    }

    /// The objects of a keyspace as they are stored. Where the stream breaks off it goes on by itself.
    pub fn export(&self, request: v1::ExportObjectsRequest) -> Export {
        Export::new(self.nodes.clone(), request, admin)
    }

    /// Takes objects in as they are. It is repeated while owners are away: to take an object in
    /// twice is to take it in once.
    ///
    /// # Errors
    /// The node's word. Some objects may have been taken; to do it again does no harm.
    pub async fn import(
        &self,
        header: v1::ImportHeader,
        objects: Vec<(Bytes, Bytes)>,
    ) -> Result<v1::ImportObjectsResponse, Error> {
        let messages = import_messages(header, objects);
        let send = async |channel, request: Request<_>| {
            admin(channel).import_objects(request.map(futures::stream::iter)).await
        };
        self.nodes.call(Safety::Repeatable, messages, send).await
    }

    /// The bytes of the module with this digest.
    ///
    /// # Errors
    /// The node's word; or it ended before all had come.
    pub async fn pull_module(&self, digest: impl Into<String>) -> Result<Bytes, Error> {
        let request = v1::PullModuleRequest { digest: digest.into() };
        let send = async |channel, request| admin(channel).pull_module(request).await;
        let mut parts = self.nodes.call(Safety::Repeatable, request, send).await?;
        let mut component = BytesMut::new();
        while let Some(part) = parts.message().await? {
            component.extend_from_slice(&part.chunk);
        }
        Ok(component.freeze())
    }

    /// Hands a page of [`Self::list_held`] to a member, again while owners are away. With `doubtful`
    /// it also takes what may have been deleted and forgotten; a `dry_run` changes nothing.
    ///
    /// # Errors
    /// The node's word. Some objects may have been taken; to do it again does no harm.
    pub async fn bring_home(
        &self,
        held: v1::ListHeldResponse,
        doubtful: bool,
        dry_run: bool,
    ) -> Result<v1::BringHomeResponse, Error> {
        let messages: Vec<_> = upload::page(held.page, held.proof, doubtful, dry_run).collect();
        let send = async |channel, request: Request<Vec<_>>| {
            admin(channel).bring_home(request.map(futures::stream::iter)).await
        };
        self.nodes.call(Safety::Repeatable, messages, send).await
    }

    /// [`Self::push_module_as`] of class small.
    ///
    /// # Errors
    /// The node's word.
    pub async fn push_module(
        &self,
        name: impl Into<String>,
        digest: impl Into<String>,
        component: Bytes,
        validate_only: bool,
    ) -> Result<v1::Module, Error> {
        let small = v1::ModuleClass::Small;
        self.push_module_as(small, name, digest, component, validate_only).await
    }

    /// Uploads a merge module of this class of limits, in one attempt. `digest` is what the node must find (64 hexadecimal
    /// digits), empty to leave it unchecked; `validate_only` keeps nothing.
    ///
    /// # Errors
    /// The node's word.
    pub async fn push_module_as(
        &self,
        class: v1::ModuleClass,
        name: impl Into<String>,
        digest: impl Into<String>,
        component: Bytes,
        validate_only: bool,
    ) -> Result<v1::Module, Error> {
        let (name, digest, class) = (name.into(), digest.into(), class.into());
        let header = v1::ModuleHeader { name, digest, validate_only, class, ..Default::default() };
        self.push_module_with(header, component).await
    }

    /// As [`Self::push_module_as`], with all that a header can say, signatures for instance; the size
    /// it is given here.
    ///
    /// # Errors
    /// The node's word.
    pub async fn push_module_with(
        &self,
        header: v1::ModuleHeader,
        component: Bytes,
    ) -> Result<v1::Module, Error> {
        let messages = upload::messages_with(header, component);
        let mut request = Request::new(futures::stream::iter(messages));
        request.set_timeout(self.nodes.timeout());
        Ok(admin(self.nodes.channel()).push_module(request).await?.into_inner())
    }
}
