//! Quorums of a region, for clusters that are spread over several.
//!
//! The owners of a key may be in several regions, with tens of milliseconds between them. With
//! [`QuorumKind::Local`] a request waits only for those in the coordinator's region: r and w count
//! these, and are the majority of them unless the client says otherwise. Every owner is sent a put
//! all the same, at once, and who is in a region that is cut off is owed it like any owner that is away:
//! a hint is kept, and anti-entropy compares. A get asks nobody in another region, not even to repair.
//!
//! What is promised: with majorities, a get sees what was put through a node of the same region before,
//! as with a strict quorum, as long as no owner there loses what it acknowledged. What was put in another
//! region comes when it comes. What is acknowledged is in one region only until then.
//!
//! Which nodes are in one region is their own word ([`crate::catalogue::Member`]). Owners are spread over
//! zones, so zones that are named after their regions spread them over these. Left out: fallbacks of
//! the same region that count for a local quorum; a region as the place of a partition.

use super::Node;
use crate::id::NodeId;
use crate::request::{QuorumKind, RequestError};

impl Node {
    /// Whether a node is in this one's region.
    pub(super) fn is_near(&self, node: NodeId) -> bool {
        self.regions.as_ref().is_none_or(|regions| regions.are_near(node, self.id))
    }

    /// Whether a node counts for a quorum of this kind.
    pub(super) fn counts_for(&self, kind: QuorumKind, node: NodeId) -> bool {
        kind != QuorumKind::Local || self.is_near(node)
    }

    /// How many nodes must answer, where `needed` would have to of all owners.
    pub(super) fn needed_of(
        &self,
        kind: QuorumKind,
        owners: &[NodeId],
        (name, asked, needed): (&'static str, Option<u32>, u32),
    ) -> Result<u32, RequestError> {
        if kind != QuorumKind::Local {
            return Ok(needed);
        }
        let owners = owners.iter().filter(|owner| self.is_near(**owner)).count() as u32;
        let needed = asked.unwrap_or(owners / 2 + 1);
        match needed <= owners {
            true => Ok(needed),
            false => Err(RequestError::TooFewNear { name, needed, owners }),
        }
    }
}
