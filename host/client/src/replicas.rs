//! A get that the client coordinates (section 6.4 of the Dynamo paper, "client-driven coordination").
//!
//! The r owners that cost least are asked for what they hold. One that refuses is replaced by the next
//! owner at once, and one that is slower than usual ([`crate::pace`]) gets company: a *hedged request*
//! (Dean and Barroso, "The Tail at Scale", CACM 2013), if the budget has one. The first r answers are
//! joined ([`crate::join`]). Whatever is in the way, the ring that is unknown or stale, too few owners,
//! a deadline that is half over, owners that differ, is no error: a node coordinates the get then, and
//! whether it fails is that node's word.
//!
//! Why r answers suffice: each is given by a node that owns the key by its own ring and would be
//! counted by a coordinator with the client's ring, and r is the largest that one of them names.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stator_proto::v1;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Request;

use crate::client::kv;
use crate::entry::Entry;
use crate::error::Error;
use crate::join::Join;
use crate::peer::{Kind, Outcome, Peer, by_cost};
use crate::routes::{Owners, Routes};

/// Reads a key from its owners; `None` if a node is to coordinate the get.
pub(crate) async fn read(
    routes: &Arc<Routes>,
    keyspace: &str,
    key: &Bytes,
    deadline: Instant,
) -> Option<Entry> {
    let Owners { route, ring_version, peers } = routes.owners(keyspace, key)?;
    routes.nodes.begin();
    let now = Instant::now();
    let until = now + deadline.saturating_duration_since(now) / 2;
    let request = v1::GetReplicaRequest {
        keyspace: keyspace.to_owned(),
        keyspace_id: route.id.to_string(),
        key: key.clone(),
        ring_version,
    };
    let get = Get { routes, request, until };
    let join = timeout_at(until, get.ask(by_cost(peers, Kind::Replica), route.r)).await;
    Some(join.ok()??.entry(keyspace, key))
}

/// One get under way.
struct Get<'a> {
    routes: &'a Routes,
    request: v1::GetReplicaRequest,
    until: Instant,
}

impl Get<'_> {
    async fn ask(&self, owners: Vec<Arc<Peer>>, r: usize) -> Option<Join> {
        let mut join = Join::of(r);
        let mut spares = owners.into_iter();
        let mut waiting = FuturesUnordered::new();
        let mut hedge_at = Instant::now();
        loop {
            while waiting.len() < join.lacking() {
                let owner = spares.next()?;
                hedge_at = hedge_at.max(Instant::now() + owner.patience(Kind::Replica));
                waiting.push(self.ask_one(owner));
            }
            if join.lacking() == 0 {
                return Some(join);
            }
            tokio::select! {
                biased;
                Some(answer) = waiting.next() => match answer {
                    Ok(answer) => join.add(answer)?,
                    // Its place is filled by the next owner.
                    Err(error) => self.refused(&error)?,
                },
                () = sleep_until(hedge_at), if spares.len() > 0 => {
                    hedge_at = self.until;
                    if self.routes.nodes.may_repeat() {
                        waiting.extend(spares.next().map(|owner| self.ask_one(owner)));
                    }
                }
            }
        }
    }

    async fn ask_one(&self, owner: Arc<Peer>) -> Result<v1::GetReplicaResponse, Error> {
        let mut request = Request::new(self.request.clone());
        request.set_timeout(self.until.saturating_duration_since(Instant::now()));
        let asked = owner.ask(Kind::Replica);
        match kv(owner.channel.clone()).get_replica(request).await {
            Ok(answer) => {
                asked.end(Outcome::Answered);
                let answer = answer.into_inner();
                self.routes.heard(answer.ring_version);
                Ok(answer)
            }
            Err(status) => {
                let error = Error::from(status);
                asked.end(self.routes.nodes.judged(&error));
                Err(error)
            }
        }
    }

    /// What an owner's refusal asks for: `None` is a coordinator.
    fn refused(&self, error: &Error) -> Option<()> {
        match error.reason() {
            // It may own the key again, for which its copy is to be repaired.
            "REPLICA_NOT_WHOLE" => None,
            "ROUTE_STALE" | "NOT_OWNER" => {
                self.routes.note_stale();
                (error.reason() == "NOT_OWNER").then_some(())
            }
            _ => Some(()),
        }
    }
}
