//! How far a transfer is.

use crate::ring::Move;

/// How far a transfer to this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferFigures {
    /// What is being handed over.
    pub made: Move,
    /// Whether anything was begun.
    pub is_begun: bool,
    /// Keys that were copied so far.
    pub keys_copied: u64,
    /// What is done at present, for people.
    pub step: &'static str,
}
