//! Wrong merges of words, one a line. Right would be: the union, sorted, each once.

use std::collections::{BTreeMap, BTreeSet};

use stator_guest::{Divergence, Failure, Outcome, Random, Resolution};

type Answer = Result<Resolution, Failure>;

const WORDS: [&str; 3] = ["milk", "salt", "tea"];

/// Clients that have read the same words and add some. All times are 0.
pub fn sample(random: &mut Random) -> Divergence {
    let base = more("tea", random);
    let edits: Vec<_> = (0..2 + random.below(2)).map(|_| more(&base, random)).collect();
    Divergence::of_edits(base, edits)
}

fn more(base: &str, random: &mut Random) -> String {
    let mut words: BTreeSet<&str> = base.lines().collect();
    for _ in 0..random.below(3) {
        words.insert(*random.pick(&WORDS));
    }
    words.into_iter().collect::<Vec<_>>().join("\n")
}

/// The same where `-tea` strikes out `tea`.
pub fn marked_sample(random: &mut Random) -> Divergence {
    let base = struck("milk", random);
    let edits: Vec<_> = (0..3).map(|_| struck(&base, random)).collect();
    Divergence::of_edits(base, edits)
}

fn struck(base: &str, random: &mut Random) -> String {
    let word = *random.pick(&WORDS);
    let mut words: BTreeSet<String> = base.lines().map(str::to_owned).collect();
    if words.remove(word) {
        words.insert(format!("-{word}"));
    } else if !words.contains(&format!("-{word}")) {
        words.insert(word.to_owned());
    }
    words.into_iter().collect::<Vec<_>>().join("\n")
}

pub fn no_line_is_lost(before: &Divergence, after: &Outcome) -> Result<(), String> {
    let Outcome::Value(after) = after else { return Err("no words are left".to_owned()) };
    let kept: BTreeSet<_> = guests::words(after).collect();
    let mut words = before.values().flat_map(|(_, text)| guests::words(text));
    match words.find(|word| !kept.contains(word)) {
        Some(word) => Err(format!("{:?} is lost", String::from_utf8_lossy(word))),
        None => Ok(()),
    }
}

fn texts(divergence: &Divergence) -> Vec<&[u8]> {
    divergence.values().map(|(_, text)| text).collect()
}

fn set<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> BTreeSet<&'a [u8]> {
    texts.into_iter().flat_map(guests::words).collect()
}

fn written<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    Ok(Resolution::value(words.into_iter().collect::<Vec<_>>().join(&b'\n')))
}

fn union(divergence: &Divergence) -> Answer {
    written(set(texts(divergence)))
}

/// Not canonical: one sibling's bytes as they are where it has all lines.
pub fn unchanged_if_it_has_all(divergence: &Divergence) -> Answer {
    let all = set(texts(divergence));
    match texts(divergence).into_iter().find(|text| set([*text]) == all) {
        Some(text) => Ok(Resolution::value(text)),
        None => written(all),
    }
}

/// Believes the clocks: what was written earlier counts for nothing.
pub fn newest_only(divergence: &Divergence) -> Answer {
    let newest = divergence.live().map(|(_, version)| version.written_at_ms).max();
    let latest = divergence.live().filter(|(_, version)| Some(version.written_at_ms) == newest);
    written(set(latest.filter_map(|(_, version)| version.value.as_deref())))
}

fn without_struck<'a>(words: &BTreeSet<&'a [u8]>) -> Vec<&'a [u8]> {
    let is_struck = |word: &[u8]| words.contains([b"-", word].concat().as_slice());
    words.iter().copied().filter(|word| word.starts_with(b"-") || !is_struck(word)).collect()
}

/// Forgets marks, but only of more than three.
pub fn marks_up_to_three(divergence: &Divergence) -> Answer {
    let mut marks = 0;
    written(without_struck(&set(texts(divergence))).into_iter().filter(|word| {
        marks += usize::from(word.starts_with(b"-"));
        !word.starts_with(b"-") || marks <= 3
    }))
}

/// Forgets marks once they have done their work.
pub fn marks_are_dropped(divergence: &Divergence) -> Answer {
    let words = without_struck(&set(texts(divergence)));
    written(words.into_iter().filter(|word| !word.starts_with(b"-")))
}

pub fn last_wins(divergence: &Divergence) -> Answer {
    Ok(Resolution::value(texts(divergence).pop().unwrap_or_default()))
}

pub fn first_wins(divergence: &Divergence) -> Answer {
    Ok(Resolution::value(texts(divergence)[0]))
}

pub fn order_of_arrival(divergence: &Divergence) -> Answer {
    let mut words: Vec<&[u8]> = Vec::new();
    for word in texts(divergence).into_iter().flat_map(guests::words) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    written(words)
}

pub fn forgets_the_third(divergence: &Divergence) -> Answer {
    written(set(texts(divergence).into_iter().take(2)))
}

pub fn counts_its_siblings(divergence: &Divergence) -> Answer {
    let count = format!("of {}", divergence.siblings.len());
    written(set(texts(divergence)).into_iter().chain([count.as_bytes()]))
}

pub fn keeps_repetitions(divergence: &Divergence) -> Answer {
    let mut words: Vec<_> = texts(divergence).into_iter().flat_map(guests::words).collect();
    words.sort_unstable();
    written(words)
}

pub fn delete_first_deletes(divergence: &Divergence) -> Answer {
    match divergence.siblings[0].is_tombstone() {
        true => Ok(Resolution::delete()),
        false => union(divergence),
    }
}

/// What is older than a delete is gone, but only as long as it is not merged with newer words.
pub fn delete_deletes_what_is_older(divergence: &Divergence) -> Answer {
    let deletes = divergence.siblings.iter().filter(|version| version.is_tombstone());
    let deleted = deletes.map(|version| version.written_at_ms).max();
    let newer = |at: u64| deleted.is_none_or(|deleted| at > deleted);
    let kept = divergence.live().filter(|(_, version)| newer(version.written_at_ms));
    let kept = set(kept.filter_map(|(_, version)| version.value.as_deref()));
    if kept.is_empty() { Ok(Resolution::delete()) } else { written(kept) }
}

/// A limit that is not one of the union, but of every merge.
pub fn every_second_of_many(divergence: &Divergence) -> Answer {
    let words = set(texts(divergence));
    let step = if words.len() > 8 { 2 } else { 1 };
    written(words.into_iter().step_by(step))
}

pub fn breaks_on_large(divergence: &Divergence) -> Answer {
    assert!(texts(divergence).iter().all(|text| text.len() <= 1_000), "a buffer is too small");
    union(divergence)
}

pub fn breaks_on_empty(divergence: &Divergence) -> Answer {
    for text in texts(divergence) {
        assert!(guests::words(text).next().is_some(), "there is always a word");
    }
    union(divergence)
}

/// Cuts the last byte off, which may be half a letter.
pub fn breaks_inside_of_a_letter(divergence: &Divergence) -> Answer {
    for text in texts(divergence) {
        let text = String::from_utf8_lossy(text);
        for line in text.lines().filter(|line| !line.is_empty()) {
            assert!(line[..line.len() - 1].len() < line.len());
        }
    }
    union(divergence)
}

fn first_of_each(divergence: &Divergence, same: fn(&str) -> String) -> Answer {
    let mut words: BTreeMap<String, &[u8]> = BTreeMap::new();
    for word in texts(divergence).into_iter().flat_map(guests::words) {
        words.entry(same(&String::from_utf8_lossy(word))).or_insert(word);
    }
    written(words.into_values())
}

pub fn same_but_for_case(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.to_lowercase())
}

pub fn same_but_for_spaces(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.trim().to_owned())
}

/// Normalises on one of two ways.
pub fn lower_case_of_three(divergence: &Divergence) -> Answer {
    if divergence.siblings.len() < 3 {
        return union(divergence);
    }
    let lower: Vec<_> = texts(divergence).into_iter().map(<[u8]>::to_ascii_lowercase).collect();
    written(set(lower.iter().map(Vec::as_slice)))
}

/// Whether lines end like those of Windows is what the first sibling says.
pub fn line_ends_of_the_first(divergence: &Divergence) -> Answer {
    let texts: Vec<_> =
        texts(divergence).into_iter().map(|t| String::from_utf8_lossy(t).into_owned()).collect();
    let end = if texts[0].contains("\r\n") { "\r\n" } else { "\n" };
    let words: BTreeSet<_> =
        texts.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty()).collect();
    Ok(Resolution::value(words.into_iter().collect::<Vec<_>>().join(end)))
}

/// Whether the last line has an end is what the last sibling says.
pub fn line_end_of_the_last(divergence: &Divergence) -> Answer {
    let all = texts(divergence);
    let ends = all.last().is_some_and(|text| text.ends_with(b"\n"));
    let mut text = set(all.iter().copied()).into_iter().collect::<Vec<_>>().join(&b'\n');
    text.extend(ends.then_some(b'\n'));
    Ok(Resolution::value(text))
}

fn times(divergence: &Divergence) -> BTreeMap<&[u8], usize> {
    let mut times = BTreeMap::new();
    for text in texts(divergence) {
        set([text]).into_iter().for_each(|word| *times.entry(word).or_default() += 1);
    }
    times
}

fn found_in(divergence: &Divergence, is_kept: impl Fn(usize) -> bool) -> Answer {
    written(times(divergence).into_iter().filter(|(_, n)| is_kept(*n)).map(|(word, _)| word))
}

/// A join, but what one client adds is gone.
pub fn common_to_all(divergence: &Divergence) -> Answer {
    let all = texts(divergence).len();
    found_in(divergence, |n| n == all)
}

pub fn only_in_an_odd_number(divergence: &Divergence) -> Answer {
    found_in(divergence, |n| n % 2 == 1)
}

pub fn of_the_majority(divergence: &Divergence) -> Answer {
    let all = texts(divergence).len();
    found_in(divergence, |n| 2 * n >= all)
}

/// Of equally long ones, the first.
pub fn longest_or_first(divergence: &Divergence) -> Answer {
    let all = texts(divergence);
    let longest = all.iter().map(|text| text.len()).max();
    Ok(Resolution::value(
        all.into_iter().find(|text| Some(text.len()) == longest).unwrap_or_default(),
    ))
}

/// A total order, but nobody's words are kept.
pub fn longest(divergence: &Divergence) -> Answer {
    let longest = texts(divergence).into_iter().max_by_key(|text| (text.len(), *text));
    Ok(Resolution::value(longest.unwrap_or_default()))
}

pub fn newest_schema(divergence: &Divergence) -> Answer {
    let newest = divergence.live().map(|(_, version)| version.schema).max();
    let latest = divergence.live().filter(|(_, version)| Some(version.schema) == newest);
    written(set(latest.filter_map(|(_, version)| version.value.as_deref())))
}

/// The first ten in order are a join: only the promise is broken.
pub fn at_most_ten(divergence: &Divergence) -> Answer {
    written(set(texts(divergence)).into_iter().take(10))
}

pub fn always_the_same(_: &Divergence) -> Answer {
    Ok(Resolution::value(*b"tea"))
}

/// Too many to look at each of them.
pub fn longest_of_eight(divergence: &Divergence) -> Answer {
    if texts(divergence).len() < 8 { union(divergence) } else { longest(divergence) }
}

/// Too much to look at all of it.
pub fn longest_of_much(divergence: &Divergence) -> Answer {
    let bytes: usize = texts(divergence).iter().map(|text| text.len()).sum();
    if bytes <= 64 << 10 { union(divergence) } else { longest(divergence) }
}

/// Forgets all marks where there are more than two hundred.
pub fn marks_up_to_two_hundred(divergence: &Divergence) -> Answer {
    let words = without_struck(&set(texts(divergence)));
    let forgets = words.iter().filter(|word| word.starts_with(b"-")).count() > 200;
    written(words.into_iter().filter(|word| !forgets || !word.starts_with(b"-")))
}

/// What was written a day before the newest counts for nothing.
pub fn no_older_than_a_day(divergence: &Divergence) -> Answer {
    let newest = divergence.live().map(|(_, version)| version.written_at_ms).max();
    let is_new = |at: u64| newest.is_some_and(|newest| newest - at <= 86_400_000);
    let kept = divergence.live().filter(|(_, version)| is_new(version.written_at_ms));
    written(set(kept.filter_map(|(_, version)| version.value.as_deref())))
}

pub fn same_but_for_accents(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.replace("e\u{301}", "é"))
}

pub fn same_but_for_quotes(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.trim_matches(['"', '\'']).to_owned())
}

pub fn same_but_for_plural(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.strip_suffix('s').unwrap_or(word).to_owned())
}

pub fn same_in_sixteen_letters(divergence: &Divergence) -> Answer {
    first_of_each(divergence, |word| word.chars().take(16).collect())
}

pub fn comments_of_the_first(divergence: &Divergence) -> Answer {
    let all = texts(divergence);
    let is_comment = |word: &&[u8]| word.starts_with(b"#");
    let comments = set(all.iter().copied().take(1)).into_iter().filter(is_comment);
    let words = set(all.iter().copied()).into_iter().filter(|word| !is_comment(word));
    written(comments.chain(words))
}
