//! What a client may demand of a get or put: that it has seen enough, or that nothing else was written.

use stator_core::causality::Context;
use stator_core::id::Dot;
use stator_core::request::{GetReceipt, QuorumKind};
use stator_core::version::RequestName;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::errors;
use super::kv::{KvService, Named};
use crate::driver::Held;

/// The most dots of a session.
const SESSION_DOTS_MAX: usize = 1_000;

/// Something else was written.
pub(super) fn changed() -> Status {
    let message = "the key holds what the request has not seen; nothing was written: get it again, and \
                   decide anew";
    errors::status(Code::Aborted, "CHANGED", message, &[("effect", "NONE".to_owned())])
}

impl KvService {
    /// Reads until all of `at_least` are seen: at r, then of all owners.
    pub(super) async fn read_after(
        &self,
        named: &Named,
        (r, quorum): (Option<u32>, QuorumKind),
        at_least: &[String],
        deadline: Instant,
        held: &Held,
    ) -> Result<GetReceipt, Status> {
        if at_least.len() > SESSION_DOTS_MAX {
            let message = format!("at most {SESSION_DOTS_MAX} dots are possible");
            return Err(errors::bad_field("at_least", "TOO_MANY_DOTS", message));
        }
        let dots = at_least.iter().map(|text| text.parse::<Dot>());
        let dots: Vec<Dot> = dots
            .collect::<Result<_, _>>()
            .map_err(|error| errors::bad_field("at_least", "BAD_DOT", error.to_string()))?;
        let has_all =
            |receipt: &GetReceipt| dots.iter().all(|dot| receipt.siblings.vector().contains(dot));
        let first = self.read(named, (r, quorum), deadline, held).await?;
        if has_all(&first) {
            return Ok(first);
        }
        let catalogue = self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let partition = catalogue.ring.partition(named.keyspace.id, &named.key);
        // Where there are fewer nodes than n, all of them.
        let n = named.keyspace.reading().n as usize;
        let owners = catalogue.ring.preference_list(partition, n).primaries().len() as u32;
        let all = self.read(named, (Some(owners), QuorumKind::Strict), deadline, held).await;
        match all {
            Ok(receipt) if has_all(&receipt) => Ok(receipt),
            // All owners know nothing of the key: what was seen was deleted, and is forgotten.
            Ok(receipt) if receipt.siblings.vector().is_empty() => Ok(receipt),
            Ok(_) | Err(_) => {
                let message = "not all of at_least is seen by the owners in reach: a write of it may be \
                               a hint for one that is away; try again";
                let facts = [("effect", "NONE".to_owned())];
                Err(errors::status(Code::Unavailable, "SESSION_BEHIND", message, &facts))
            }
        }
    }

    /// Refuses a write whose context has not seen all that is there. What an earlier try of it has
    /// written is no other write.
    pub(super) async fn is_current(
        &self,
        named: &Named,
        (context, name): (&Context, Option<&RequestName>),
        deadline: Instant,
        held: &Held,
    ) -> Result<(), Status> {
        let found = self.read(named, (None, QuorumKind::Sloppy), deadline, held).await?.siblings;
        let now_ms = self.node.clock.now().wall_ms;
        let mut live = found.live().filter(|(_, version)| version.counts_at(now_ms));
        let is_own = |request: Option<&RequestName>| request.is_some() && request == name;
        let is_seen = live.all(|(dot, version)| {
            context.vector.contains(&dot) || is_own(version.request.as_ref())
        });
        match is_seen {
            true => Ok(()),
            false => Err(changed()),
        }
    }
}
