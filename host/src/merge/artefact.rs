//! The artefact cache: compiled modules in files, so that a start does not compile.
//!
//! Loading machine code means running it, and wasmtime checks little: it accepted an artefact
//! with a flipped byte of code. So a file is named by the module's digest and a hash over all that
//! this engine's code depends on (wasmtime's version, processor features, settings), and ends
//! with a checksum over both names and the content. A file that does not match is thrown away and
//! the module compiled again.
//!
//! The checksum finds damage, not forgery: whoever can write to the directory can run code in
//! the node anyway, because the store lies beside it.
//!
//! ```text
//! artefact | checksum, 32 bytes | "STATORA2"
//! ```
//!
//! The artefact comes first, where a page begins, so that a large one can be mapped instead of read:
//! of an interpreter's 38 MB a merge touches little, and what it touches is the page cache's, given
//! back when memory is short. A small one is read, since there a file that someone cuts off while it
//! is mapped would do more harm than the copy costs. A file is only ever replaced or removed, never
//! written to; whoever cuts one off takes the node down.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use stator_core::id::ModuleDigest;
use tempfile::NamedTempFile;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"STATORA2";
const TRAILER_BYTES: usize = MAGIC.len() + blake3::OUT_LEN;

/// A compiled module.
pub(super) enum Artefact {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// A whole file of the cache, which goes on to be this file whatever happens to its name; and the
    /// bytes of the artefact in it.
    File(File, usize),
}

impl Artefact {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Artefact::Bytes(bytes) => bytes.len(),
            Artefact::File(_, bytes) => *bytes,
        }
    }

    /// Makes a component of it.
    ///
    /// # Safety
    /// It is from this program's own compiler: just now over a pipe, or from the cache, whose checksum
    /// and engine hash were right.
    pub(super) unsafe fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        match self {
            // SAFETY: as the caller says.
            Artefact::Bytes(bytes) => unsafe { Component::deserialize(engine, bytes) },
            Artefact::File(file, _) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                // SAFETY: as the caller says; this is the file whose checksum was right.
                unsafe { Component::deserialize_file(engine, path) }
            }
        }
    }
}

/// The cache of one engine.
pub(super) struct ArtefactCache {
    directory: PathBuf,
    engine: blake3::Hash,
    artefact_bytes_max: u64,
    mapped: bool,
}

impl ArtefactCache {
    /// Opens the directory, and makes it if it is not there. With `mapped`, artefacts are not read.
    pub(super) fn open(
        directory: &Path,
        engine: &Engine,
        artefact_bytes_max: usize,
        mapped: bool,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut hasher = StableHasher(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(ArtefactCache {
            directory: directory.to_owned(),
            engine: hasher.0.finalize(),
            artefact_bytes_max: artefact_bytes_max as u64,
            mapped,
        })
    }

    /// The artefact of a module, if it is there and whole. What is damaged is removed.
    pub(super) fn get(&self, module: &ModuleDigest) -> Option<Artefact> {
        let path = self.path(module);
        let file = File::open(&path).ok()?;
        match self.whole(module, file) {
            Ok(Some(artefact)) => Some(artefact),
            Ok(None) => {
                let path = path.display();
                tracing::warn!(%module, %path, "a cached artefact is damaged; recompiling");
                self.remove(module);
                None
            }
            Err(_) => None,
        }
    }

    /// Keeps an artefact, and gives it back as a file where files are mapped. It appears whole or not
    /// at all.
    pub(super) fn put(
        &self,
        module: &ModuleDigest,
        artefact: &[u8],
    ) -> io::Result<Option<Artefact>> {
        let mut checksum = self.checksum(module);
        let mut file = NamedTempFile::new_in(&self.directory)?;
        file.write_all(artefact)?;
        file.write_all(checksum.update(artefact).finalize().as_bytes())?;
        file.write_all(MAGIC)?;
        file.persist(self.path(module)).map_err(|e| e.error)?;
        Ok(if self.mapped { self.get(module) } else { None })
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

    /// The artefact in a file, if the file is as it was written.
    fn whole(&self, module: &ModuleDigest, mut file: File) -> io::Result<Option<Artefact>> {
        let bytes = file.metadata()?.len().saturating_sub(TRAILER_BYTES as u64);
        if bytes > self.artefact_bytes_max {
            return Ok(None);
        }
        let mut checksum = self.checksum(module);
        let mut artefact = Vec::new();
        if self.mapped {
            checksum.update_reader((&mut file).take(bytes))?;
        } else {
            (&mut file).take(bytes).read_to_end(&mut artefact)?;
            checksum.update(&artefact);
        }
        let mut trailer = Vec::new();
        (&mut file).take(TRAILER_BYTES as u64 + 1).read_to_end(&mut trailer)?;
        if trailer != [checksum.finalize().as_bytes().as_slice(), MAGIC].concat() {
            return Ok(None);
        }
        let bytes = bytes as usize;
        Ok(Some(if self.mapped { Artefact::File(file, bytes) } else { Artefact::Bytes(artefact) }))
    }

    /// The begin of a checksum over both names and the artefact, which is to be added.
    fn checksum(&self, module: &ModuleDigest) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key("stator artefact checksum v2");
        hasher.update(&module.0).update(self.engine.as_bytes());
        hasher
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
