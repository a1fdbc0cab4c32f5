//! Putting the sources together.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Error, Kind};
use figment::providers::{Format, Serialized, Toml};
use serde::Serialize;

use super::environment::{self, Environment};
use super::{Config, Refusal, Secret};

/// Why there is no configuration. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` could not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A source holds something that is no setting, or a value that does not fit.
    #[error("{0}")]
    Invalid(String),
    /// The secret's file could not be read or is empty.
    #[error("cannot take a cluster secret from {}: {reason}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings are understood, but must not be used together.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The configuration from defaults, `file`, the environment and `flags`, later ones winning, with
/// the secret's file read and all rules checked. `flags` serialises to the settings it gives.
///
/// # Errors
/// Names the source and the setting, what is wrong and what is allowed.
pub fn load(file: Option<&Path>, flags: &impl Serialize) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        // figment takes a missing file for an empty one.
        File::open(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Environment::of_process()).merge(Serialized::defaults(flags));
    let mut config: Config =
        figment.extract().map_err(|error| ConfigError::Invalid(describe(error)))?;
    if let Some(path) = config.cluster_secret_file.clone() {
        config.cluster_secret = Some(read_secret(path)?);
    }
    if let Some(path) = config.previous_secrets_file.clone() {
        config.previous_secrets.extend(read_secrets(path)?);
    }
    config.check()?;
    Ok(config)
}

fn read_secret(path: PathBuf) -> Result<Secret, ConfigError> {
    let secrets = read_lines(&path, |text| vec![Secret::new(text.trim_end())])?;
    let secret = secrets.into_iter().next().filter(|secret| !secret.reveal().is_empty());
    let empty = || "the file is empty".to_owned();
    secret.ok_or_else(|| ConfigError::Secret { path, reason: empty() })
}

fn read_secrets(path: PathBuf) -> Result<Vec<Secret>, ConfigError> {
    read_lines(&path, |text| {
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        lines.map(Secret::new).collect()
    })
}

/// What `secrets` finds in the file, none of them too short to be one.
fn read_lines(
    path: &Path,
    secrets: impl FnOnce(&str) -> Vec<Secret>,
) -> Result<Vec<Secret>, ConfigError> {
    let failed = |reason: String| ConfigError::Secret { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let secrets = secrets(&text);
    let is_short = |secret: &&Secret| !secret.reveal().is_empty() && secret.is_short();
    match secrets.iter().find(is_short) {
        Some(_) => Err(failed(format!("a secret in it is too short: {}", Secret::RULE))),
        None => Ok(secrets),
    }
}

/// Words for what figment found: which setting, from where, and what would be right.
fn describe(error: Error) -> String {
    let setting = error.path.join(".");
    let (name, file) = match &error.metadata {
        Some(metadata) => {
            let file = metadata.source.as_ref().and_then(|source| source.file_path());
            (metadata.name.as_ref(), file)
        }
        None => ("", None),
    };
    let source = match file {
        Some(path) => format!("the configuration file {}", path.display()),
        None if name == environment::NAME => {
            let variable = setting.to_uppercase().replace('.', "__");
            format!("the environment variable STATOR_{variable}")
        }
        None => "the command line".to_owned(),
    };
    match error.kind {
        Kind::UnknownField(field, known) => {
            format!(
                "{source} has an unknown setting `{field}`; known here are: {}",
                known.join(", ")
            )
        }
        kind if setting.is_empty() => {
            format!("{source} cannot be read as TOML: {}", without_excerpt(&kind.to_string()))
        }
        // The kind repeats the value.
        _ if setting.contains("secret") => format!(
            "{source} has a wrong value for `{setting}`, which is not repeated here: a secret is \
             text, several are a list of texts"
        ),
        kind => format!("{source} has a wrong value for `{setting}`: {kind}"),
    }
}

/// The words of a TOML error without the line of the file that they are about: a secret may be in
/// it.
fn without_excerpt(text: &str) -> String {
    let is_told = |line: &&str| {
        !line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|')
    };
    text.lines().filter(is_told).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn load_text(text: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        load(Some(file.path()), &serde_json::json!({}))
    }

    #[test]
    fn without_any_source_the_defaults_hold() {
        let config = load(None, &serde_json::json!({})).expect("defaults are valid");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn flags_win_over_the_file_which_wins_over_defaults() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(b"zone = \"b\"\nweight = 3\n[limits]\nkey_bytes_max = 64\n")
            .expect("written");
        let flags = serde_json::json!({ "weight": 5 });
        let config = load(Some(file.path()), &flags).expect("valid");
        assert_eq!((config.zone.as_str(), config.weight), ("b", 5));
        assert_eq!(config.limits.key_bytes_max, 64);
        assert_eq!(config.limits.value_bytes_max, 1 << 20);
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_file_and_the_known_ones() {
        let error = load_text("[limits]\nkey_size = 1\n").expect_err("unknown").to_string();
        for part in ["configuration file", "key_size", "key_bytes_max"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_setting() {
        let error = load_text("client_listen = \"nowhere\"").expect_err("wrong").to_string();
        assert!(error.contains("client_listen") && error.contains("configuration file"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_toml_or_is_missing_is_named() {
        let error = load_text("zone = = 1").expect_err("no TOML").to_string();
        assert!(error.contains("TOML"), "{error}");
        let missing = load(Some(Path::new("/nonexistent/stator.toml")), &serde_json::json!({}));
        assert!(missing.expect_err("missing").to_string().contains("/nonexistent/stator.toml"));
    }

    #[test]
    fn a_secret_comes_from_its_file_or_the_file_is_blamed() {
        let mut secret = tempfile::NamedTempFile::new().expect("a temporary file");
        let line = format!("cluster_secret_file = {:?}", secret.path());
        assert!(matches!(load_text(&line), Err(ConfigError::Secret { .. })), "an empty file");
        secret.write_all(b"open sesame").expect("written");
        let short = load_text(&line).expect_err("too short").to_string();
        assert!(short.contains("16 bytes") && !short.contains("sesame"), "{short}");
        secret.write_all(b", open again\n").expect("written");
        let config = load_text(&line).expect("valid");
        assert_eq!(config.cluster_secret.expect("a secret").reveal(), "open sesame, open again");
    }

    #[test]
    fn no_error_repeats_a_secret() {
        let texts = [
            "cluster_secret = 712371237123712371",
            "cluster_secret = [\"712371237123\"]",
            "cluster_secret = \"712371237123",
            "cluster_secret = 712371237123 712371237123",
            "cluster_secret = \"712371237123\"",
            "previous_secrets = \"712371237123712371237123\"",
            "previous_secrets = [712371237123712371]",
            "previous_secrets = [\"712371237123\"]",
            "secret = 712371237123712371",
        ];
        for text in texts {
            let error = load_text(text).expect_err(text);
            assert!(!format!("{error} {error:?}").contains("7123"), "{text}: {error} {error:?}");
        }
    }
}
