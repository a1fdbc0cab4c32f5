//! Exchanges in their node: how their wishes are granted, and who else has them made.

use super::{ExchangeId, ExchangeReason, Exchanges, Pair, Told, Wish, schedule};
use crate::event::{Action, RepairId, StoreFailure, Token};
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId};
use crate::message::{Comparison, Message, ReplicaError, ReplicaWrite};
use crate::node::outgoing::Asker;
use crate::node::surroundings::Surroundings;
use crate::node::{Node, Purpose, Timer};
use crate::tree::{TreeAnswer, TreeRead};
use crate::write::Change;

impl Node {
    /// How many exchanges this node is the initiator of.
    pub fn exchanges_in_flight(&self) -> usize {
        self.exchanges.count()
    }

    /// How many exchanges are still owed after an unclean stop or a fill.
    pub fn exchanges_owed(&self) -> usize {
        self.exchanges.owed()
    }

    /// This node may have lost what it had acknowledged: all of its partitions are exchanged with
    /// all other owners, if a keyspace's durability allows such a loss. To be called after an
    /// unclean stop, before the first event.
    pub fn recover(&mut self) {
        self.exchanging(|exchanges, around| exchanges.recover(around));
    }

    /// Tells exchanges something, and grants what they want.
    pub(in crate::node) fn exchanging(
        &mut self,
        tell: impl FnOnce(&mut Exchanges, &mut dyn Surroundings),
    ) {
        let mut exchanges = std::mem::take(&mut self.exchanges);
        tell(&mut exchanges, self);
        let wishes = std::mem::take(&mut exchanges.wishes);
        self.exchanges = exchanges;
        wishes.into_iter().for_each(|wish| self.grant_to_exchanges(wish));
    }

    fn grant_to_exchanges(&mut self, wish: Wish) {
        match wish {
            Wish::AskPeer(id, (partition, peer), reason, query) => {
                let (ring_version, is_fill) = (self.ring_version(), reason == ExchangeReason::Fill);
                let read = TreeRead { partition, query };
                self.ask(peer, Asker::Exchange(id), |request| Message::TreeRead {
                    request,
                    ring_version,
                    is_fill,
                    read,
                });
            }
            Wish::AskStore(id, partition, query) => {
                let token = self.effect(Purpose::OwnTree(id));
                self.act(Action::ReadTree { token, read: TreeRead { partition, query } });
            }
            Wish::Load(id, key) => {
                let token = self.effect(Purpose::ExchangeObject(id, key.key.clone()));
                self.act(Action::Load { token, key, with_hints: false });
            }
            Wish::Join(id, key, siblings) => {
                let purpose = Purpose::ExchangeObject(id, key.key.clone());
                self.write(purpose, key, Change::Sync(siblings), Vec::new(), true);
            }
            Wish::Give(id, peer, key, siblings) => {
                let asker = Asker::Repair(id, key.key.clone());
                let write = self.replica_write(0, key, siblings);
                self.ask(peer, asker, |request| Message::Write(ReplicaWrite { request, ..write }));
            }
            Wish::Rebuild(partition) => self.act(Action::RebuildTree(partition)),
            Wish::Ended((partition, peer), ExchangeReason::Fill, outcome) => {
                self.fill_exchange_ended(partition, peer, outcome);
            }
            Wish::Ended(pair, ExchangeReason::Resize(keyspace), outcome) => {
                self.resize_exchange_ended(keyspace, pair, outcome);
            }
            Wish::Ended((partition, peer), _, outcome) => {
                self.transfer_exchange_ended(partition, peer, outcome);
            }
            Wish::Compare(repair, leader, (partition, peer), keyspace) => {
                self.ask(leader, Asker::Comparison(repair, partition), |request| {
                    Message::Compare { request, partition, peer, keyspace }
                });
            }
            Wish::Report(asker, request, result) => {
                self.tell(asker, Message::CompareReply { request, result });
            }
            Wish::Started(ticket, result) => self.act(Action::RepairStarted(ticket, result)),
            Wish::Notice(notice) => self.notice(notice),
        }
    }

    pub(in crate::node) fn tell_exchange(&mut self, id: ExchangeId, told: Told) {
        self.exchanging(|exchanges, around| exchanges.tell(around, id, told));
    }

    /// Compares `partition` with `peer` and repairs what differs, on both sides.
    pub(in crate::node) fn start_exchange(&mut self, pair: Pair, reason: ExchangeReason) {
        self.exchanging(|exchanges, around| exchanges.start(around, pair, None, reason));
    }

    /// The same of one keyspace, for a change of its n.
    pub(in crate::node) fn start_exchange_of(&mut self, keyspace: KeyspaceId, pair: Pair) {
        let reason = ExchangeReason::Resize(keyspace);
        self.exchanging(|exchanges, around| exchanges.start(around, pair, Some(keyspace), reason));
    }

    pub(in crate::node) fn exchange_due(&mut self) {
        self.admission.pass(self.now.monotonic_ms);
        self.exchanging(Exchanges::due);
        let at_ms = self.in_ms(schedule::PERIOD_MS);
        self.timers.set(at_ms, Timer::Exchange);
    }

    /// A part of a hash tree was read, for an exchange of this node or for a peer.
    pub(in crate::node) fn tree_read(
        &mut self,
        token: Token,
        result: Result<TreeAnswer, StoreFailure>,
    ) {
        match self.effects.remove(&token) {
            Some(Purpose::OwnTree(id)) => self.tell_exchange(id, Told::Ours(result)),
            Some(Purpose::LeftTree(partition)) => self.left_tree_read(partition, result),
            Some(Purpose::PeerTree(to, request, partition)) => {
                self.peer_tree_read(to, request, partition, result);
            }
            _ => {}
        }
    }

    /// An owner tells how far a comparison is.
    pub(in crate::node) fn compare_replied(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<Comparison, ReplicaError>,
    ) {
        let is_asker = |asker: &Asker| matches!(asker, Asker::Comparison(..));
        if result.as_ref().is_ok_and(|comparison| !comparison.is_over) {
            self.goes_on(from, request);
        } else if let Some(Asker::Comparison(id, partition)) =
            self.answered(from, request, is_asker)
        {
            self.compared((id, partition), from, result);
        }
    }

    pub(in crate::node) fn compared(
        &mut self,
        place: (RepairId, PartitionId),
        from: NodeId,
        result: Result<Comparison, ReplicaError>,
    ) {
        let result = result.map_err(|error| format!("owner {from}: {error}"));
        self.exchanging(|exchanges, around| exchanges.compared(around, place, result));
    }

    /// Whether this node holds of a partition all that others can replace of what is damaged.
    pub(in crate::node) fn is_mended(&self, partition: PartitionId) -> bool {
        self.exchanges.is_mended(self, partition)
    }
}
