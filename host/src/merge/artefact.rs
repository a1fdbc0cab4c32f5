//! The artefact cache: compiled modules in files, so that a start does not compile.
//!
//! Loading machine code means running it, and wasmtime checks little: it accepted an artefact
//! with a flipped byte of code. So a file is named by the module's digest and a hash over all that
//! this engine's code depends on (wasmtime's version, processor features, settings), and starts
//! with a checksum over both names and the content. A file that does not match is thrown away and
//! the module compiled again.
//!
//! The checksum finds damage, not forgery: whoever can write to the directory can run code in
//! the node anyway, because the store lies beside it.
//!
//! ```text
//! "STATORA1" | checksum, 32 bytes | artefact
//! ```

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stator_core::id::ModuleDigest;
use tempfile::NamedTempFile;
use wasmtime::Engine;

const MAGIC: &[u8; 8] = b"STATORA1";
const HEADER_BYTES: usize = MAGIC.len() + blake3::OUT_LEN;

/// The cache of one engine.
pub(super) struct ArtefactCache {
    directory: PathBuf,
    engine: blake3::Hash,
    artefact_bytes_max: u64,
}

impl ArtefactCache {
    /// Opens the directory, and makes it if it is not there.
    pub(super) fn open(
        directory: &Path,
        engine: &Engine,
        artefact_bytes_max: usize,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut hasher = StableHasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(ArtefactCache {
            directory: directory.to_owned(),
            engine: hasher.0.finalize(),
            artefact_bytes_max: artefact_bytes_max as u64,
        })
    }

    /// The artefact of a module, if it is there and whole. What is damaged is removed.
    pub(super) fn get(&self, module: &ModuleDigest) -> Option<Vec<u8>> {
        let path = self.path(module);
        let too_large =
            |file: &fs::Metadata| file.len() > self.artefact_bytes_max + HEADER_BYTES as u64;
        let mut file = match fs::metadata(&path) {
            Ok(metadata) if too_large(&metadata) => Vec::new(),
            Ok(_) => fs::read(&path).ok()?,
            Err(_) => return None,
        };
        if self.is_whole(module, &file) {
            file.drain(..HEADER_BYTES);
            return Some(file);
        }
        tracing::warn!(%module, path = %path.display(), "a cached artefact is damaged; recompiling");
        self.remove(module);
        None
    }

    /// Keeps an artefact. The file appears whole or not at all.
    pub(super) fn put(&self, module: &ModuleDigest, artefact: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(self.checksum(module, artefact).as_bytes())?;
        file.write_all(artefact)?;
        file.persist(self.path(module)).map_err(|e| e.error)?;
        Ok(())
    }

    /// Forgets an artefact.
    pub(super) fn remove(&self, module: &ModuleDigest) {
        // A file that stays is only room on the disk.
        let _ = fs::remove_file(self.path(module));
    }

    fn path(&self, module: &ModuleDigest) -> PathBuf {
        let engine = hex::encode(&self.engine.as_bytes()[..8]);
        self.directory.join(format!("{module}-{engine}.artefact"))
    }

    fn is_whole(&self, module: &ModuleDigest, file: &[u8]) -> bool {
        let Some((header, artefact)) = file.split_at_checked(HEADER_BYTES) else {
            return false;
        };
        header.strip_prefix(MAGIC) == Some(self.checksum(module, artefact).as_bytes().as_slice())
    }

    fn checksum(&self, module: &ModuleDigest, artefact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("stator artefact checksum v1");
        hasher.update(&module.0).update(self.engine.as_bytes()).update(artefact);
        hasher.finalize()
    }
}

/// A [`Hasher`] whose result is the same in every build, unlike the standard library's, which
/// promises nothing.
struct StableHasher(blake3::Hasher);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}
