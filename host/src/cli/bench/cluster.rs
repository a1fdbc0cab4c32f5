//! The bench's own cluster (`--local`): nodes on this machine with one keyspace.

use stator_client::Admin;
use stator_proto::v1;

use super::options::Options;
use crate::cli::failure::Failure;
use crate::demo::client::NodeClient;
use crate::demo::verify;
use crate::local::{Addresses, Launch, Nodes};

/// The keyspace that is made.
pub(super) const KEYSPACE: &str = "bench";

/// Starts `count` nodes and makes them a cluster with the keyspace that `options` ask for.
///
/// # Errors
/// A node did not start, or refused; or the module cannot be read.
pub(super) async fn start(count: u8, options: &Options) -> Result<Nodes, Failure> {
    let module = options.local.module.as_deref().map(|path| {
        std::fs::read(path)
            .map_err(|error| Failure::usage(format!("--module {}: {error}", path.display())))
    });
    let module = module.transpose()?;
    let engine = options.local.engine.map(|engine| format!("--engine={}", engine.name()));
    let launch = Launch {
        nodes: count.into(),
        flags: engine.into_iter().chain(options.local.serve_flag.iter().cloned()).collect(),
        place: options.local.dir.clone(),
        keep: options.local.keep,
        link_delay: options.local.link_delay,
        far: options.local.far.into(),
    };
    let nodes = Nodes::start(&launch).await?;
    let made = make_cluster(&nodes, module, options).await;
    made.map_err(|failure| failure.hint(nodes.log_tails()))?;
    Ok(nodes)
}

async fn make_cluster(
    nodes: &Nodes,
    module: Option<Vec<u8>>,
    options: &Options,
) -> Result<(), Failure> {
    let addresses: Vec<&Addresses> = nodes.addresses().collect();
    let admin = Admin::connect(addresses.iter().take(1).map(|node| &node.admin))?;
    let request = v1::InitClusterRequest {
        peer_addresses: addresses.iter().map(|node| node.peer.clone()).collect(),
        cluster_name: KEYSPACE.to_owned(),
        ..Default::default()
    };
    admin.init_cluster(request).await?;
    let clients: anyhow::Result<Vec<_>> =
        addresses.iter().map(|node| NodeClient::new(&node.client, &node.admin)).collect();
    let clients = clients?;
    verify::settle(&clients).await?;
    let mut reconcile = v1::Reconcile::default();
    if let Some(component) = module {
        let pushed = admin.push_module(KEYSPACE, "", component.into(), false).await?;
        reconcile.set_policy(v1::ReconcilePolicy::Module);
        reconcile.module_digest = pushed.digest;
    } else if options.blind {
        reconcile.set_policy(v1::ReconcilePolicy::LastWriteWins);
    }
    let keyspace = v1::Keyspace {
        name: KEYSPACE.to_owned(),
        n: options.local.replicas().unwrap_or_default(),
        reconcile: Some(reconcile),
        ..Default::default()
    };
    let create = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
    admin.create_keyspace(create).await?;
    Ok(verify::until_everywhere(&clients, &[KEYSPACE]).await?)
}
