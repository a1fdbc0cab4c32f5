//! `grpc.health.v1.Health`: whether a listener's services serve, for load balancers.
//!
//! | state of the node | `stator.v1.Kv`, `stator.v1.Routing`, `` on the client listener | `stator.v1.Admin`, `` on the admin listener |
//! |---|---|---|
//! | waits for `cluster init` | NOT_SERVING | SERVING |
//! | serves; also while a lost store is refilled, and while a store takes no writes | SERVING | SERVING |
//! | was removed, or is refused by its cluster | NOT_SERVING | SERVING |
//! | stops | NOT_SERVING | NOT_SERVING |
//!
//! NOT_SERVING is where every request is refused. A node whose store takes no writes still reads,
//! and has other owners write; were all of a cluster's disks full, balancers that turn away from
//! every node would make reads fail too. A node that starts answers nobody yet, this service
//! neither. Services of other names are NOT_FOUND to a check and SERVICE_UNKNOWN to a watch, as
//! the protocol says. When the node stops, watches are told and then end.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::errors;

/// The most watches of one listener.
const WATCHES_MAX: usize = 1_024;

/// The service of one listener.
pub struct HealthService {
    services: &'static [&'static str],
    is_serving: watch::Receiver<bool>,
    watches: Arc<Semaphore>,
}

impl HealthService {
    /// Tells of `services`, and of the listener as a whole under the empty name, whether they
    /// serve. Once the sender is gone, watches end.
    pub fn new(services: &'static [&'static str], is_serving: watch::Receiver<bool>) -> Self {
        HealthService { services, is_serving, watches: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }

    fn is_known(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving(is_serving: bool) -> ServingStatus {
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if self.is_known(&service) {
            return Ok(Response::new(response(serving(*self.is_serving.borrow()))));
        }
        let message = format!("this listener has no service {service:?}");
        Err(errors::status(Code::NotFound, "UNKNOWN_SERVICE", message, &[("service", service)]))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.watches.clone().try_acquire_owned();
        let place = place.map_err(|_| errors::overloaded("health watches", WATCHES_MAX))?;
        let is_known = self.is_known(&request.into_inner().service);
        let mut is_serving = self.is_serving.clone();
        let stream = async_stream::stream! {
            let _place = place;
            let mut told = None;
            loop {
                let now = match is_known {
                    true => serving(*is_serving.borrow_and_update()),
                    false => ServingStatus::ServiceUnknown,
                };
                if told != Some(now) {
                    told = Some(now);
                    yield Ok(response(now));
                }
                if is_serving.changed().await.is_err() {
                    return;
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn asked(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn watches_are_told_of_the_stop_and_end() {
        let sender = watch::Sender::new(true);
        let health = HealthService::new(&["stator.v1.Kv"], sender.subscribe());
        for service in ["", "stator.v1.Kv"] {
            let checked = health.check(asked(service)).await.expect("known").into_inner();
            assert_eq!(checked.status(), ServingStatus::Serving);
        }
        assert_eq!(health.check(asked("Kv")).await.expect_err("unknown").code(), Code::NotFound);
        let mut watch = health.watch(asked("")).await.expect("watched").into_inner();
        let mut unknown = health.watch(asked("Kv")).await.expect("watched").into_inner();
        let next = async |watch: &mut <HealthService as Health>::WatchStream| {
            watch.next().await.map(|told| told.expect("told").status())
        };
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
        assert_eq!(next(&mut unknown).await, Some(ServingStatus::ServiceUnknown));
        sender.send_replace(false);
        drop(sender);
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
        assert_eq!(next(&mut watch).await, None);
        assert_eq!(next(&mut unknown).await, None);
    }
}
