//! Sealing what a backup consists of, under a key of the operator's.
//!
//! | in the place | |
//! |---|---|
//! | `MAGIC`, key id 8, salt 32, sealed bytes, tag 16 | each chunk, module and manifest |
//! | names of chunks and modules | BLAKE3 keyed by the key, over the digest of the bytes: who has no key cannot tell whether a file holds something that they know |
//!
//! The bytes are sealed by ChaCha20-Poly1305 under a key of their own, BLAKE3 keyed by the backup's key
//! over the salt, which is random: no key seals twice. The name is bound to them, so none can be put in the
//! place of another. Equal chunks still have equal names, so a backup costs the space of what has changed.
//!
//! What a reader of the place sees: how many backups there are, their ids and times, and the sizes of
//! files. Left out: a change of the key of a place (make a new backup in another one).

use std::path::Path;

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::cli::failure::Failure;

const MAGIC: &[u8; 16] = b"stator sealed 1\n";
const ID_BYTES: usize = 8;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + ID_BYTES + SALT_BYTES;
/// What a key file has at least; white space at its end does not count.
const KEY_BYTES_MIN: usize = 32;
const KEY_BYTES_MAX: u64 = 1 << 20;

/// A key.
#[derive(Clone)]
pub(super) struct Seal {
    id: [u8; ID_BYTES],
    bytes: [u8; 32],
    names: [u8; 32],
}

/// Why bytes were not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOpened {
    #[error("it is encrypted: name the key with --key-file")]
    NoKey,
    #[error("it is not encrypted: leave --key-file out, or use a place of its own")]
    Plain,
    #[error("it is encrypted with another key")]
    OtherKey,
    #[error("it is damaged, or was put in the place of another")]
    Damaged,
}

impl Seal {
    /// The key in a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("cannot take a key from {}: {why}", path.display()))
                .hint("one is made by: head -c 32 /dev/urandom | base64 >backup.key")
        };
        let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
        if size > KEY_BYTES_MAX {
            return Err(failed(&"that is no key but a large file"));
        }
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        let text = text.trim_ascii_end();
        if text.len() < KEY_BYTES_MIN {
            return Err(failed(&format!("it has less than {KEY_BYTES_MIN} bytes")));
        }
        Ok(Seal::of(text))
    }

    fn of(secret: &[u8]) -> Self {
        let id = blake3::derive_key("stator backup key id v1", secret);
        Seal {
            id: std::array::from_fn(|at| id[at]),
            bytes: blake3::derive_key("stator backup contents v1", secret),
            names: blake3::derive_key("stator backup names v1", secret),
        }
    }

    /// The name of what has this digest.
    pub(super) fn name(&self, digest: &str) -> String {
        blake3::keyed_hash(&self.names, digest.as_bytes()).to_hex().to_string()
    }

    fn key(&self, salt: &[u8]) -> Result<LessSafeKey, NotOpened> {
        let key = blake3::keyed_hash(&self.bytes, salt);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes());
        key.map(LessSafeKey::new).map_err(|_| NotOpened::Damaged)
    }

    /// Seals what is to be found under `name`.
    pub(super) fn seal(&self, name: &str, bytes: &[u8]) -> Result<Bytes, Failure> {
        let failed = |why: String| Failure::refused(format!("{name} cannot be encrypted: {why}"));
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
        let key = self.key(&salt).map_err(|error| failed(error.to_string()))?;
        let mut body = bytes.to_vec();
        // The key is of this salt alone.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_append_tag(nonce, Aad::from(name.as_bytes()), &mut body)
            .map_err(|error| failed(error.to_string()))?;
        Ok([&MAGIC[..], &self.id[..], &salt[..], &body[..]].concat().into())
    }

    fn open(&self, name: &str, sealed: &Bytes) -> Result<Bytes, NotOpened> {
        let head = sealed.get(..HEAD_BYTES).ok_or(NotOpened::Damaged)?;
        let (id, salt) = head[MAGIC.len()..].split_at(ID_BYTES);
        if id != self.id {
            return Err(NotOpened::OtherKey);
        }
        let mut body = sealed[HEAD_BYTES..].to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let key = self.key(salt)?;
        let opened = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body);
        let size = opened.map_err(|_| NotOpened::Damaged)?.len();
        body.truncate(size);
        Ok(body.into())
    }
}

/// What was kept under `name`, sealed by this key, or as it is where there is none.
pub(super) fn open(seal: Option<&Seal>, name: &str, kept: Bytes) -> Result<Bytes, NotOpened> {
    match (seal, kept.starts_with(MAGIC)) {
        (Some(seal), true) => seal.open(name, &kept),
        (None, false) => Ok(kept),
        (Some(_), false) => Err(NotOpened::Plain),
        (None, true) => Err(NotOpened::NoKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_under_its_name_and_not_else() {
        let (key, other) = (Seal::of(&[7; 32]), Seal::of(&[8; 32]));
        let secret = b"nobody reads this";
        let sealed = key.seal("chunks/a", secret).expect("sealed");
        assert_ne!(sealed, key.seal("chunks/a", secret).expect("sealed"), "a salt of its own");
        assert!(!sealed.windows(4).any(|some| secret.windows(4).any(|part| part == some)));
        assert_eq!(open(Some(&key), "chunks/a", sealed.clone()).as_deref(), Ok(&secret[..]));
        let refused =
            |key: Option<&Seal>, name, bytes| open(key, name, bytes).expect_err("it opens");
        assert_eq!(refused(Some(&key), "chunks/b", sealed.clone()), NotOpened::Damaged);
        assert_eq!(refused(Some(&other), "chunks/a", sealed.clone()), NotOpened::OtherKey);
        assert_eq!(refused(None, "chunks/a", sealed.clone()), NotOpened::NoKey);
        assert_eq!(refused(Some(&key), "chunks/a", Bytes::from_static(b"{}")), NotOpened::Plain);
        for at in [HEAD_BYTES - 1, HEAD_BYTES, sealed.len() - 1] {
            let mut bytes = sealed.to_vec();
            bytes[at] ^= 1;
            assert_eq!(refused(Some(&key), "chunks/a", bytes.into()), NotOpened::Damaged, "{at}");
        }
        let short = sealed.slice(..HEAD_BYTES - 1);
        assert_eq!(refused(Some(&key), "chunks/a", short), NotOpened::Damaged);
        assert_eq!(key.name("d1"), key.name("d1"));
        assert_ne!(key.name("d1"), other.name("d1"));
    }

    #[test]
    fn a_key_file_is_long_enough_or_blamed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let refused = || Seal::read(&path).err().map(|failure| failure.message().to_owned());
        assert!(refused().is_some_and(|why| why.contains("key")), "there is none");
        std::fs::write(&path, b"too short\n").expect("written");
        assert!(refused().is_some_and(|why| why.contains("less than 32 bytes")));
        std::fs::write(&path, [b'k'; 32]).expect("written");
        let one = Seal::read(&path).expect("a key");
        std::fs::write(&path, [&[b'k'; 32][..], b"\n"].concat()).expect("written");
        assert_eq!(Seal::read(&path).expect("the same").id, one.id);
    }
}
