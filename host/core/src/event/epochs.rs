//! The send epochs of a node, as they are kept on disk.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// The epochs that a node keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Epochs {
    /// Its own.
    pub own: u64,
    /// The oldest that it takes from others.
    pub floors: BTreeMap<NodeId, u64>,
}

impl Epochs {
    /// As text for people too.
    pub fn encode(&self) -> String {
        let floors = self.floors.iter().map(|(node, floor)| format!("from {node} {floor}\n"));
        format!("own {}\n{}", self.own, floors.collect::<String>())
    }

    /// Reads what [`Self::encode`] wrote; `None` if it is anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let own = lines.next()?.strip_prefix("own ")?.parse().ok()?;
        let mut floors = BTreeMap::new();
        for line in lines {
            let (node, floor) = line.strip_prefix("from ")?.split_once(' ')?;
            floors.insert(node.parse().ok()?, floor.parse().ok()?);
        }
        Some(Epochs { own, floors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_read_back() {
        let floors = [(NodeId(3), 4), (NodeId(u64::MAX), 0)].into_iter().collect();
        for epochs in [Epochs::default(), Epochs { own: u64::MAX, floors }] {
            assert_eq!(Epochs::decode(&epochs.encode()), Some(epochs));
        }
        for bad in ["", "own\n", "own x\n", "own 1\nfrom\n", "own 1\nfrom 0000 x\n"] {
            assert_eq!(Epochs::decode(bad), None, "{bad:?}");
        }
    }
}
