//! The cluster secret, kept out of logs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the nodes of a cluster share and nobody else knows. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The fewest bytes of a secret, white space at its ends not counted.
    pub const BYTES_MIN: usize = 16;
    /// What a secret must be, in words.
    pub const RULE: &str = "16 bytes are the least, 32 random ones are good, such as \
                            `head -c 32 /dev/urandom | base64` makes: who records or provokes a \
                            handshake can try short ones until one fits";

    /// Whether it can be guessed.
    pub fn is_short(&self) -> bool {
        self.0.trim().len() < Self::BYTES_MIN
    }

    /// Takes `text` as the secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_what_debug_prints() {
        assert!(!format!("{:?}", Secret::new("xyzzy")).contains("xyzzy"));
    }
}
