//! Other words and numbers in the place of those of a sample, all over a history alike.
//!
//! A sampler that knows three words never makes a value of four. But a history in which every
//! `tea` is `tea07` is as good a history, if `tea` is a word of the user's and not of the format.
//! Which words are free is found by trial: one is if renaming it before a merge and after gives
//! the same bytes, order aside. Renaming appends digits to a run of letters, which keeps the
//! order of words and whatever stands before them (`-tea`), and so, nearly always, what is larger
//! than what. Scaling multiplies all numbers of a history, which keeps their order too.
//!
//! Both work on the text, so its layout stays. In JSON, words are only sought inside of strings
//! (names of fields are strings as well), numbers only outside.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome};

use super::cases::{below, whole};
use super::counterexample::Origin;
use super::evaluate::{Evaluator, Stop};
use super::form;
use super::tokens::Tokens;

/// Words that are tried; the most frequent ones.
const WORDS_MAX: usize = 48;
/// Samples in which words are looked for.
const SAMPLES_MAX: usize = 60;
/// What numbers are multiplied by.
const FACTORS: [u64; 6] = [10, 1_000, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 44];

/// The words of a format that its users choose.
#[derive(Debug, Default)]
pub(super) struct Words {
    free: BTreeSet<String>,
    /// Those of values that are no text.
    tokens: Tokens,
    used: u32,
}

impl Words {
    /// Finds the free words of `samples` by trial merges.
    pub(super) fn learn(
        evaluator: &mut Evaluator<'_>,
        samples: &[Divergence],
    ) -> Result<Self, Stop> {
        let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (n, sample) in samples.iter().enumerate().take(SAMPLES_MAX) {
            // Of equal siblings there is no merge that could tell.
            if whole(sample, Ancestor::Unknown).inputs.len() < 2 {
                continue;
            }
            for value in sample.siblings.iter().filter_map(|sibling| sibling.value.as_ref()) {
                let Some(text) = form::text(value) else { continue };
                for word in words(text) {
                    found.entry(text[word].to_owned()).or_insert((n, 0)).1 += 1;
                }
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(_, (_, times))| std::cmp::Reverse(*times));
        let mut free = BTreeSet::new();
        for (word, (n, _)) in found.into_iter().take(WORDS_MAX) {
            let suffix = |found: &str| (found == word).then_some("07");
            if is_free(evaluator, &samples[n], &|value| rename(value, &suffix))? {
                free.insert(word);
            }
        }
        Ok(Words { free, tokens: Tokens::learn(evaluator, samples)?, used: 0 })
    }

    /// What becomes of a sample by renaming.
    pub(super) fn origin(&self) -> Origin {
        if self.tokens.is_empty() { Origin::Alike } else { Origin::Mutated }
    }

    /// Words that nobody has used yet: `07`; now and then long or unusual ones.
    pub(super) fn fresh(&mut self, rng: &mut ChaCha8Rng) -> String {
        self.used += 1;
        let number = format!("{:02}", self.used % 100);
        match below(rng, 12) {
            0 => format!("{number}{}", "0".repeat(below(rng, 300))),
            1 => format!("{number}é"),
            2 => format!("{number}\u{1f375}"),
            _ => number,
        }
    }

    /// The value with `suffix` at all free words; `None` if there are none in it.
    pub(super) fn renamed(&mut self, value: &Bytes, suffix: &str) -> Option<Bytes> {
        if form::text(value).is_none() {
            return self.tokens.renamed(value, suffix);
        }
        rename(value, &|word| self.free.contains(word).then_some(suffix))
    }

    /// The whole sample renamed, scaled, or both; `None` if that changes nothing.
    pub(super) fn another(
        &mut self,
        sample: &Divergence,
        rng: &mut ChaCha8Rng,
    ) -> Option<Divergence> {
        let suffix = (below(rng, 4) > 0).then(|| self.fresh(rng));
        let factor = (below(rng, 3) == 0).then(|| FACTORS[below(rng, FACTORS.len())]);
        // All numbers of the history or none, or what is larger would change.
        let factor = factor.filter(|factor| values(sample).all(|value| can_scale(value, *factor)));
        let mut change = |version: &DivergentVersion| {
            let value = version.value.as_ref()?;
            let renamed = suffix.as_ref().and_then(|suffix| self.renamed(value, suffix));
            let value = renamed.unwrap_or_else(|| value.clone());
            Some(factor.map_or(value.clone(), |factor| scaled(&value, factor)))
        };
        map(sample, &mut change)
    }
}

/// The sample with other payloads; `None` if all of them stay the same.
fn map(
    sample: &Divergence,
    change: &mut dyn FnMut(&DivergentVersion) -> Option<Bytes>,
) -> Option<Divergence> {
    let mut changed = |version: &DivergentVersion| DivergentVersion {
        value: change(version).or_else(|| version.value.clone()),
        ..version.clone()
    };
    let mut other = sample.clone();
    other.siblings = sample.siblings.iter().map(&mut changed).collect();
    if let Ancestor::Known(known) = &sample.ancestor {
        other.ancestor = Ancestor::Known(changed(known));
    }
    (other != *sample).then_some(other)
}

/// Whether the merge treats what is renamed like anything else.
pub(super) fn is_free(
    evaluator: &mut Evaluator<'_>,
    sample: &Divergence,
    rename: &dyn Fn(&Bytes) -> Option<Bytes>,
) -> Result<bool, Stop> {
    let renamed = map(sample, &mut |version| rename(version.value.as_ref()?));
    let Some(renamed) = renamed else { return Ok(false) };
    let mut merged = Vec::new();
    for sample in [sample, &renamed] {
        evaluator.begin();
        merged.push(evaluator.outcome(&whole(sample, sample.ancestor.clone()))?);
    }
    let [Some(Outcome::Value(before)), Some(Outcome::Value(after))] = merged.as_slice() else {
        return Ok(false);
    };
    let sorted = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    // Fields may come in another order by their new names.
    let expected = rename(before).unwrap_or_else(|| before.clone());
    Ok(sorted(&expected) == sorted(after))
}

fn rename<'a>(value: &Bytes, suffix: &dyn Fn(&str) -> Option<&'a str>) -> Option<Bytes> {
    let text = form::text(value)?;
    let (mut renamed, mut done) = (String::with_capacity(text.len()), 0);
    for word in words(text) {
        if let Some(suffix) = suffix(&text[word.clone()]) {
            renamed.push_str(&text[done..word.end]);
            renamed.push_str(suffix);
            done = word.end;
        }
    }
    renamed.push_str(&text[done..]);
    (done > 0).then(|| renamed.into())
}

fn values(sample: &Divergence) -> impl Iterator<Item = &Bytes> {
    let ancestor = match &sample.ancestor {
        Ancestor::Known(known) => known.value.as_ref(),
        Ancestor::Unknown | Ancestor::Absent => None,
    };
    sample.siblings.iter().filter_map(|sibling| sibling.value.as_ref()).chain(ancestor)
}

/// Whether no number of the value becomes too large.
fn can_scale(value: &Bytes, factor: u64) -> bool {
    let text = form::text(value).unwrap_or_default();
    let product = |number: &str| number.parse::<u64>().ok()?.checked_mul(factor);
    numbers(text).into_iter().all(|number| product(&text[number]).is_some())
}

/// All whole numbers times `factor`.
fn scaled(value: &Bytes, factor: u64) -> Bytes {
    let Some(text) = form::text(value) else { return value.clone() };
    let (mut scaled, mut done) = (String::with_capacity(text.len()), 0);
    for number in numbers(text) {
        let n: u64 = text[number.clone()].parse().unwrap_or_default();
        scaled.push_str(&text[done..number.start]);
        scaled.push_str(&n.saturating_mul(factor).to_string());
        done = number.end;
    }
    scaled.push_str(&text[done..]);
    scaled.into()
}

/// The runs of letters that may be words of a user.
pub(super) fn words(text: &str) -> Vec<Range<usize>> {
    let is_json = is_json(text);
    let of = |n: usize, character: char, inside: bool| {
        (character.is_alphabetic() && (inside || !is_json)).then_some(n)
    };
    runs(text, is_json, of)
}

/// The runs of letters and digits, in JSON those inside of strings.
pub(super) fn tokens(text: &str) -> Vec<Range<usize>> {
    let is_json = is_json(text);
    let of = |n: usize, character: char, inside: bool| {
        (character.is_alphanumeric() && (inside || !is_json)).then_some(n)
    };
    runs(text, is_json, of)
}

/// The whole numbers that stand for themselves.
pub(super) fn numbers(text: &str) -> Vec<Range<usize>> {
    let is_json = is_json(text);
    let of = |n: usize, character: char, inside: bool| {
        (character.is_ascii_digit() && !inside).then_some(n)
    };
    let mut found = runs(text, is_json, of);
    found.retain(|number| {
        let before = text[..number.start].chars().next_back();
        let after = text[number.end..].chars().next();
        let joins = |c: Option<char>| {
            c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | ':'))
        };
        let stands_alone = if is_json {
            !matches!(before, Some('.' | 'e' | 'E' | '+'))
                && !matches!(after, Some('.' | 'e' | 'E'))
        } else {
            !joins(before) && !joins(after)
        };
        let digits = &text[number.clone()];
        stands_alone && (digits == "0" || !digits.starts_with('0'))
    });
    found
}

/// The numbers, in JSON of any kind.
pub(super) fn figures(text: &str) -> Vec<Range<usize>> {
    if !is_json(text) {
        return numbers(text);
    }
    let of = |n: usize, c: char, inside: bool| {
        let is_of_number = c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
        (is_of_number && !inside).then_some(n)
    };
    let mut found = runs(text, true, of);
    found.retain(|number| text[number.clone()].parse::<f64>().is_ok());
    found
}

/// Whether it is JSON, or JSON in every line.
pub(super) fn is_json(text: &str) -> bool {
    let parses = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    parses(text) || text.contains('\n') && text.lines().all(|line| line.is_empty() || parses(line))
}

/// Runs of the characters that `of` takes; it is told whether they are inside of a JSON string.
/// Escapes belong to none.
fn runs(
    text: &str,
    is_json: bool,
    of: impl Fn(usize, char, bool) -> Option<usize>,
) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut inside, mut escaped) = (false, 0);
    for (n, character) in text.char_indices() {
        if escaped > 0 {
            // `\u` takes four more.
            escaped = if escaped == 1 && character == 'u' && text[..n].ends_with('\\') {
                4
            } else {
                escaped - 1
            };
            continue;
        }
        match character {
            '\\' if is_json => escaped = 1,
            '"' if is_json => inside = !inside,
            _ => {
                let Some(at) = of(n, character, inside) else { continue };
                let end = at + character.len_utf8();
                match found.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => found.push(at..end),
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(text: &'a str, ranges: &[Range<usize>]) -> Vec<&'a str> {
        ranges.iter().map(|range| &text[range.clone()]).collect()
    }

    #[test]
    fn words_are_letters_and_in_json_inside_of_strings() {
        let text = "-milk\nGröße-2 a";
        assert_eq!(of(text, &words(text)), ["milk", "Größe", "a"]);
        let json = r#"{"it\u00e9ms":[true,"a\nb","c7d"],"n":1e5}"#;
        assert_eq!(of(json, &words(json)), ["it", "ms", "a", "b", "c", "d", "n"]);
    }

    #[test]
    fn numbers_are_whole_and_in_json_outside_of_strings() {
        let json = r#"{"a7":17,"b":[1.5,-3,1e5,"9"],"c":0}"#;
        assert_eq!(of(json, &numbers(json)), ["17", "3", "0"]);
        assert_eq!(of("ant 12 x3 007 4", &numbers("ant 12 x3 007 4")), ["12", "4"]);
        assert_eq!(scaled(&Bytes::from("{\"a\":17}"), 10), "{\"a\":170}");
        assert!(!can_scale(&Bytes::from("18446744073709551615"), 10));
        assert!(can_scale(&Bytes::from("no number"), 10));
    }

    #[test]
    fn a_suffix_keeps_the_layout() {
        let suffix = |word: &str| (word == "milk").then_some("07");
        let renamed = rename(&Bytes::from("{ \"-milk\" : \"milkshake milk\" }"), &suffix);
        assert_eq!(renamed.as_deref(), Some(&b"{ \"-milk07\" : \"milkshake milk07\" }"[..]));
        assert_eq!(rename(&Bytes::from("tea"), &suffix), None);
    }
}
