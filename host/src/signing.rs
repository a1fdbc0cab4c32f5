//! Signing modules: keys in files, signatures as lines of text. Ed25519 by the library that speaks TLS.
//!
//! A private key is a PEM file (PKCS#8, as `openssl genpkey -algorithm ed25519` writes them), a public
//! key a word, a signature a line of both: the public key, a space, 128 hexadecimal digits. What is
//! signed stands in [`stator_core::catalogue::signed_text`].

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use stator_core::catalogue::{BadSigning, PublicKey, Signature, signed_text};
use stator_core::id::ModuleDigest;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Before the 32 bytes of the key: a PKCS#8 structure, version 1, of Ed25519 (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What cannot be used to sign.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there, or may not be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It holds something else.
    #[error("{0} holds no private key of Ed25519 in PEM: `stator module keygen NAME` makes one")]
    NoKey(String),
    /// It holds something else.
    #[error("{path} holds no signature, a public key and a signature in one line: {why}")]
    NoSignature {
        /// The file.
        path: String,
        /// What is wrong.
        why: BadSigning,
    },
    /// The machine gives no random bytes.
    #[error("the machine gives no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// A private key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pem: String,
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut der = [0; PKCS8.len() + 32];
        der[..PKCS8.len()].copy_from_slice(&PKCS8);
        getrandom::fill(&mut der[PKCS8.len()..])?;
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(der));
        Self::of_pem(&pem).ok_or_else(|| KeyError::NoKey("what was just made".to_owned()))
    }

    /// That of a file.
    ///
    /// # Errors
    /// It is not there, or holds none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::of_pem(&read(path)?).ok_or_else(|| KeyError::NoKey(path.display().to_string()))
    }

    fn of_pem(pem: &str) -> Option<Self> {
        let (_, rest) = pem.split_once(BEGIN)?;
        let (text, _) = rest.split_once(END)?;
        let text: String = text.split_whitespace().collect();
        let der = BASE64.decode(text).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
        Some(SigningKey { pair, pem: pem.to_owned() })
    }

    /// As its file has it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a module.
    pub fn sign(&self, module: &ModuleDigest) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(signed_text(module).as_bytes()).as_ref());
        Signature(bytes)
    }
}

/// Whether a signature is the key's, over this text.
pub fn holds(key: &PublicKey, text: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0).verify(text, &signature.0).is_ok()
}

/// The signature of a file, with its key.
///
/// # Errors
/// It is not there, or holds none.
pub fn read_signature(path: &Path) -> Result<(PublicKey, Signature), KeyError> {
    let text = read(path)?;
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_default();
    let bad = |why| KeyError::NoSignature { path: path.display().to_string(), why };
    let key = word().parse().map_err(bad)?;
    Ok((key, word().parse().map_err(bad)?))
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path)
        .map_err(|error| KeyError::Unreadable { path: path.display().to_string(), error })
}

#[cfg(test)]
mod tests {
    use stator_core::catalogue::Signatures;

    use super::*;

    /// `openssl genpkey -algorithm ed25519`, and `openssl pkeyutl -sign -rawin` over the text of the
    /// module of 32 bytes of 7.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMkxL4nwrjIV6RdPmhWisEdfrIoWNRNy5Bpqwi8UwB9t\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "ed25519:93ee15c9f51ffbf22e62b8ff9cc289e2c61453abe4097bdf272306758f3717e3";
    const SIGNATURE: &str = "ee8b77411ee80706675a23c559c18a956b5b1ff3f6fa0ed208a8a68147ef638474ca903207c5d0958dcc6fa51c98a4aa6a69a4a20e624557a85eb8c595472e04";
    const MODULE: ModuleDigest = ModuleDigest([7; 32]);

    #[test]
    fn what_openssl_makes_is_read_and_signs_alike() {
        let key = SigningKey::of_pem(KEY).expect("a key");
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(key.sign(&MODULE).to_string(), SIGNATURE);
    }

    #[test]
    fn a_signature_holds_for_its_module_and_its_key_only() {
        let [one, other] = [(), ()].map(|()| SigningKey::generate().expect("random bytes"));
        let signature = one.sign(&MODULE);
        let of = |module, key| Signatures::verified(&module, [(key, signature)], holds).is_ok();
        assert!(of(MODULE, one.public()));
        assert!(!of(ModuleDigest([8; 32]), one.public()) && !of(MODULE, other.public()));
        assert!(!of(MODULE, PublicKey([0xff; 32])), "no point of the curve");
        let read = SigningKey::of_pem(one.pem()).expect("its own text");
        assert_eq!(read.public(), one.public());
        assert_ne!(one.public(), other.public());
    }

    #[test]
    fn other_files_are_no_keys() {
        let ec = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n";
        for text in ["", "-----BEGIN PRIVATE KEY-----", ec] {
            assert!(SigningKey::of_pem(text).is_none(), "{text}");
        }
    }
}
