//! Small files: what must be durable before what, and what becomes of a save that fails.
//!
//! - *What is left of a fill* comes before the catalogue that makes this node an owner: if it
//!   crashed between the two it would take itself for an owner that holds everything. So a catalogue,
//!   or a move, waits while the backlog that grew with it is being saved, and has failed if that has.
//!   The backlog is tried again. That less is left need not be saved: it is copied again.
//! - *The catalogue*: who waits for it (a change, a commit) is told. It is tried again with the next
//!   gossip, be it asked for or not.
//! - *Moves* are tried again, and nobody hears of them before ([`super::transfer`]).
//! - *Promises for the next ring* are not given, as if the question had been lost.
//! - *Send epochs*: the step of collection that needs them is refused.

use super::{Node, Purpose, Timer};
use crate::event::{Action, Backlog, Token};

/// How long after a failure the backlog is tried again.
const AGAIN_MS: u64 = 250;

/// Saves that wait for others.
#[derive(Debug, Default)]
pub(super) struct Saves {
    /// Whether more is left of a fill than what is known to be saved says.
    is_backlog_behind: bool,
    /// The last save of it, while it is under way.
    backlog: Option<Token>,
    /// Catalogues and moves that wait for it.
    held: Vec<Action>,
    /// Whether the catalogue on disk is another one.
    pub(super) is_catalogue_behind: bool,
}

impl Node {
    /// What is left of a fill is to be saved; whether it is more than before.
    pub(super) fn save_backlog(&mut self, backlog: Backlog, is_more: bool) {
        let token = self.effect(Purpose::Backlog);
        self.saves.is_backlog_behind |= is_more;
        self.saves.backlog = Some(token);
        self.act(Action::PersistFill(token, backlog));
    }

    /// The action, if nothing has to be durable before it.
    pub(super) fn hold_back(&mut self, action: Action) -> Option<Action> {
        let is_late = matches!(action, Action::Persist(..) | Action::PersistMoves(..));
        if !is_late || !self.saves.is_backlog_behind {
            return Some(action);
        }
        self.saves.held.push(action);
        self.save_backlog_again();
        None
    }

    fn save_backlog_again(&mut self) {
        if self.saves.is_backlog_behind && self.saves.backlog.is_none() {
            let backlog = self.backlog();
            self.save_backlog(backlog, false);
        }
    }

    /// Looks at what no event tells.
    pub(super) fn saves_due(&mut self) {
        self.save_backlog_again();
        if std::mem::take(&mut self.saves.is_catalogue_behind)
            && let Some(catalogue) = self.catalogue.clone()
        {
            let token = self.effect(Purpose::Gossip);
            self.act(Action::Persist(token, catalogue));
        }
    }

    /// What is left of a fill is saved, or is not.
    pub(super) fn backlog_persisted(&mut self, token: Token, result: Result<(), String>) {
        if self.saves.backlog != Some(token) {
            // A later save says more.
            return;
        }
        self.saves.backlog = None;
        if result.is_ok() {
            self.saves.is_backlog_behind = false;
        } else {
            let at_ms = self.in_ms(AGAIN_MS);
            self.timers.set(at_ms, Timer::Saves);
        }
        for held in std::mem::take(&mut self.saves.held) {
            match (&held, &result) {
                (Action::Persist(token, _) | Action::PersistMoves(token, _), Err(why)) => {
                    let why = format!("what is left of a fill could not be saved before it: {why}");
                    self.persisted(*token, Err(why));
                }
                _ => self.out.push(held),
            }
        }
    }
}
