//! Bringing home what a process holds that is no member: which of its objects the members lack. It
//! is a node that was removed, or a second holder of one's place ([`crate::holder`]): a copy of a
//! data directory that was served for a while.
//!
//! What it holds beyond the members is of two kinds that look alike. Either it is a write that no
//! member ever saw; or all saw it, it was deleted, and since then the members have forgotten it with
//! its tombstone, because they need not wait for a process that is gone. The
//! second kind would come back as if it had never been deleted. So an object is *new* only if
//! that can be told:
//!
//! - a vector that knows an actor has seen exactly its writes up to a counter, so a later one of
//!   that actor was never seen;
//! - what a removed node wrote after its last contact with anyone who is a member still, by its
//!   own clock, can have reached nobody; nor can what a second holder wrote then, in the start in
//!   which it runs. What a directory has of earlier starts may have been copied with it, and the
//!   original may have passed it on.
//!
//! Everything else that is unknown to the members is *doubtful*, and comes home only if an
//! operator wants it to. An object comes whole: its vector without one of its versions would
//! claim that this one is dead.
//!
//! Left out: a write that reached members by way of another process that is no member, after the last
//! contact of the one that minted it.

use std::sync::Arc;

use bytes::Bytes;

use crate::causality::Siblings;
use crate::id::{Actor, Dot, KeyspaceId, NodeId};

/// An object that a former member, or a second holder of one's place, held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Homecoming {
    /// Who held it: the id of both holders, if there are two.
    pub from: NodeId,
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// Its key.
    pub key: Bytes,
    /// The object.
    pub siblings: Arc<Siblings>,
}

/// What the members know of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All its versions were seen by the members.
    Known,
    /// A version was certainly never seen by them.
    New,
    /// A version is unknown to them: never seen, or deleted and forgotten.
    Doubtful,
}

/// How `held` stands to what all owners hold together. `alone_since_ms` is when the node that
/// held it last had contact to a member, and `is_own` whether only processes without contact since
/// can have passed on what this actor wrote then.
pub fn standing(
    held: &Siblings,
    owners: &Siblings,
    alone_since_ms: u64,
    is_own: impl Fn(Actor) -> bool,
) -> Standing {
    let mut standing = Standing::Known;
    for (dot, version) in held.live() {
        if owners.vector().contains(&dot) {
            continue;
        }
        let is_actor_known = owners.vector().get(&dot.actor) > 0;
        let is_later = is_own(dot.actor) && version.written_at_ms >= alone_since_ms;
        if is_actor_known || is_later {
            return Standing::New;
        }
        standing = Standing::Doubtful;
    }
    standing
}

/// The live dots of `held` that the owners have not seen.
pub fn unseen(held: &Siblings, owners: &Siblings) -> Vec<Dot> {
    held.live().map(|(dot, _)| dot).filter(|dot| !owners.vector().contains(dot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::VersionVector;
    use crate::id::Incarnation;
    use crate::version::Version;

    const GONE: NodeId = NodeId(3);

    fn dot(node: u64, counter: u64) -> Dot {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 };
        Dot { actor, counter }
    }

    fn written(object: &mut Siblings, context: &VersionVector, dot: Dot, at_ms: u64) {
        let version = Version::plain(dot, dot.to_string(), at_ms);
        object.put(context, dot, Arc::new(version));
    }

    fn judge(held: &Siblings, owners: &Siblings) -> Standing {
        standing(held, owners, 1_000, |actor| actor.node == GONE)
    }

    #[test]
    fn what_the_owners_have_seen_is_known_whatever_became_of_it() {
        let mut held = Siblings::new();
        written(&mut held, &VersionVector::new(), dot(3, 1), 2_000);
        let mut owners = held.clone();
        assert_eq!(judge(&held, &owners), Standing::Known);
        let seen = owners.vector().clone();
        written(&mut owners, &seen, dot(1, 1), 3_000);
        assert_eq!(judge(&held, &owners), Standing::Known, "it was replaced");
    }

    #[test]
    fn what_was_written_alone_is_new_and_what_may_be_forgotten_is_doubtful() {
        let nobody = Siblings::new();
        for (node, at_ms, expected) in [
            (3, 1_000, Standing::New),
            (3, 999, Standing::Doubtful),
            (1, 2_000, Standing::Doubtful),
        ] {
            let mut held = Siblings::new();
            written(&mut held, &VersionVector::new(), dot(node, 1), at_ms);
            assert_eq!(judge(&held, &nobody), expected, "node {node} at {at_ms} ms");
        }
    }

    #[test]
    fn a_later_write_of_an_actor_that_is_known_is_new() {
        let mut held = Siblings::new();
        written(&mut held, &VersionVector::new(), dot(3, 1), 10);
        let owners = held.clone();
        let seen = held.vector().clone();
        written(&mut held, &seen, dot(3, 2), 20);
        assert_eq!(judge(&held, &owners), Standing::New);
        assert_eq!(unseen(&held, &owners), [dot(3, 2)]);
    }

    #[test]
    fn one_version_that_is_new_brings_its_siblings() {
        let mut held = Siblings::new();
        written(&mut held, &VersionVector::new(), dot(1, 1), 10);
        written(&mut held, &VersionVector::new(), dot(3, 1), 2_000);
        assert_eq!(judge(&held, &Siblings::new()), Standing::New);
    }
}
