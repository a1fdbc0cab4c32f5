//! Settings from the environment.
//!
//! A variable is a text, and whether that is one, a number or a list is for its setting to say, not
//! for its looks: a zone may be called 1, and a secret may consist of digits.

use std::collections::BTreeMap;

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::Config;

/// The name of this source in figment's errors.
pub(super) const NAME: &str = "environment variables";
const PREFIX: &str = "STATOR_";

/// The variables that are named like a setting.
pub(super) struct Environment {
    /// By setting, as in `limits.key_bytes_max`.
    texts: BTreeMap<String, String>,
    defaults: Figment,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, text)| {
            let name = name.into_string().ok()?;
            Some((name, text.to_string_lossy().into_owned()))
        });
        Self::of(texts)
    }

    fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let defaults = Figment::from(Serialized::defaults(Config::default()));
        let texts = variables.into_iter().filter_map(|(name, text)| {
            let setting = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", ".");
            let top = setting.split('.').next().unwrap_or_default();
            defaults.contains(top).then_some((setting, text))
        });
        Environment { texts: texts.collect(), defaults: defaults.clone() }
    }

    fn value(&self, setting: &str, text: &str) -> Value {
        match self.defaults.find_value(setting) {
            // The default shows what belongs here; what has none is a text.
            Ok(Value::Num(..) | Value::Bool(..)) => text.parse().unwrap_or_else(|_| text.into()),
            Ok(Value::Array(..)) => list(text).into(),
            _ => text.into(),
        }
    }
}

/// The items of `[a, b]`, with or without quotes.
fn list(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let items = inner.split(',').map(|item| item.trim().trim_matches(['"', '\'']));
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(NAME)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut all = Dict::new();
        for (setting, text) in &self.texts {
            let mut dict = &mut all;
            let (sections, name) = setting.rsplit_once('.').unwrap_or(("", setting));
            for section in sections.split('.').filter(|section| !section.is_empty()) {
                let inner = dict.entry(section.to_owned()).or_insert_with(|| Dict::new().into());
                let Value::Dict(_, inner) = inner else {
                    return Err(format!("{PREFIX}{} is no section", section.to_uppercase()).into());
                };
                dict = inner;
            }
            dict.insert(name.to_owned(), self.value(setting, text));
        }
        Ok(Profile::Default.collect(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Box<Error>> {
        let owned = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Environment::of(owned))
            .extract()
            .map_err(Box::new)
    }

    #[test]
    fn a_text_may_look_like_anything() {
        for text in ["12345", "1", "true", "1.5", "0x7f", "[a, b]", "{a=1}", "00", "\"", "", "-1e9"]
        {
            let config = config(&[
                ("STATOR_CLUSTER", text),
                ("STATOR_ZONE", text),
                ("STATOR_REGION", text),
                ("STATOR_CLUSTER_SECRET", text),
                ("STATOR_CLUSTER_SECRET_FILE", text),
                ("STATOR_DATA_DIR", text),
                ("STATOR_LOG", text),
                ("STATOR_TLS__CLIENT__KEY", text),
            ]);
            let config = config.expect(text);
            assert_eq!(config.cluster.as_deref(), Some(text));
            assert_eq!((config.zone.as_str(), config.region.as_str()), (text, text));
            assert_eq!(config.cluster_secret.expect("given").reveal(), text);
            assert_eq!(config.data_dir.as_os_str(), text);
            assert_eq!(config.tls.client.expect("given").key.as_os_str(), text);
        }
    }

    #[test]
    fn numbers_switches_and_lists_are_read_as_such() {
        let found = config(&[
            ("STATOR_WEIGHT", "3"),
            ("STATOR_LIMITS__KEY_BYTES_MAX", "64"),
            ("STATOR_INSECURE", "true"),
            ("STATOR_PREVIOUS_SECRETS", "[123456, \"7\"]"),
            ("STATOR_METRICS_LISTEN", "127.0.0.1:1"),
            ("STATOR_PORT_7101_TCP", "made up by a platform"),
        ]);
        let found = found.expect("valid");
        assert_eq!((found.weight, found.limits.key_bytes_max, found.insecure), (3, 64, true));
        let secrets: Vec<_> = found.previous_secrets.iter().map(|s| s.reveal()).collect();
        assert_eq!(secrets, ["123456", "7"]);
        assert!(config(&[("STATOR_WEIGHT", "heavy")]).is_err());
    }
}
