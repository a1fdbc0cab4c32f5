//! `stator health`: whether a node serves, for scripts and supervisors.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::failure::{Failure, Kind};
use super::output::{self, Output};
use super::parse;
use super::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator health
  stator health --wait 60s --endpoint 10.0.0.7:7101

Exit code 0: the node serves clients. 4: it does not answer, or belongs to no cluster yet, or was removed.
It needs no role.";

/// Tell whether a node serves clients
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Health {
    /// Wait so long until it does
    #[arg(long, value_parser = parse::duration, value_name = "DURATION")]
    wait: Option<Duration>,
}

/// How often it is asked while it is waited for.
const POLL: Duration = Duration::from_millis(200);

impl Health {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let until = Instant::now() + self.wait.unwrap_or_default();
        loop {
            let failure = match check(session).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            if Instant::now() >= until {
                return Err(failure);
            }
            sleep(POLL).await;
        }
        match session.output {
            Output::Json => output::json(&json!({ "serving": true })),
            Output::Table => output::line("serving"),
        }
    }
}

async fn check(session: &Session) -> Result<(), Failure> {
    let mut client = HealthClient::new(session.client_channel().await?);
    let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    request.set_timeout(session.timeout());
    let status = client.check(request).await?.into_inner().status();
    match status {
        ServingStatus::Serving => Ok(()),
        _ => {
            let message = "the node answers and does not serve clients: it has no cluster yet, or \
                           was removed from it, or is stopping";
            Err(Failure::new(Kind::Unavailable, message).hint("`stator cluster status` says more"))
        }
    }
}
