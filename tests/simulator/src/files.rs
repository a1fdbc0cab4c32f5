//! Small files: what a node keeps durably beside its stores, one after the other, and disks that
//! refuse to.

use std::sync::Arc;

use rand::RngExt;
use stator_core::agreement::Acceptor;
use stator_core::catalogue::{Catalogue, Decision};
use stator_core::event::{Area, Event, Token};
use stator_core::ring::MadeMoves;

use super::Planted;
use super::machine::Machine;
use super::world::{Inner, World};

/// A file that is to be replaced.
pub(super) enum File {
    /// The catalogue.
    Catalogue(Token, Arc<Catalogue>),
    /// Moves that are added to it.
    Moves(Token, MadeMoves),
    /// What is left of a fill.
    Fill(Token, String),
    /// Send epochs.
    Epochs(Token, String),
    /// What the node has promised and accepted.
    Ballot(Token, Acceptor<Arc<Decision>>),
}

impl World {
    /// Plans that a file is saved.
    pub(super) fn save(&mut self, machine: usize, file: File) {
        let at_us = self.machines[machine].sync_us(Area::Data, self.now_us, &mut self.rng);
        self.plan_in(machine, at_us, Inner::Saved(file));
    }

    /// A save ends: the file is replaced, or not, and the node is told.
    pub(super) fn saved(&mut self, machine: usize, file: File) {
        let likely = self.machines[machine].file_failure;
        let is_lying = self.planted == Planted::LoseSaves;
        let has_failed = likely > 0.0 && (is_lying || self.rng.random_bool(likely));
        // What failed at its last step is on disk all the same.
        let is_stored = !has_failed || (!is_lying && self.rng.random_bool(0.3));
        let is_told = has_failed && !is_lying;
        let result = if is_told { Err("the disk is full".to_owned()) } else { Ok(()) };
        if has_failed {
            self.report.saves_failed += 1;
            let now_us = self.now_us;
            self.trace.line(now_us, format_args!("n{machine} saves badly, stored: {is_stored}"));
        }
        let disk = &mut self.machines[machine];
        let event = match file {
            File::Catalogue(token, catalogue) => {
                if is_stored {
                    disk.catalogue = catalogue.encode();
                    disk.moves.clear();
                }
                Event::Persisted(token, result)
            }
            File::Moves(token, made) => {
                if is_stored {
                    disk.moves += &made.encode();
                }
                Event::Persisted(token, result)
            }
            File::Epochs(token, epochs) => {
                if is_stored {
                    disk.epochs = Some(epochs);
                }
                Event::Persisted(token, result)
            }
            File::Fill(token, backlog) => {
                if is_stored {
                    disk.backlog = Some(backlog);
                }
                Event::Persisted(token, result)
            }
            File::Ballot(token, acceptor) => {
                if is_stored {
                    disk.ballot = acceptor;
                }
                Event::BallotPersisted(token, result)
            }
        };
        let is_ballot = matches!(event, Event::BallotPersisted(..));
        self.tell(machine, event);
        if is_ballot {
            self.forget_promise(machine, has_failed);
        }
    }

    /// Planted bugs: what was promised is forgotten once it is said, always, or if it was not
    /// saved, as after a restart at once.
    fn forget_promise(&mut self, machine: usize, has_failed: bool) {
        let Machine { node: Some(node), ballot, .. } = &mut self.machines[machine] else { return };
        match self.planted {
            Planted::ForgetPromise => node.remember_ballot(Acceptor::default()),
            Planted::LoseSaves if has_failed => node.remember_ballot(ballot.clone()),
            _ => {}
        }
    }
}
