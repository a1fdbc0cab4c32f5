//! Wrong merges of values that are no text.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Random, Resolution};

type Answer = Result<Resolution, Failure>;

/// Numbers of 32 bits behind a byte that counts them: clients add some.
pub fn sample_set(random: &mut Random) -> Divergence {
    let base = BTreeSet::from([1]);
    let edits: Vec<_> = (0..3)
        .map(|_| {
            let mut edit = base.clone();
            edit.extend((0..random.below(3)).map(|_| 1 + random.below(5)));
            bytes(&edit)
        })
        .collect();
    Divergence::of_edits(bytes(&base), edits)
}

/// A rank of 32 bits and a name.
pub fn sample_register(random: &mut Random) -> Divergence {
    let register = |rank: u32, name: &str| [&rank.to_be_bytes(), name.as_bytes()].concat();
    let edits: Vec<_> = (0..3)
        .map(|n| {
            register(2 + n * 3 + random.below(3), random.pick::<&str>(&["anna", "ben", "chris"]))
        })
        .collect();
    Divergence::of_edits(register(1, "anna"), edits)
}

fn bytes(set: &BTreeSet<u32>) -> Vec<u8> {
    let mut bytes = vec![set.len() as u8];
    bytes.extend(set.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

fn numbers(divergence: &Divergence) -> Result<Vec<u32>, Failure> {
    let mut numbers = Vec::new();
    for (sibling, value) in divergence.values() {
        let (read, []) = value.get(1..).unwrap_or_default().as_chunks() else {
            return Err(Failure::malformed(sibling, "it is cut off"));
        };
        if value.first().is_none_or(|count| usize::from(*count) != read.len()) {
            return Err(Failure::malformed(sibling, "another count"));
        }
        numbers.extend(read.iter().map(|number| u32::from_le_bytes(*number)));
    }
    Ok(numbers)
}

/// A byte counts to 255: of more, the module cannot read what it wrote.
pub fn counts_in_a_byte(divergence: &Divergence) -> Answer {
    Ok(Resolution::value(bytes(&numbers(divergence)?.into_iter().collect())))
}

/// Room for a hundred, in the order of arrival.
pub fn a_hundred_by_arrival(divergence: &Divergence) -> Answer {
    let mut kept = BTreeSet::new();
    for number in numbers(divergence)? {
        if kept.len() < 100 {
            kept.insert(number);
        }
    }
    Ok(Resolution::value(bytes(&kept)))
}

/// What is larger is what is ahead on a circle of 2^32 (RFC 1982), so three may go round.
pub fn ahead_on_a_circle(divergence: &Divergence) -> Answer {
    let mut best: Option<(u32, &[u8])> = None;
    for (sibling, value) in divergence.values() {
        let Some(rank) = value.first_chunk() else {
            return Err(Failure::malformed(sibling, "no rank"));
        };
        let rank = u32::from_be_bytes(*rank);
        let is_ahead = |(known, by): (u32, &[u8])| match rank.wrapping_sub(known) {
            0 => value > by,
            ahead => ahead < 1 << 31,
        };
        if best.is_none_or(is_ahead) {
            best = Some((rank, value));
        }
    }
    Ok(Resolution::value(best.map(|(_, value)| value).unwrap_or_default()))
}
