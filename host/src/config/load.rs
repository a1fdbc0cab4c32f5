//! Putting the sources together.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Error, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;

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
    figment = figment.merge(environment()).merge(Serialized::defaults(flags));
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

/// The variables that are named like a setting.
fn environment() -> Env {
    let settings = setting_names();
    Env::prefixed("STATOR_")
        .filter(move |name| {
            let name = name.as_str().to_ascii_lowercase();
            let top = name.split("__").next().unwrap_or_default();
            settings.iter().any(|setting| setting == top)
        })
        .split("__")
}

fn setting_names() -> Vec<String> {
    match serde_json::to_value(Config::default()) {
        Ok(serde_json::Value::Object(settings)) => {
            settings.into_iter().map(|(name, _)| name).collect()
        }
        _ => Vec::new(),
    }
}

fn read_secret(path: PathBuf) -> Result<Secret, ConfigError> {
    match fs::read_to_string(&path) {
        Ok(text) if text.trim_end().is_empty() => {
            Err(ConfigError::Secret { path, reason: "the file is empty".to_owned() })
        }
        Ok(text) => Ok(Secret::new(text.trim_end())),
        Err(error) => Err(ConfigError::Secret { path, reason: error.to_string() }),
    }
}

fn read_secrets(path: PathBuf) -> Result<Vec<Secret>, ConfigError> {
    let text = fs::read_to_string(&path)
        .map_err(|error| ConfigError::Secret { path, reason: error.to_string() })?;
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    Ok(lines.map(Secret::new).collect())
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
        None if name.contains("environment") => {
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
        kind if setting.is_empty() => format!("{source} cannot be read as TOML: {kind}"),
        kind => format!("{source} has a wrong value for `{setting}`: {kind}"),
    }
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
        secret.write_all(b"open sesame\n").expect("written");
        let config = load_text(&line).expect("valid");
        assert_eq!(config.cluster_secret.expect("a secret").reveal(), "open sesame");
    }
}
