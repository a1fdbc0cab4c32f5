//! What is counted as it happens, since the start of the node.

/// Of one keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceFigures {
    /// Hints stored here for absent owners.
    pub hints_stored: u64,
    /// Writes that should have become a hint and did not.
    pub hints_lost: u64,
    /// Hints delivered to their owners.
    pub hints_delivered: u64,
    /// Times that siblings became one answer, be it from the memo.
    pub merges: u64,
    /// Times that this failed.
    pub merge_failures: u64,
    /// Times that siblings were replaced by one version, as this node coordinated it.
    pub folds: u64,
    /// Times that a module gave no value for that.
    pub fold_failures: u64,
    /// Gets, by how many versions that differ they met, as [`VERSIONS`] has it.
    pub gets: [u64; VERSIONS.len()],
}

/// How many versions a get met; who meets more counts with the last.
pub const VERSIONS: [&str; 6] = ["0", "1", "2", "3", "4", "5+"];

/// Of all comparisons with other owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExchangeTotals {
    /// Partitions that were compared with another owner.
    pub exchanges: u64,
    /// Keys that were found to differ.
    pub keys_differed: u64,
    /// Those of them that both owners hold alike now.
    pub keys_repaired: u64,
}

/// Of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerFigures {
    /// Hints delivered to it.
    pub hints_delivered: u64,
    /// Stale copies that were sent what they lacked after a get.
    pub read_repairs: u64,
}
