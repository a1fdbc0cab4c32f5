//! Signatures of modules, and keyspaces that demand them.
//!
//! A keyspace may name public keys. From then on it merges by modules only that one of the keys has
//! signed, be they pinned, on trial, or standing in for one that fails. A key is withdrawn by naming
//! the others: what only it has signed counts as not signed from then on.
//!
//! A change that would have a keyspace pin or try a module that is not signed for it is refused, and so
//! is one of its keys by which what it pins or tries would not be signed any more: sign that first. So
//! no change leads to such a module by itself. Two that are made at the same time at two nodes may: one
//! demands a signature, the other pins a module without. Both stand then, for both are joined, and
//! [`Catalogue::is_signed_for`] says that the module is not to be called: readers get siblings, with
//! the reason, until one of the two is changed. The module that stands in for another is not pinned by
//! anybody and is not looked at by changes; if it is not signed it does not stand in.
//!
//! The signatures of a module only become more, but go with it when it is deleted. They are Ed25519
//! (RFC 8032) over [`signed_text`]. The cryptography is the host's: [`Signatures::verified`] is told how
//! a signature is verified, and nothing else makes one. Catalogues of peers are believed, in this as in
//! all else: who knows the cluster's secret may demand nothing as well.
//!
//! Left out: several keys that must sign together, and signatures that end with time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Catalogue, ChangeError, Keyspace};
use crate::id::ModuleDigest;

/// The most keys of a keyspace.
pub const SIGNERS_MAX: usize = 16;
/// The most signatures of a module.
pub const SIGNATURES_MAX: usize = 16;

const ALGORITHM: &str = "ed25519:";

/// What is signed of a module: two lines of text, so that other tools can make it.
pub fn signed_text(module: &ModuleDigest) -> String {
    format!("stator module signature v1\n{module}\n")
}

/// A public key of Ed25519; as text `ed25519:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// A signature of Ed25519; as text 128 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

/// A text that is no key or signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSigning {
    /// No key.
    #[error("{0:?} is no public key: `{ALGORITHM}` and 64 hexadecimal digits are needed")]
    Key(String),
    /// No signature.
    #[error("a signature is 128 hexadecimal digits")]
    Signature,
    /// It does not hold.
    #[error(
        "the signature by {key} does not hold for module {module}: it is of other bytes, or was not \
         made by this key"
    )]
    NotHeld {
        /// By which key.
        key: PublicKey,
        /// Of which module.
        module: ModuleDigest,
    },
}

impl PublicKey {
    /// What people name it by, where there are several.
    pub fn short(&self) -> String {
        format!("{ALGORITHM}{}", hex::encode(&self.0[..6]))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", hex::encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = BadSigning;

    fn from_str(text: &str) -> Result<Self, BadSigning> {
        let bad = || BadSigning::Key(text.chars().take(100).collect());
        let digits = text.strip_prefix(ALGORITHM).ok_or_else(bad)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| bad())?;
        Ok(PublicKey(bytes))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Signature {
    type Err = BadSigning;

    fn from_str(text: &str) -> Result<Self, BadSigning> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| BadSigning::Signature)?;
        Ok(Signature(bytes))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadSigning;

    fn try_from(text: String) -> Result<Self, BadSigning> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for Signature {
    type Error = BadSigning;

    fn try_from(text: String) -> Result<Self, BadSigning> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> String {
        signature.to_string()
    }
}

/// The signatures of a module that hold, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signatures(BTreeMap<PublicKey, Signature>);

impl Signatures {
    /// Those that are claimed of a module, if all hold: `holds` verifies one over a text.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn verified(
        module: &ModuleDigest,
        claimed: impl IntoIterator<Item = (PublicKey, Signature)>,
        holds: impl Fn(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<Self, BadSigning> {
        let text = signed_text(module);
        let check = |(key, signature): (PublicKey, Signature)| {
            let held = holds(&key, text.as_bytes(), &signature).then_some((key, signature));
            held.ok_or(BadSigning::NotHeld { key, module: *module })
        };
        claimed.into_iter().map(check).collect::<Result<_, _>>().map(Signatures)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Signature)> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in others of the same module. Of two by one key the larger stands.
    pub(super) fn join(&mut self, other: &Signatures) {
        for (key, theirs) in &other.0 {
            let ours = self.0.entry(*key).or_insert(*theirs);
            *ours = (*ours).max(*theirs);
        }
    }

    /// Both, if that is not too many.
    pub(super) fn with(&self, other: &Signatures) -> Result<Signatures, ChangeError> {
        let mut both = self.clone();
        both.join(other);
        match both.0.len() > SIGNATURES_MAX && both != *self {
            true => Err(ChangeError::TooManySignatures { found: both.0.len() }),
            false => Ok(both),
        }
    }

    fn is_by_any(&self, keys: &BTreeSet<PublicKey>) -> bool {
        keys.iter().any(|key| self.0.contains_key(key))
    }
}

impl Catalogue {
    /// Whether the keyspace may call `module`: it demands no signature, or one of its keys has signed it.
    pub fn is_signed_for(&self, keyspace: &Keyspace, module: &ModuleDigest) -> bool {
        self.is_signed_by(&keyspace.signed_by.value, module)
    }

    /// Of what the keyspace pins and tries and what would stand in, the modules that are not signed for
    /// it, each once.
    pub fn unsigned_in(&self, keyspace: &Keyspace) -> BTreeSet<ModuleDigest> {
        keyspace.modules().filter(|module| !self.is_signed_for(keyspace, module)).collect()
    }

    fn is_signed_by(&self, keys: &BTreeSet<PublicKey>, module: &ModuleDigest) -> bool {
        // One that is deleted may be needed still, where the two were done at the same time.
        let known = self.modules.get(module);
        keys.is_empty() || known.is_some_and(|known| known.signatures.is_by_any(keys))
    }
}

/// Refuses `keys` that are too many, and what a keyspace would pin or try without a signature by one.
pub(super) fn check(
    catalogue: &Catalogue,
    keyspace: &str,
    keys: &BTreeSet<PublicKey>,
    modules: impl IntoIterator<Item = ModuleDigest>,
) -> Result<(), ChangeError> {
    if keys.len() > SIGNERS_MAX {
        return Err(ChangeError::TooManySigners { found: keys.len() });
    }
    let lacks = |module: &ModuleDigest| !catalogue.is_signed_by(keys, module);
    let Some(module) = modules.into_iter().find(lacks) else { return Ok(()) };
    let signatures = catalogue.modules.get(&module).map(|known| &known.signatures);
    let signers = signatures.into_iter().flat_map(|signatures| signatures.0.keys());
    Err(ChangeError::NotSigned {
        keyspace: keyspace.to_owned(),
        module,
        demanded: names(keys.iter()),
        found: names(signers),
    })
}

fn names<'a>(keys: impl Iterator<Item = &'a PublicKey>) -> String {
    let names: Vec<_> = keys.map(PublicKey::short).collect();
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: ModuleDigest = ModuleDigest([7; 32]);

    #[test]
    fn keys_and_signatures_read_back_and_nothing_else_does() {
        let (key, signature) = (PublicKey([0xab; 32]), Signature([0xcd; 64]));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(signature.to_string().parse(), Ok(signature));
        assert_eq!(key.short(), "ed25519:abababababab");
        let hex = hex::encode(key.0);
        for text in ["", &hex, &format!("rsa:{hex}"), &format!("ed25519:{hex}0"), "ed25519:"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        assert!("00".parse::<Signature>().is_err());
        let kept = serde_json::to_string(&Signatures([(key, signature)].into())).unwrap();
        assert_eq!(serde_json::from_str::<Signatures>(&kept).unwrap().0[&key], signature);
    }

    #[test]
    fn only_what_holds_over_the_text_is_a_signature() {
        assert_eq!(
            signed_text(&MODULE),
            format!("stator module signature v1\n{}\n", "07".repeat(32))
        );
        let claimed = [(PublicKey([1; 32]), Signature([1; 64]))];
        let holds = |_: &PublicKey, text: &[u8], _: &Signature| text.ends_with(b"0707\n");
        assert!(Signatures::verified(&MODULE, claimed, holds).is_ok_and(|some| !some.is_empty()));
        let refused = Signatures::verified(&ModuleDigest([8; 32]), claimed, holds);
        assert!(matches!(refused, Err(BadSigning::NotHeld { key, .. }) if key == claimed[0].0));
    }
}
