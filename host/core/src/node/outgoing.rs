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
        let patience_ms = self.settings.replica_timeout_ms.saturating_mul(4);
        self.ask_as(request, (to, asker), patience_ms, message(request));
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

    /// Who waits for what `from` answers to this request. Nobody does any more.
    pub(super) fn answered(&mut self, from: NodeId, request: RequestId) -> Option<Asker> {
        let is_asked = self.outgoing.0.get(&request).is_some_and(|asked| asked.to == from);
        let asked = is_asked.then(|| self.outgoing.0.remove(&request))??;
        Some(asked.asker)
    }

    /// `from` is at it: its answer is waited for from now on.
    pub(super) fn goes_on(&mut self, from: NodeId, request: RequestId) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
        if let Some(asked) = self.outgoing.0.get_mut(&request).filter(|asked| asked.to == from) {
            asked.due_ms = due_ms;
            self.timers.set(due_ms, Timer::Request(request));
        }
    }

    /// `to` refuses a request, could not be asked, or is late.
    pub(super) fn unanswered(&mut self, to: NodeId, request: RequestId) {
        let silence = ReplicaError::Store("it does not answer".to_owned());
        match self.answered(to, request) {
            Some(Asker::Exchange(id)) => self.tell_exchange(id, Told::Theirs(Err(silence))),
            Some(Asker::Repair(id, key)) => self.tell_exchange(id, Told::Given(key, false)),
            Some(Asker::Comparison(id, partition)) => {
                self.compared((id, partition), to, Err(silence));
            }
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
