//! Whether this process is the node that it says it is ([`crate::holder`]), and who the others are.
//!
//! A node of a cluster with other members takes a client's write only once one of them has accepted
//! this start of it: a copy in a corner of the network must not acknowledge what nobody will have.
//! Once it hears that another process is the node, it serves nothing, and ends what it has begun for
//! clients: what only it took is brought home by an operator ([`crate::homecoming`]).

use super::{Node, Purpose};
use crate::catalogue::Catalogue;
use crate::event::Notice;
use crate::holder::{Holder, Standing};
use crate::id::{Incarnation, NodeId};
use crate::request::RequestError;

/// What a node knows of itself.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Of this start; without one, as in worlds without copies, the node is taken as the holder.
    incarnation: Option<Incarnation>,
    /// Whether a member ever accepted this start.
    is_accepted: bool,
    /// Who is the node, if that is what a member said last.
    refused_for: Option<Holder>,
    /// What was told last.
    told: Option<Standing>,
}

impl Node {
    /// Says in which start of the node it runs. To be called before the first event.
    pub fn live_as(&mut self, incarnation: Incarnation) {
        self.holding.incarnation = Some(incarnation);
        self.look_at_standing();
    }

    /// Whether this process is served as the node.
    pub fn standing(&self) -> Standing {
        let Holding { incarnation, is_accepted, refused_for, .. } = &self.holding;
        let is_alone = self.catalogue.as_ref().is_none_or(|c| c.members.len() <= 1);
        match refused_for {
            _ if incarnation.is_none() || is_alone => Standing::Held,
            Some(holder) => Standing::Refused(holder.clone()),
            None if *is_accepted => Standing::Held,
            None => Standing::Asking,
        }
    }

    /// Whether a client may write.
    pub(super) fn may_write(&self) -> Result<(), RequestError> {
        match self.standing() {
            Standing::Held => Ok(()),
            Standing::Asking => Err(RequestError::NotAccepted),
            Standing::Refused(holder) => Err(refused(holder)),
        }
    }

    /// Whether this process may take part in agreeing on a ring, for which it must be the node.
    pub(super) fn may_vote(&self) -> Result<(), RequestError> {
        self.may_write()
    }

    /// Whether a client may read, and an operator commit.
    pub(super) fn may_read(&self) -> Result<(), RequestError> {
        match self.standing() {
            Standing::Held | Standing::Asking => Ok(()),
            Standing::Refused(holder) => Err(refused(holder)),
        }
    }

    /// A member said that another process is this node, or with `None` that this one is. The last
    /// word counts: members that disagree do so for as long as gossip takes.
    pub(super) fn told_by_member(&mut self, holder: Option<Holder>) {
        self.holding.is_accepted |= holder.is_none();
        self.holding.refused_for = holder;
        self.look_at_standing();
        if let Standing::Refused(holder) = self.standing() {
            self.leave_requests(&refused(holder));
        }
    }

    /// A member has another holder from now on.
    pub(super) fn hold(&mut self, node: NodeId, holder: &Holder) {
        let Some(catalogue) = &self.catalogue else { return };
        if catalogue.removed.contains_key(&self.id) {
            return;
        }
        let mut changed = Catalogue::clone(catalogue);
        let Some(member) = changed.members.get_mut(&node) else { return };
        let held = member.value.held_by(holder);
        if held == member.value {
            return;
        }
        member.change(held);
        self.publish(changed, Purpose::Gossip);
    }

    /// Tells how this process stands, if that is news.
    pub(super) fn look_at_standing(&mut self) {
        let standing = self.standing();
        if self.holding.told.as_ref() != Some(&standing) {
            self.holding.told = Some(standing.clone());
            self.notice(Notice::Standing(standing));
        }
    }
}

fn refused(holder: Holder) -> RequestError {
    let Holder { incarnation, peer_address: address, .. } = holder;
    RequestError::SecondHolder { incarnation, address }
}
