//! Merge modules for the tests of the host, as examples of this crate: `make components` builds them.

/// Words, one a line: the format of all of them.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|word| !word.is_empty())
}

/// Some words, as clients write them who have read `base`.
pub fn more_words(base: &str, mut below: impl FnMut(u32) -> u32) -> String {
    let all =
        ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "kea", "lynx"];
    let mut words: std::collections::BTreeSet<&str> = base.lines().collect();
    for _ in 0..below(4) {
        words.insert(all[below(all.len() as u32) as usize]);
    }
    words.into_iter().collect::<Vec<_>>().join("\n")
}
