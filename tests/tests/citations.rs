//! `docs/dynamo.md` tells where each thing is and which test shows it: all of that exists.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a page cites in backticks: paths, and functions as `path::name`.
fn citations(page: &str) -> Vec<(&str, Option<&str>)> {
    let words = page.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| word.contains('/') && !word.contains(' ');
    words
        .filter(is_path)
        .map(|word| word.split_once("::").map_or((word, None), |(path, name)| (path, Some(name))))
        .collect()
}

/// What of them is not there, in words.
fn missing(root: &Path, page: &str) -> Vec<String> {
    let is_there = |(path, name): &(&str, Option<&str>)| {
        let text = match root.join(path) {
            path if path.is_dir() => Some(String::new()),
            path => fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        };
        text.is_some_and(|text| {
            name.is_none_or(|name| {
                text.match_indices(&format!("fn {name}"))
                    .any(|(at, found)| text[at + found.len()..].starts_with(['(', '<']))
            })
        })
    };
    let words = |(path, name): (&str, Option<&str>)| match name {
        Some(name) => format!("{path} has no fn {name}"),
        None => format!("{path} does not exist"),
    };
    citations(page).into_iter().filter(|cited| !is_there(cited)).map(words).collect()
}

#[test]
fn the_page_on_the_paper_cites_what_exists() {
    let page = fs::read_to_string(root().join("docs/dynamo.md")).expect("the page");
    assert!(citations(&page).len() > 80, "the page is read as it is written");
    let missing = missing(&root(), &page);
    assert!(missing.is_empty(), "docs/dynamo.md:\n{}", missing.join("\n"));
}

#[test]
fn what_does_not_exist_is_found() {
    let page = "`tests/tests/citations.rs::missing`, `tests/tests/citations.rs::miss` `w = 1/2` \
                `tests/nowhere.rs` `tests/tests`";
    let expected = ["tests/tests/citations.rs has no fn miss", "tests/nowhere.rs does not exist"];
    assert_eq!(missing(&root(), page), expected);
}
