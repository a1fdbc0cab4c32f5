//! What this node has asked of others for itself, and which of its parts waits for the answer.
//!
//! A client's get or put asks several nodes under one number, and knows by itself whom it waits
//! for ([`super::client`]). All else asks one node under a number of its own. It stands here until
//! that node has answered, could not be reached or is late, whichever comes first. So what becomes
//! of a question is told to exactly the part that asked, once, and no part looks for late ones.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::exchange::{ExchangeId, Told};
use super::{Node, Timer};
use crate::event::RepairId;
use crate::id::{NodeId, PartitionId, RequestId};
use crate::message::{Message, ReplicaError};

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    /// An exchange, to a question.
    Exchange(ExchangeId),
    /// An exchange that has sent this key's object.
    Repair(ExchangeId, Bytes),
    /// An operator's repair, that has this partition compared.
    Comparison(RepairId, PartitionId),
    /// A page that is being read.
    Listing(RequestId),
    /// Handoff, that has sent a hint for this target at this attempt.
    Hint(NodeId, u64),
    /// A transfer of this partition to this node.
    Transfer(PartitionId),
    /// A round of collection.
    Collection,
}

/// All that is asked and not answered.
#[derive(Debug, Default)]
pub(super) struct Outgoing(BTreeMap<RequestId, Asked>);

#[derive(Debug)]
struct Asked {
    to: NodeId,
    asker: Asker,
    due_ms: u64,
}

impl Node {
    /// Asks `to` something that it answers within the time of a few replicas.
    pub(super) fn ask(
        &mut self,
        to: NodeId,
        asker: Asker,
        message: impl FnOnce(RequestId) -> Message,
    ) {
        let request = self.number();
        let patience_ms = self.patience_ms();
        self.ask_as(request, (to, asker), patience_ms, message(request));
    }

    pub(super) fn patience_ms(&self) -> u64 {
        self.settings.replica_timeout_ms.saturating_mul(4)
    }

    /// Asks `to` something, which may be this node, under a number that its asker knows.
    pub(super) fn ask_as(
        &mut self,
        request: RequestId,
        (to, asker): (NodeId, Asker),
        patience_ms: u64,
        message: Message,
    ) {
        let due_ms = self.in_ms(patience_ms);
        self.outgoing.0.insert(request, Asked { to, asker, due_ms });
        self.timers.set(due_ms, Timer::Request(request));
        self.tell(to, message);
    }

    /// Sends a message, or takes it in if it is for this node.
    pub(super) fn tell(&mut self, to: NodeId, message: Message) {
        match to == self.id {
            true => self.received(to, message),
            false => self.send(to, message),
        }
    }

    /// Who waits for what `from` answers to this request, if this is an answer to what they asked.
    /// Nobody does any more.
    pub(super) fn answered(
        &mut self,
        from: NodeId,
        request: RequestId,
        is_asker: impl FnOnce(&Asker) -> bool,
    ) -> Option<Asker> {
        let asked = self.outgoing.0.get(&request);
        let is_asked = asked.is_some_and(|asked| asked.to == from && is_asker(&asked.asker));
        let asked = is_asked.then(|| self.outgoing.0.remove(&request))??;
        Some(asked.asker)
    }

    /// `from` is at it: its answer is waited for from now on.
    pub(super) fn goes_on(&mut self, from: NodeId, request: RequestId) {
        let due_ms = self.in_ms(self.patience_ms());
        if let Some(asked) = self.outgoing.0.get_mut(&request).filter(|asked| asked.to == from) {
            asked.due_ms = due_ms;
            self.timers.set(due_ms, Timer::Request(request));
        }
    }

    /// `to` refuses a request, could not be asked, or is late.
    pub(super) fn unanswered(&mut self, to: NodeId, request: RequestId) {
        let silence = ReplicaError::Store("it does not answer".to_owned());
        match self.answered(to, request, |_| true) {
            Some(Asker::Exchange(id)) => self.tell_exchange(id, Told::Theirs(Err(silence))),
            Some(Asker::Repair(id, key)) => self.tell_exchange(id, Told::Given(key, false)),
            Some(Asker::Comparison(id, partition)) => {
                self.compared((id, partition), to, Err(silence));
            }
            Some(Asker::Listing(number)) => self.list_ended(number, to, None),
            Some(Asker::Hint(target, attempt)) => self.hint_refused(target, attempt),
            Some(Asker::Transfer(partition)) => {
                self.transfer_answered(partition, request, Err(silence));
            }
            Some(Asker::Collection) => self.collecting(|collection, around| {
                collection.answered(around, (to, request), Err(silence.to_string()));
            }),
            None => {}
        }
    }

    /// A request may be late.
    pub(super) fn answer_due(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let late = self.outgoing.0.get(&request).filter(|asked| asked.due_ms <= now_ms);
        if let Some(to) = late.map(|asked| asked.to) {
            self.unanswered(to, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Now;
    use crate::node::Settings;

    #[test]
    fn an_answer_is_taken_once_of_who_was_asked_and_to_what_was_asked() {
        let now = Now { monotonic_ms: 0, wall_ms: 0 };
        let mut node = Node::new(NodeId(1), Settings::default(), None, 7, now);
        let (partition, peer) = (PartitionId(3), NodeId(4));
        let keyspace = None;
        node.ask(NodeId(2), Asker::Transfer(partition), |request| Message::Compare {
            request,
            partition,
            peer,
            keyspace,
        });
        let request = node.last_number;
        let is_transfer = |asker: &Asker| matches!(asker, Asker::Transfer(_));
        let is_exchange = |asker: &Asker| matches!(asker, Asker::Exchange(_));
        assert!(node.answered(peer, request, is_transfer).is_none(), "it was not asked");
        assert!(node.answered(NodeId(2), request, is_exchange).is_none(), "nobody asked for that");
        assert!(node.answered(NodeId(2), request, is_transfer).is_some());
        assert!(node.answered(NodeId(2), request, is_transfer).is_none(), "it was answered");
    }
}
