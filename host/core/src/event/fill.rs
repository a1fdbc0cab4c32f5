//! What is left of a fill, as it is kept on disk and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::id::{NodeId, PartitionId};

/// The partitions that are still to be filled after a loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Names the loss: of an earlier one a backlog says nothing.
    pub loss: u64,
    /// The partitions. `None` is all that the node owns.
    pub left: Option<BTreeSet<PartitionId>>,
    /// Nodes that served a partition before this one was made its owner, and must be read too.
    pub also: BTreeMap<PartitionId, BTreeSet<NodeId>>,
}

impl Backlog {
    /// Everything, after this loss.
    pub fn all(loss: u64) -> Self {
        Backlog { loss, left: None, also: BTreeMap::new() }
    }

    /// Nothing, after this loss.
    pub fn nothing(loss: u64) -> Self {
        Backlog { left: Some(BTreeSet::new()), ..Backlog::all(loss) }
    }

    /// What is to be filled after a start: `loss` is the last loss of the data store, `kept` what
    /// was kept of the last fill. Without a loss there are only partitions that this node was
    /// made an owner of without being handed them, under the loss 0. A further loss takes nothing
    /// off those who are to be read.
    pub fn after(loss: Option<u64>, kept: Option<Backlog>) -> Option<Self> {
        match (loss, kept) {
            (None, kept) => kept.filter(|kept| kept.loss == 0),
            (Some(loss), Some(kept)) if kept.loss == loss => Some(kept),
            (Some(loss), kept) => {
                let also = kept.map(|kept| kept.also).unwrap_or_default();
                Some(Backlog { also, ..Backlog::all(loss) })
            }
        }
    }

    /// As text for people too: the loss, numbers and ranges of partitions, and a line for each
    /// partition of which further nodes are to be read.
    pub fn encode(&self) -> String {
        let mut out = format!("loss {:016x}\nleft", self.loss);
        let Some(left) = &self.left else {
            return out + " all\n";
        };
        let mut numbers = left.iter().map(|partition| partition.0).peekable();
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| last.checked_add(1) == Some(*next)) {
                last = next;
            }
            // Writing to a string does not fail.
            let _ = match first == last {
                true => write!(out, " {first}"),
                false => write!(out, " {first}-{last}"),
            };
        }
        for (partition, nodes) in &self.also {
            let nodes = nodes.iter().map(|node| format!(" {node}"));
            let _ = write!(out, "\nalso {}{}", partition.0, nodes.collect::<String>());
        }
        out + "\n"
    }

    /// Reads what [`Self::encode`] wrote; `None` if it is anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let loss = u64::from_str_radix(lines.next()?.strip_prefix("loss ")?, 16).ok()?;
        let words = lines.next()?.strip_prefix("left")?;
        if words == " all" {
            return Some(Backlog::all(loss));
        }
        let mut left = BTreeSet::new();
        for word in words.split_whitespace() {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = first.parse().ok()?..=last.parse().ok()?;
            left.extend(range.map(PartitionId));
        }
        let mut also = BTreeMap::new();
        for line in lines {
            let mut words = line.strip_prefix("also ")?.split(' ');
            let partition = PartitionId(words.next()?.parse().ok()?);
            let nodes: Option<BTreeSet<NodeId>> = words.map(|word| word.parse().ok()).collect();
            also.insert(partition, nodes?);
        }
        Some(Backlog { loss, left: Some(left), also })
    }
}

/// How far a fill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FillFigures {
    /// Partitions that were to be filled when it began, or went on after a restart.
    pub partitions: usize,
    /// Those of them that do not count for quorums yet.
    pub partitions_left: usize,
    /// Objects that were copied since then, from every source.
    pub objects_copied: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(left: &[u16]) -> Backlog {
        let left = Some(left.iter().copied().map(PartitionId).collect());
        Backlog { left, ..Backlog::all(0xa1) }
    }

    #[test]
    fn backlogs_read_back() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for left in [&[][..], &[0], &[1, 2, 3, 5, 7, 8], &[0, 2, u16::MAX], &all] {
            let backlog = backlog(left);
            assert_eq!(Backlog::decode(&backlog.encode()), Some(backlog));
        }
        assert_eq!(Backlog::decode(&Backlog::all(7).encode()), Some(Backlog::all(7)));
        assert_eq!(backlog(&[1, 2, 3, 5]).encode(), "loss 00000000000000a1\nleft 1-3 5\n");
        let nodes = [NodeId(5), NodeId(u64::MAX)];
        let also = [(PartitionId(2), nodes.into()), (PartitionId(5), [NodeId(6)].into())];
        let backlog = Backlog { also: also.into(), ..backlog(&[1, 2, 5]) };
        assert_eq!(Backlog::decode(&backlog.encode()), Some(backlog));
        let bad = ["", "loss x\nleft 1\n", "loss 01\n", "loss 01\nleft 1,2\n", "loss 01\nright"];
        for bad in bad.into_iter().chain(["loss 01\nleft 1\nelse", "loss 01\nleft 1\nalso 1 x"]) {
            assert_eq!(Backlog::decode(bad), None, "{bad:?}");
        }
    }
}
