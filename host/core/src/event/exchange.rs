//! How an exchange ended.

use crate::message::ExchangeFigures;

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// The roots are equal.
    Equal,
    /// The roots still differ, by what was written meanwhile or could not be repaired.
    Different,
    /// One of the two cannot tell at present: its trees or its store are being rebuilt, or it
    /// does not own the partition.
    Skipped,
    /// The peer or the store did not answer.
    Failed,
}

/// The end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeOutcome {
    /// How it ended.
    pub end: ExchangeEnd,
    /// What it found.
    pub figures: ExchangeFigures,
    /// Whether the peer could give all that it should hold: it is not being filled, and none of
    /// its records was found to be damaged.
    pub is_peer_whole: bool,
}

impl ExchangeOutcome {
    /// Whether both held all that either could give when it began.
    pub fn is_compared(&self) -> bool {
        match self.end {
            ExchangeEnd::Equal => true,
            // What differs now was written meanwhile.
            ExchangeEnd::Different => {
                let ExchangeFigures { keys_differed, keys_repaired, keys_damaged, .. } =
                    self.figures;
                keys_repaired + keys_damaged == keys_differed
            }
            ExchangeEnd::Skipped | ExchangeEnd::Failed => false,
        }
    }
}
