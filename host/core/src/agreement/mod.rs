//! Agreement on one value: single-decree Paxos as pure code.
//!
//! A cluster must never have two rings of one version. Ring n+1 is therefore what a majority of
//! the nodes with a seat in ring n have durably accepted, and nothing is moved before. There is
//! one instance of this protocol per ring version, so nothing of Multi-Paxos is here: no leader,
//! no log, no leases.
//!
//! 1. A *proposer* draws a [`Ballot`] above all it has seen and asks every acceptor to *promise*
//!    that it will accept nothing of a lower one ([`Ask::Prepare`]).
//! 2. An *acceptor* that promises tells what it has accepted already, with its ballot. Once a
//!    majority has promised, the proposer must propose the value of the highest ballot among
//!    those answers; only where there is none may it propose its own ([`Ask::Accept`]).
//! 3. An acceptor accepts unless it has promised a higher ballot meanwhile. What a majority has
//!    accepted under one ballot is *chosen*. Any two majorities share an acceptor, so every later
//!    proposer meets the chosen value in step 2 and can propose nothing else.
//!
//! The acceptor's state is persisted before each answer leaves. An acceptor that forgets what it
//! promised breaks the proof, and lets two values be chosen.
//!
//! Asking twice is harmless: all answers repeat the ballot, and a proposer counts each acceptor
//! once. So lost messages are sent again, and repeated, late or overtaken ones do nothing.
//!
//! Source: Lamport, "Paxos Made Simple", 2001. Left out: everything about many values.

mod acceptor;
mod proposer;

pub use acceptor::Acceptor;
pub use proposer::{Proposer, Step};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// The number of an attempt. No two attempts have one in common.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Counts attempts, from 1; 0 is below all of them.
    pub round: u64,
    /// Who attempts it.
    pub node: NodeId,
    /// 64 random bits: a node that has crashed does not know its last round any more, and must
    /// not propose two values under one ballot.
    pub nonce: u64,
}

/// What a proposer asks an acceptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask<V> {
    /// Promise to accept nothing below this ballot.
    Prepare(Ballot),
    /// Accept this value.
    Accept(Ballot, V),
}

/// What an acceptor answers, once it has persisted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<V> {
    /// It promises.
    Promised {
        /// What it was asked for.
        ballot: Ballot,
        /// What it has accepted before, under which ballot.
        accepted: Option<(Ballot, V)>,
    },
    /// It has accepted.
    Accepted {
        /// What it was asked for.
        ballot: Ballot,
    },
    /// It has promised a higher ballot to someone else.
    Refused {
        /// What it was asked for.
        ballot: Ballot,
        /// What it has promised.
        promised: Ballot,
    },
}
