//! How a merge host is set up.

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use stator_core::catalogue::ModuleClass;

use super::limits::Limits;

/// How a merge host is set up.
#[derive(Debug, Clone)]
pub struct MergeHostConfig {
    /// Where compiled modules are kept; made if it is not there. Its content may be deleted at
    /// any time.
    pub cache_dir: PathBuf,
    /// The program that answers [`COMPILE_MODULE`](super::COMPILE_MODULE).
    pub compiler: PathBuf,
    /// The limits of modules of class `small`.
    pub limits: Limits,
    /// The limits of modules of class `large`.
    pub large_limits: Limits,
    /// Merges that run at a time, for each class. More than there are processors helps nothing.
    pub running_max: NonZero<u32>,
    /// Merges that may wait for their turn; further ones are turned away.
    pub waiting_max: usize,
    /// Answers that are remembered.
    pub memo_entries_max: usize,
    /// Bytes of the answers that are remembered.
    pub memo_bytes_max: usize,
}

impl MergeHostConfig {
    /// The limits of a class.
    pub fn limits_of(&self, class: ModuleClass) -> &Limits {
        match class {
            ModuleClass::Small => &self.limits,
            ModuleClass::Large => &self.large_limits,
        }
    }

    /// The usual set-up: the classes' usual limits, a running merge for each processor and one, so that
    /// a keyspace can have all processors and leave a place; 1,024 that wait, a memo of 64 MiB, and
    /// this very program as the compiler.
    pub fn new(cache_dir: impl Into<PathBuf>) -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, |n| n.get().min(64) as u32);
        Ok(MergeHostConfig {
            cache_dir: cache_dir.into(),
            compiler: std::env::current_exe()?,
            limits: Limits::small(),
            large_limits: Limits::large(),
            running_max: NonZero::<u32>::MIN.saturating_add(processors),
            waiting_max: 1024,
            memo_entries_max: 65_536,
            memo_bytes_max: 64 << 20,
        })
    }
}

/// Why there is no merge host. The node cannot serve keyspaces with modules without one.
#[derive(Debug, thiserror::Error)]
pub enum MergeHostError {
    /// The cache's directory cannot be used.
    #[error("the directory for compiled modules, {}, cannot be used: {source}", path.display())]
    CacheDirectory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// wasmtime does not start.
    #[error(
        "the WebAssembly engine does not start: {0}. It reserves several GiB of address space for \
         each merge that may run at a time; check `ulimit -v`"
    )]
    Engine(String),
}
