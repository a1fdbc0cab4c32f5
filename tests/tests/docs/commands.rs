//! Commands of `stator` that stand in the text of a page, or in a block that cannot be run: whether the
//! program knows them, and their options.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use stator_tests::program;

/// Commands with commands of their own, which pages name without `stator` before them.
const GROUPS: [&str; 9] =
    ["access", "backup", "cluster", "conflicts", "keyspace", "kv", "module", "profile", "tls"];

/// The commands in the text of a page, blocks left out.
pub fn named(page: &str) -> BTreeSet<Vec<String>> {
    let blocks = page.split("```").step_by(2);
    let text = blocks.collect::<Vec<_>>().join(" ").replace("\\|", "|");
    let spans = text.split('`').skip(1).step_by(2).map(words);
    let is_command = |words: &Vec<String>| match words.as_slice() {
        [first, _, ..] => first == "stator" || GROUPS.contains(&first.as_str()),
        _ => false,
    };
    spans.filter(is_command).collect()
}

/// The command of `stator` in a line, perhaps in a container.
pub fn within(command: &str) -> Option<Vec<String>> {
    let words = words(command);
    let is_one = ["stator", "docker", "kubectl"].contains(&words.first()?.as_str());
    let at = words.iter().position(|word| word == "stator").filter(|_| is_one)?;
    Some(words[at..].to_vec())
}

/// The words of a command as a shell takes them, up to what is another one, or a remark.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut was_space) = (None, true);
    for character in command.chars() {
        let word = words.last_mut().expect("one at least");
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '|' | '>' | '<' | '&' | ';' | '…' | '$') => break,
            (None, '#') if was_space => break,
            (None, '\\' | '[' | ']') => {}
            (None, space) if space.is_whitespace() => words.push(String::new()),
            (_, other) => word.push(other),
        }
        was_space = character.is_whitespace();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What is wrong with a command, in the program's words. What its arguments mean is not looked at.
pub fn unknown(words: &[String]) -> Option<String> {
    let mut stator = Command::new(program());
    stator.args(words.strip_prefix(&["stator".to_owned()]).unwrap_or(words)).arg("--help");
    let output = stator.stdin(Stdio::null()).output().expect("stator runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let is_unknown = ["unexpected argument", "unrecognized subcommand"];
    let is_unknown = is_unknown.iter().any(|words| said.contains(words));
    is_unknown.then(|| format!("{}: {said}", words.join(" ")))
}

#[test]
fn commands_are_found_and_what_is_unknown_is_told() {
    let page = "`stator kv get KEY` `get` `cluster status`\n```sh\nstator nonsense\n```\n`module\n\
                new --lang c`, `stator kv put k 'a b' | cat`";
    let found: Vec<_> = named(page).iter().map(|words| words.join(" ")).collect();
    let expected =
        ["cluster status", "module new --lang c", "stator kv get KEY", "stator kv put k a b"];
    assert_eq!(found, expected);
    let within = within("docker compose exec node-1 stator health --wait 60s  # or not");
    assert_eq!(within.map(|words| words.join(" ")).as_deref(), Some("stator health --wait 60s"));
    let is_unknown = |command: &str| unknown(&words(command)).is_some();
    assert!(!is_unknown("stator kv get KEY --view siblings"));
    assert!(!is_unknown("keyspace update KEYSPACE --merges-per-second N"));
    assert!(is_unknown("stator kv get KEY --no-such-option"));
    assert!(is_unknown("cluster dance"));
}
