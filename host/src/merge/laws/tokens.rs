//! Bytes that users choose, in values that are no text: numbers of one width, or words.
//!
//! Nobody says where they stand. Any few bytes may be some, and whether they are is found out by
//! trial, as with words: others of the same length, all over a history, must give the same merge.
//! Unlike a word with a suffix, another number need not have the same place in an order. So what
//! is made this way is [`Mutated`](super::Origin::Mutated): it shows what a merge does to large
//! and to many values, and nothing of what clients write later.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use stator_core::divergence::Divergence;

use super::evaluate::{Evaluator, Stop};
use super::form;
use super::words::is_free;

/// Widths of numbers, and 0 for runs of letters.
const WIDTHS: [usize; 5] = [0, 8, 4, 2, 1];
/// Tokens of a width that are tried; the most frequent ones.
const TOKENS_TRIED: usize = 24;
/// Samples on which each is tried: what is a number in one may be a length in the next.
const TRIALS_EACH: usize = 3;
/// Samples in which they are looked for.
const SAMPLES_MAX: usize = 20;
/// Tokens that are known at most, those included that were made of others.
const TOKENS_MAX: usize = 1 << 16;

/// The tokens of a format that is no text, by their width.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    kinds: Vec<Kind>,
}

/// Tokens that go together: numbers of one width, or words.
#[derive(Debug, Default)]
struct Kind {
    free: HashSet<Vec<u8>>,
    /// Their lengths, the largest first.
    lengths: Vec<usize>,
}

impl Tokens {
    /// Finds them by trial merges, if the samples are no text.
    pub(super) fn learn(
        evaluator: &mut Evaluator<'_>,
        samples: &[Divergence],
    ) -> Result<Self, Stop> {
        let mut kinds = Vec::new();
        for width in WIDTHS {
            let mut found: BTreeMap<&[u8], (usize, Vec<usize>)> = BTreeMap::new();
            for (n, sample) in samples.iter().enumerate().take(SAMPLES_MAX) {
                let values = sample.siblings.iter().filter_map(|sibling| sibling.value.as_ref());
                for value in values.filter(|value| form::text(value).is_none()) {
                    for token in of_width(value, width) {
                        let (times, samples) = found.entry(token).or_default();
                        *times += 1;
                        if samples.last() != Some(&n) && samples.len() < TRIALS_EACH {
                            samples.push(n);
                        }
                    }
                }
            }
            let mut found: Vec<_> = found.into_iter().collect();
            found.sort_by_key(|(_, (times, _))| std::cmp::Reverse(*times));
            let mut kind = Kind::default();
            for (token, (_, of)) in found.into_iter().take(TOKENS_TRIED) {
                let of: Vec<_> = of.into_iter().map(|n| &samples[n]).collect();
                if is_token(evaluator, token, &of)? {
                    kind.add(token.to_vec());
                }
            }
            if !kind.free.is_empty() {
                kinds.push(kind);
            }
        }
        Ok(Tokens { kinds })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The value with others in the place of all tokens of one kind, which follow from `suffix` and
    /// are tokens from now on; `None` if there are none in it.
    pub(super) fn renamed(&mut self, value: &Bytes, suffix: &str) -> Option<Bytes> {
        let kinds = self.kinds.len().max(1) as u64;
        let turn = usize::try_from(hash(&suffix) % kinds).ok()?;
        self.kinds.get_mut(turn)?.renamed(value, suffix)
    }
}

/// Whether each of these samples merges alike with another in the token's place.
fn is_token(
    evaluator: &mut Evaluator<'_>,
    token: &[u8],
    samples: &[&Divergence],
) -> Result<bool, Stop> {
    let rename = |value: &Bytes| {
        let mut alone = Kind::default();
        alone.add(token.to_vec());
        alone.renamed(value, "07")
    };
    for sample in samples {
        if !is_free(evaluator, sample, &rename)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Kind {
    fn add(&mut self, token: Vec<u8>) {
        if self.free.len() == TOKENS_MAX {
            return;
        }
        if let Err(at) = self.lengths.binary_search_by(|known| token.len().cmp(known)) {
            self.lengths.insert(at, token.len());
        }
        self.free.insert(token);
    }

    fn renamed(&mut self, value: &Bytes, suffix: &str) -> Option<Bytes> {
        let (mut renamed, mut at, mut made) = (Vec::with_capacity(value.len()), 0, Vec::new());
        while at < value.len() {
            let of = |length: &usize| value.get(at..at + length);
            let token = self.lengths.iter().filter_map(of).find(|token| self.free.contains(*token));
            match token {
                None => {
                    renamed.push(value[at]);
                    at += 1;
                }
                Some(token) => {
                    made.push(another(token, suffix));
                    renamed.extend_from_slice(&made[made.len() - 1]);
                    at += token.len();
                }
            }
        }
        let is_renamed = !made.is_empty();
        made.into_iter().for_each(|token| self.add(token));
        is_renamed.then(|| renamed.into())
    }
}

fn of_width(value: &[u8], width: usize) -> Vec<&[u8]> {
    if width > 0 {
        return value.windows(width).collect();
    }
    value.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| word.len() > 1).collect()
}

/// Letters for letters, any bytes for others.
fn another(token: &[u8], suffix: &str) -> Vec<u8> {
    let is_word = token.iter().all(u8::is_ascii_alphabetic);
    let byte = |n: usize| {
        let byte = hash(&(token, suffix, n)) as u8;
        if is_word { b'a' + byte % 26 } else { byte }
    };
    (0..token.len()).map(byte).collect()
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_became_is_a_token() {
        let mut tokens = Kind::default();
        tokens.add(b"tea".to_vec());
        tokens.add(vec![0xff, 1]);
        let value = Bytes::from_static(b"\x03tea\xff\x01-");
        let renamed = tokens.renamed(&value, "07").expect("it has tokens");
        assert_eq!((renamed.len(), renamed[0], renamed[6]), (7, 3, b'-'));
        assert!(renamed[1..4].iter().all(u8::is_ascii_lowercase) && &renamed[1..4] != b"tea");
        assert_eq!(tokens.renamed(&value, "07"), Some(renamed.clone()), "always the same");
        assert!(tokens.renamed(&renamed, "08").is_some());
        assert_eq!(tokens.renamed(&Bytes::from_static(b"\x03"), "07"), None);
    }
}
