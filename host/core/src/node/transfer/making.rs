//! Moves that are made: durable first, then told.
//!
//! A move of this node is in its catalogue at once, so that it serves no more, and nobody hears of
//! it before it is durable: after a crash this node would serve again. Until then others are told
//! the catalogue without it ([`Node::tellable`]), and the next ring is planned from that. Moves
//! that peers tell of are persisted likewise, and nobody waits for them.
//!
//! While one batch is being persisted the next one gathers, so a disk's time is shared by all moves
//! that fall into it. What could not be persisted is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::event::{Action, Notice};
use crate::id::NodeId;
use crate::message::{Message, RequestId};
use crate::node::{Node, Purpose};
use crate::ring::{MadeMoves, Move, Ring};

use super::Step;

/// Moves of the present ring on their way to disk.
#[derive(Debug, Default)]
pub(super) struct Making {
    /// What this node has made and is not durable, and whom to answer.
    own: BTreeMap<Move, Option<(NodeId, RequestId)>>,
    /// The ring without these, while there are some.
    told: Option<Ring>,
    /// The next batch, and whether one is being persisted.
    unsaved: Vec<Move>,
    is_saving: bool,
}

impl Making {
    /// Whether a move that this node made could still be forgotten.
    pub(super) fn is_open(&self) -> bool {
        !self.own.is_empty()
    }

    /// These moves are known to be made, and some of them may be told.
    pub(super) fn note(&mut self, made: &[Move]) {
        if let Some(told) = &mut self.told {
            let is_told = |made: &&Move| !self.own.contains_key(made);
            let made: Vec<Move> = made.iter().filter(is_told).copied().collect();
            told.hand_over_all(&made);
        }
    }
}

impl Node {
    /// `catalogue`, the present one, without moves that this node could still forget.
    pub(in crate::node) fn tellable(&self, catalogue: Arc<Catalogue>) -> Arc<Catalogue> {
        match &self.transfers.making.told {
            Some(told) if told.version() == catalogue.ring.version() => {
                let mut told_catalogue = Catalogue::clone(&catalogue);
                told_catalogue.ring = told.clone();
                Arc::new(told_catalogue)
            }
            _ => catalogue,
        }
    }

    /// Makes a move, durably, and then tells everyone. `asker` is answered then, too.
    pub(super) fn make_move(&mut self, made: Move, asker: Option<(NodeId, RequestId)>) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        if catalogue.ring.moves().binary_search(&made).is_err() {
            return;
        }
        if let Some(incoming) = self.transfers.incoming.get_mut(&made.partition) {
            incoming.step = Step::Making;
        }
        let making = &mut self.transfers.making;
        making.told.get_or_insert_with(|| catalogue.ring.clone());
        making.own.insert(made, asker);
        self.take_over_moves(&[made]);
        self.save_moves();
    }

    /// A peer has made moves.
    pub(in crate::node) fn moved(&mut self, from: NodeId, made: &MadeMoves) {
        if self.ring_version() != made.ring_version {
            let digest = self.digest;
            return self.send(from, Message::CatalogueDigest { digest });
        }
        if self.take_over_moves(&made.moves) {
            self.save_moves();
            self.go_on_transferring();
        }
    }

    /// The ring changes by these moves only. Whether one of them was still to be made.
    fn take_over_moves(&mut self, made: &[Move]) -> bool {
        let Some(before) = self.catalogue.clone() else { return false };
        let mut changed = Catalogue::clone(&before);
        let made = changed.ring.hand_over_all(made);
        if made.is_empty() {
            return false;
        }
        self.parts.made(&made);
        self.digest = self.parts.whole();
        let changed = Arc::new(changed);
        self.catalogue = Some(changed.clone());
        self.act(Action::CatalogueChanged(changed));
        self.transfers.making.unsaved.extend(&made);
        self.moves_made(&before.ring, &made);
        true
    }

    pub(super) fn save_moves(&mut self) {
        let ring_version = self.ring_version();
        let making = &mut self.transfers.making;
        if making.is_saving || making.unsaved.is_empty() {
            return;
        }
        making.is_saving = true;
        let made = MadeMoves { ring_version, moves: std::mem::take(&mut making.unsaved) };
        let token = self.effect(Purpose::Moves(made.clone()));
        self.act(Action::PersistMoves(token, made));
    }

    /// A batch is durable, or is not.
    pub(in crate::node) fn moves_persisted(&mut self, made: MadeMoves, is_durable: bool) {
        // Of another ring it is void: nobody was told.
        if made.ring_version != self.ring_version() {
            return;
        }
        let making = &mut self.transfers.making;
        making.is_saving = false;
        if !is_durable {
            making.unsaved.extend(made.moves);
            return;
        }
        let own = |m: &Move| making.own.remove(m).map(|asker| (*m, asker));
        let own: Vec<(Move, Option<(NodeId, RequestId)>)> =
            made.moves.iter().filter_map(own).collect();
        making.note(&made.moves);
        if making.own.is_empty() {
            making.told = None;
        }
        let moves: Vec<Move> = own.iter().map(|(made, _)| *made).collect();
        if !moves.is_empty() {
            let told = MadeMoves { moves, ..made };
            for peer in self.peers() {
                self.send(peer, Message::Moved(told.clone()));
            }
        }
        for (made, asker) in own {
            self.notice(Notice::Moved(made));
            if let Some((to, request)) = asker {
                self.send(to, Message::TransferAnswer { request, result: Ok(0) });
            }
        }
        self.save_moves();
        self.go_on_transferring();
    }
}
