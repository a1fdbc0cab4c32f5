//! Moves that were made since the catalogue was persisted last, as lines that are added to a file.
//!
//! A catalogue of 65,536 partitions has megabytes, and a new node's ring as many moves; so a move
//! is made durable by some 60 bytes of its own. Each line carries a checksum: one that was torn by
//! a crash was told to nobody and is passed over. Lines of another ring say nothing.

use std::fmt::Write;

use super::{Move, Ring};
use crate::codec::checksum;
use crate::id::{NodeId, PartitionId};

/// Moves that were made of one ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeMoves {
    /// The ring.
    pub ring_version: u64,
    /// The moves.
    pub moves: Vec<Move>,
}

impl MadeMoves {
    /// The lines to add.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for made in &self.moves {
            let node = |node: Option<NodeId>| node.map_or("-".to_owned(), |node| node.to_string());
            let (partition, from, to) = (made.partition.0, node(made.from), node(made.to));
            let text = format!("{} {partition} {from} {to}", self.ring_version);
            // What stands before was perhaps torn. Writing to a string does not fail.
            let _ = write!(out, "\n{} {text}\n", sum(&text));
        }
        out
    }

    /// Makes the moves in `ring` that these lines name, if they are of its version. Whether there
    /// was one.
    pub fn replay(text: &[u8], ring: &mut Ring) -> bool {
        let version = ring.version();
        let lines = text.split(|byte| *byte == b'\n').filter_map(read);
        let made: Vec<Move> =
            lines.filter(|(of, _)| *of == version).map(|(_, made)| made).collect();
        !ring.hand_over_all(&made).is_empty()
    }
}

fn sum(text: &str) -> String {
    hex::encode(checksum(text.as_bytes()))
}

fn read(line: &[u8]) -> Option<(u64, Move)> {
    let (found, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if found != sum(text) {
        return None;
    }
    let mut words = text.split(' ');
    let version = words.next()?.parse().ok()?;
    let partition = PartitionId(words.next()?.parse().ok()?);
    let mut node = || match words.next()? {
        "-" => Some(None),
        word => word.parse().ok().map(Some),
    };
    let (from, to) = (node()?, node()?);
    Some((version, Move { partition, from, to }))
}

#[cfg(test)]
mod tests {
    use super::super::{Seat, claim};
    use super::*;

    #[test]
    fn lines_read_back_and_torn_ones_are_passed_over() {
        let seat =
            |id| Seat { node: NodeId(id), region: String::new(), zone: String::new(), weight: 1 };
        let ring = |version, ids: &[u64]| {
            claim(version, 16, 3, &ids.iter().copied().map(seat).collect::<Vec<_>>()).unwrap()
        };
        let start = ring(1, &[1, 2, 3]).towards(&ring(2, &[1, 2, 3, 4]));
        let moves = start.moves().to_vec();
        let of = |ring_version, moves: &[Move]| {
            MadeMoves { ring_version, moves: moves.to_vec() }.encode()
        };
        let torn = of(2, &moves[1..2]);
        let text = [&of(2, &moves[..1]), &torn[..torn.len() - 9], &of(2, &moves[2..4])].concat();
        let mut read = start.clone();
        assert!(MadeMoves::replay((text + &of(1, &moves[4..])).as_bytes(), &mut read));
        let mut expected = start.clone();
        expected.hand_over_all(&[moves[0], moves[2], moves[3]]);
        assert_eq!(read, expected);
        assert!(!MadeMoves::replay(of(3, &moves).as_bytes(), &mut read));
    }
}
