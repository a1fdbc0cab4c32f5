//! `stator cluster introduce`.

use clap::Args;
use serde_json::json;
use stator_proto::v1;

use crate::address::HostPort;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Example, every node came back at another address, and none knows where the others are:
  stator cluster introduce 10.0.0.7:7103 --admin 10.0.0.8:7102

The two learn where the other is, and the rest of the cluster hears it from them. The setting
`seeds` does that by itself.";

/// Tell a node where another one is, after addresses have changed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Introduce {
    /// The peer address of the other node
    #[arg(value_name = "PEER")]
    address: HostPort,
}

impl Introduce {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = v1::IntroduceNodeRequest { peer_address: self.address.to_string() };
        let met = session.admin().await?.introduce_node(request).await?;
        let node = met.node.unwrap_or_default();
        if session.output == Output::Json {
            output::json(&json!({
                "node_id": node.node_id,
                "peer_address": node.peer_address,
                "is_member": met.is_member,
                "is_connected": met.is_connected,
            }))?;
        } else {
            let standing = match (met.is_member, met.is_connected) {
                (true, true) => "a member, and connected",
                (true, false) => "a member, and not connected yet",
                (false, _) => "no member of this cluster",
            };
            output::line(format!("node {} at {} is {standing}", node.node_id, self.address))?;
        }
        match met.is_member {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Refused,
                format!("node {} is no member of this cluster: nothing was changed", node.node_id),
            )
            .hint("a node that waits becomes one by `stator cluster join`")),
        }
    }
}
