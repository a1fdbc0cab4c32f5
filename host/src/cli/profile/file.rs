//! The file of profiles: `default = "NAME"` and sections `[profile.NAME]`, which have the connection
//! options by their names with _ for -, and `token`.
//!
//! It is at `STATOR_CONFIG`, else `stator/config.toml` in the folder of a person's settings. Files that it
//! names without a root are found from its own folder. What it holds may be a token, so it is written for
//! its owner alone, and no error repeats a line of it. A change keeps the rest of the file as it is, words
//! of its owner included.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use crate::cli::connection::Connection;
use crate::cli::failure::Failure;

/// The variable that names the file.
const VARIABLE: &str = "STATOR_CONFIG";

/// What is in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    default: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, Connection>,
}

/// The file, read and understood.
pub(super) struct File {
    pub(super) path: PathBuf,
    document: DocumentMut,
    settings: Settings,
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn path() -> Result<PathBuf, Failure> {
    let folder = || match variable("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute()) {
        Some(folder) => Some(folder),
        None => variable("HOME").map(|home| home.join(".config")),
    };
    let path = variable(VARIABLE).or_else(|| Some(folder()?.join("stator/config.toml")));
    path.ok_or_else(|| {
        Failure::usage("there is no place for profiles: neither HOME nor STATOR_CONFIG is set")
    })
}

impl File {
    /// The file; an empty one if there is none.
    pub(super) fn read() -> Result<File, Failure> {
        let path = path()?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                String::new()
            }
            Err(error) => {
                let message = format!("cannot read the profiles in {}: {error}", path.display());
                return Err(Failure::usage(message));
            }
        };
        File::of(path, &text)
    }

    /// The same for who has not asked for a profile: a folder that is closed to them has none of theirs.
    pub(super) fn read_if_any() -> Result<Option<File>, Failure> {
        match path() {
            Ok(path) if variable(VARIABLE).is_none() && fs::File::open(&path).is_err() => Ok(None),
            Ok(_) => File::read().map(Some),
            Err(_) => Ok(None),
        }
    }

    fn of(path: PathBuf, text: &str) -> Result<File, Failure> {
        let settings: Settings = toml_edit::de::from_str(text)
            .map_err(|error| wrong(&path, text, error.span(), error.message()))?;
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            wrong(&path, text, error.span(), error.message())
        })?;
        for (name, profile) in &settings.profile {
            if let (Some(_), Some(_)) = profile.tokens() {
                let message = format!(
                    "{}: the profile {name} has both token and token_file: one is enough",
                    path.display()
                );
                return Err(Failure::usage(message));
            }
        }
        Ok(File { path, document, settings })
    }

    /// The name of the profile that holds where none is named.
    pub(super) fn default(&self) -> Option<&str> {
        self.settings.default.as_deref()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.profile.keys().map(String::as_str)
    }

    /// What the profile says.
    pub(super) fn profile(&self, name: &str) -> Result<Connection, Failure> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let found = self.settings.profile.get(name).cloned();
        Ok(found.ok_or_else(|| self.unknown(name))?.rooted(folder))
    }

    /// Where the profile's token is, if not only its owner can read it.
    pub(super) fn readable_token<'a>(&'a self, profile: &'a Connection) -> Option<&'a Path> {
        let holder = match profile.tokens() {
            (Some(file), _) => file,
            (None, Some(_)) => &self.path,
            (None, None) => return None,
        };
        let mode = fs::metadata(holder).map(|metadata| metadata.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o077 != 0).then_some(holder)
    }

    fn unknown(&self, name: &str) -> Failure {
        let names: Vec<_> = self.names().collect();
        let message = format!("no profile is called {name} in {}", self.path.display());
        Failure::usage(message).hint(match names.as_slice() {
            [] => "it has none: `stator profile set NAME --endpoint …` makes one".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        })
    }

    /// The settings of a profile as they stand in the file, a token left out.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<(String, String)>, Failure> {
        let section = self.document.get("profile").and_then(|all| all.get(name));
        let section = section.and_then(Item::as_table_like).ok_or_else(|| self.unknown(name))?;
        let text = |(key, item): (&str, &Item)| {
            let text = if key == "token" { "(not shown)" } else { item.as_str()? };
            Some((key.to_owned(), text.to_owned()))
        };
        Ok(section.iter().filter_map(text).collect())
    }

    /// Puts settings into a profile, which is made if there is none; a token and its file replace one
    /// another.
    pub(super) fn put(&mut self, name: &str, settings: &[(String, String)]) -> Result<(), Failure> {
        let no_table = || Failure::usage(format!("{}: profile is no table", self.path.display()));
        let all = self.document.entry("profile").or_insert_with(implicit);
        let all = all.as_table_like_mut().ok_or_else(no_table)?;
        let section = all.entry(name).or_insert_with(|| Item::Table(Table::new()));
        let section: &mut dyn TableLike = section.as_table_like_mut().ok_or_else(no_table)?;
        for (key, text) in settings {
            match key.as_str() {
                "token" => section.remove("token_file"),
                "token_file" => section.remove("token"),
                _ => None,
            };
            section.insert(key, value(text));
        }
        Ok(())
    }

    /// Takes a profile out, and its name as the one that holds where none is named.
    pub(super) fn delete(&mut self, name: &str) -> Result<(), Failure> {
        self.profile(name)?;
        let all = self.document.get_mut("profile").and_then(Item::as_table_like_mut);
        all.and_then(|all| all.remove(name));
        if self.default() == Some(name) {
            self.document.remove("default");
        }
        Ok(())
    }

    pub(super) fn make_default(&mut self, name: &str) {
        self.document["default"] = value(name);
    }

    /// The same, read again after a change.
    pub(super) fn again(self) -> Result<File, Failure> {
        File::of(self.path, &self.document.to_string())
    }

    /// Writes the file, for its owner alone.
    pub(super) fn write(&self) -> Result<(), Failure> {
        self.replace(&self.document.to_string()).map_err(|error| {
            let path = self.path.display();
            Failure::refused(format!("cannot write {path}: {error}; it is as it was"))
        })
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        // What stands there may be a link to where a person keeps such files.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Such a file is its owner's alone from the beginning.
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(text.as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(path)?;
        Ok(())
    }
}

/// A table that has no line of its own.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// What is wrong in the file, and in which line. The words of a wrong value repeat it, which of a token
/// they must not.
fn wrong(path: &Path, text: &str, at: Option<std::ops::Range<usize>>, message: &str) -> Failure {
    let before = text.get(..at.unwrap_or_default().start).unwrap_or(text);
    let number = before.matches('\n').count();
    let is_of_token = text.lines().nth(number).is_some_and(|line| line.contains("token"));
    let message = match message.starts_with("invalid type") && is_of_token {
        true => "a token, or its file, is a text in quotes".to_owned(),
        false => message.lines().collect::<Vec<_>>().join(": "),
    };
    Failure::usage(format!("{}:{}: {message}", path.display(), number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\ndefault = \"shop\"\n\n[profile.shop]\nendpoint = \"a:1\" # near\n\
                        token = \"secret\"\ntls_ca = \"ca.pem\"\n";

    fn file(text: &str) -> Result<File, String> {
        File::of("/etc/shop/config.toml".into(), text)
            .map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn a_profile_has_its_files_beside_it_and_shows_no_token() {
        let file = file(TEXT).expect("valid");
        assert_eq!(file.default(), Some("shop"));
        let shop = file.profile("shop").expect("there");
        assert_eq!(shop.endpoint(), "a:1");
        assert!(format!("{shop:?}").contains("/etc/shop/ca.pem"), "{shop:?}");
        assert!(!format!("{shop:?}").contains("secret"), "{shop:?}");
        let texts = file.texts("shop").expect("there");
        assert!(!format!("{texts:?}").contains("secret"), "{texts:?}");
        assert!(file.profile("other").expect_err("none").message().contains("other"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_no_token_is_repeated() {
        for (text, line, words) in [
            ("[profile.a]\nendpoint = \"a:1\"\nport = \"1\"", 3, "unknown field `port`"),
            ("color = 1", 1, "unknown field `color`"),
            ("default = \"a\"\n[profile.a]\noutput = \"xml\"", 3, "`xml`"),
            ("[profile.a]\ntimeout = \"soon\"", 2, "no duration"),
            ("[profile.a]\n\ntoken = 7123", 3, "in quotes"),
            ("[profile.a]\ntoken = \"7123", 2, ""),
            ("[profile.a]\ntokens = 7123", 2, "unknown field `tokens`"),
            ("[profile.a", 1, ""),
        ] {
            let message = file(text).err().expect(text);
            let place = format!("/etc/shop/config.toml:{line}: ");
            assert!(message.starts_with(&place) && message.contains(words), "{text}: {message}");
            assert!(!message.contains("7123"), "{message}");
        }
        let both = "[profile.a]\ntoken = \"a\"\ntoken_file = \"b\"";
        assert!(file(both).err().expect("both").contains("one is enough"));
    }

    #[test]
    fn a_change_keeps_the_rest_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("new/config.toml");
        let mut file = File::of(path.clone(), TEXT).expect("valid");
        let settings = [("admin", "b:2"), ("token_file", "t")];
        let settings = settings.map(|(key, text)| (key.to_owned(), text.to_owned()));
        file.put("shop", &settings).expect("put");
        file.put("other", &settings).expect("put");
        file.make_default("other");
        let file = file.again().map_err(|failure| failure.message().to_owned()).expect("valid");
        file.write().expect("written");
        assert_eq!(file.names().collect::<Vec<_>>(), ["other", "shop"]);
        let text = fs::read_to_string(&path).expect("read");
        let kept =
            ["# mine\ndefault = \"other\"\n", "endpoint = \"a:1\" # near\n", "[profile.other]\n"];
        for part in kept {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(!text.contains("secret") && !text.contains("[profile]"), "{text}");
        let mut file = file;
        file.delete("shop").expect("there");
        file.delete("none").expect_err("it is not there");
        assert_eq!(file.default(), Some("other"));
        file.delete("other").expect("there");
        let file = file.again().map_err(|failure| failure.message().to_owned()).expect("valid");
        assert_eq!((file.names().count(), file.default()), (0, None));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
