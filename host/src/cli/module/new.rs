//! `stator module new`: a folder to begin a merge module with, in one of several languages.
//!
//! It builds anywhere. A crate of Rust brings guest-sdk and the WIT in `vendor/`, because neither is on
//! crates.io, in the state that this program was built from (see `build.rs` of this crate), and
//! a lock file with the versions that they are tested with; the others bring the WIT or bindings made of
//! it. What is needed from a registry the first build fetches.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::templates::Language;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};

/// The longest name of a module.
const NAME_BYTES_MAX: usize = 64;

/// What a crate cannot be called, besides Rust's keywords.
const RESERVED: [&str; 7] =
    ["test", "core", "std", "alloc", "proc_macro", "stator_guest", "wit_bindgen"];

const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else \
     enum extern false final fn for gen if impl in let loop macro match mod move mut override \
     priv pub ref return self static struct super trait true try type typeof unsafe unsized use \
     virtual where while yield";

const EXAMPLES: &str = "\
Examples:
  stator module new notes
  stator module new notes --path ~/src/notes-merge
  stator module new notes --lang javascript

A crate of Rust builds without network once cargo has fetched wit-bindgen; the other languages have
a build.sh that says what it needs.";

/// Begin a merge module: a folder with a small merge, its checks, and the commands to go on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct New {
    /// The module's name: lower-case letters, digits, `-` and `_`
    #[arg(value_parser = name)]
    name: String,
    /// The language: rust, c, cpp, assemblyscript, javascript or python
    #[arg(long, default_value = "rust", value_parser = language)]
    lang: Language,
    /// The folder to make [default: one of the module's name]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

impl New {
    pub(in crate::cli) fn run(self, output: Output) -> Result<(), Failure> {
        let folder = self.path.unwrap_or_else(|| PathBuf::from(&self.name));
        refuse_what_is_there(&folder)?;
        write_files(self.lang, &folder, &self.name).map_err(|error| {
            let folder = folder.display();
            Failure::refused(format!("cannot write the module: {error:#}"))
                .hint(format!("{folder} is incomplete: remove it before you try again"))
        })?;
        let lang = self.lang;
        match output {
            Output::Json => {
                let lang = lang.word();
                output::json(&json!({ "name": self.name, "lang": lang, "path": folder }))?;
            }
            Output::Table => {
                output::line(format!("{}: a merge module in {lang}", folder.display()))?;
            }
        }
        output::say(format!("next: cd {}, {}", folder.display(), lang.next_steps()));
        Ok(())
    }
}

/// The WIT of a module, for languages without a template.
pub(in crate::cli) fn print_wit() -> Result<(), Failure> {
    output::raw(crate::merge::WIT.as_bytes())
}

fn name(text: &str) -> Result<String, String> {
    let crate_name = text.replace('-', "_");
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(is_word) {
        return Err("it must begin with a lower-case letter and hold only such, digits, `-` and \
                    `_`"
        .to_owned());
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("it has {} characters, {NAME_BYTES_MAX} are allowed", text.len()));
    }
    let keyword = KEYWORDS.split_whitespace().any(|word| word == crate_name);
    if keyword || RESERVED.contains(&crate_name.as_str()) {
        return Err("no crate can be called so".to_owned());
    }
    Ok(text.to_owned())
}

fn language(text: &str) -> Result<Language, String> {
    Language::ALL.into_iter().find(|language| language.word() == text).ok_or_else(|| {
        let words = Language::ALL.map(|language| format!("`{}`", language.word())).join(", ");
        format!(
            "there are templates for {words}. Any language will do that makes a core module with the \
             functions of the WIT, or a component: `stator module wit` prints the WIT for its \
             generator of bindings, `stator module encode` does the rest"
        )
    })
}

/// Nothing is ever overwritten: only a folder that is new or empty is filled.
fn refuse_what_is_there(folder: &Path) -> Result<(), Failure> {
    let taken = |what: &str| {
        let message = format!("{} {what}; nothing was written", folder.display());
        Err(Failure::usage(message).hint("give another name, or a new folder with --path"))
    };
    match fs::read_dir(folder).map(|mut entries| entries.next()) {
        Ok(Some(_)) => taken("is there already, and not empty"),
        Ok(None) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => taken(&format!("cannot be the module's folder: {error}")),
    }
}

fn write_files(language: Language, folder: &Path, name: &str) -> anyhow::Result<()> {
    for (path, text) in language.written(name)? {
        write_new(&folder.join(path), &text)?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let about =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(about)?;
    }
    File::create_new(path).and_then(|mut file| file.write_all(text)).map_err(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for good in ["notes", "or-set", "a2_b"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "2a", "Notes", "a b", "a/b", "../a", "match", "stator-guest", &long] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = place.path().join("notes");
        let new = || New {
            name: "my-notes".to_owned(),
            lang: Language::Rust,
            path: Some(folder.clone()),
        };
        new().run(Output::Json).expect("a new folder");
        let test = fs::read_to_string(folder.join("tests/laws.rs")).expect("a test");
        assert!(test.contains("use my_notes::") && !test.contains("new_merge"), "{test}");
        fs::write(folder.join("src/lib.rs"), "mine").expect("an edit");
        assert!(new().run(Output::Json).is_err());
        assert_eq!(fs::read_to_string(folder.join("src/lib.rs")).expect("kept"), "mine");
    }

    #[test]
    fn another_language_is_told_where_the_wit_is() {
        let words = language("cobol").expect_err("no template");
        assert!(words.contains("`rust`") && words.contains("stator module wit"), "{words}");
    }
}
