//! The data directory: whose it is, who has it open, and the small files in it.
//!
//! ```text
//!   lock          held by the process that has the directory open; names it
//!   node          the node's id and the directory's format
//!   incarnation   the node's last start; what it is good for is that it is there
//!   lost          there once a data store was lost: names the last loss
//!   clean         there only after a clean stop: what the stores held at it
//!   trees         there only after a clean stop: the hash trees of the data store
//!   engine        the engine that made the stores
//!   set-aside     stores that could not be used, until they are refilled
//!   data/ hints/  the stores' engines
//!   …             whatever the node saves under a name
//! ```
//!
//! A file is written beside its name, synced, and renamed, so it is always the old or the new
//! one. Its first line holds a checksum: a file that was damaged or edited by hand is refused,
//! not believed, because a node with a wrong id would be taken for another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::codec::checksum;
use stator_core::id::{Incarnation, NodeId};

/// The format of the directory that this version writes, and the only one it reads.
const FORMAT: u64 = 1;

const NODE: &str = "node";
const INCARNATION: &str = "incarnation";
const LOST: &str = "lost";
const CLEAN: &str = "clean";
const MAGIC: &str = "stator-file 1";

/// How long a process that has the lock may take to end: a node that is just restarted, or a
/// child of it that opens a store ([`super::trial`]) and dies with it, but not before its disk has
/// done what it was asked for.
const LOCK_WAIT: Duration = Duration::from_secs(5);

const LOCK_POLL: Duration = Duration::from_millis(10);

/// The data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process has it open.
    #[error(
        "the data directory {path} is in use by {holder}; stop that node or give this one a \
         directory of its own; nothing was changed"
    )]
    Locked {
        /// The directory.
        path: String,
        /// The process, as it wrote itself into the lock file.
        holder: String,
    },
    /// A newer version of Stator made it.
    #[error(
        "the data directory {path} has format {found}, this version knows format {FORMAT} only; \
         start the version of Stator that made it; nothing was changed"
    )]
    UnknownFormat {
        /// The directory.
        path: String,
        /// Its format.
        found: String,
    },
    /// A file in it is not what was written there.
    #[error(
        "{path} is damaged ({why}); restore it from a backup, or move the data directory away \
         and start again: the node comes back under a new id and is refilled by its peers; \
         nothing was changed"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name is not one for a file.
    #[error("{name:?} cannot name a file: use letters, digits, '.', '-' and '_'")]
    BadName {
        /// The name.
        name: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What the stores held at a clean stop. It counts only for the directory that still holds
/// exactly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CleanStop {
    /// The latest commit of the data store.
    pub(super) data_sequence: u64,
    /// The latest commit of the hint store.
    pub(super) hints_sequence: u64,
}

/// An open data directory. It is locked as long as this lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    node: NodeId,
    lock: File,
    /// Two writers of one name would share its temporary file.
    saving: Mutex<()>,
}

impl Home {
    /// Opens the directory at `path` and locks it; makes it, with a new node id, if there is
    /// none. Blocks.
    ///
    /// # Errors
    /// Nothing was changed, but the directory itself may have been made.
    pub fn open(path: &Path) -> Result<Home, HomeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("create the data directory", path))?;
        let lock = lock(path)?;
        let node = match load(path, NODE)? {
            Some(content) => read_node(path, &content)?,
            None => make_node(path)?,
        };
        Ok(Home { path: path.to_owned(), node, lock, saving: Mutex::new(()) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file whose lock says that the directory is in use. Who inherits it holds the lock, too.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// The node whose directory this is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Keeps `content` under `name`, durably and in place of what was there. Blocks. Only the
    /// owner of the process can read the file.
    ///
    /// # Errors
    /// What was there is still there.
    pub fn save(&self, name: &str, content: &[u8]) -> Result<(), HomeError> {
        let _turn = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        save(&self.path, name, content)
    }

    /// Adds `content`, durably, to the file `name`, which is one of lines that carry their own
    /// checksums. Blocks.
    ///
    /// # Errors
    /// What was there is still there; a part of `content` may be behind it.
    pub fn append(&self, name: &str, content: &[u8]) -> Result<(), HomeError> {
        let _turn = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        append(&self.path, name, content)
    }

    /// All that was added to the file `name`. Blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn appended(&self, name: &str) -> Result<Vec<u8>, HomeError> {
        check_name(name)?;
        let path = self.path.join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(failed("read", &path)),
        }
    }

    /// Removes the file `name`, if there is one. It may be back after a crash. Blocks.
    ///
    /// # Errors
    /// The file is still there.
    pub fn remove(&self, name: &str) -> Result<(), HomeError> {
        check_name(name)?;
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed("remove", &path)),
        }
    }

    /// What was saved last under `name`. Blocks.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn load(&self, name: &str) -> Result<Option<Bytes>, HomeError> {
        load(&self.path, name)
    }

    /// What was saved last under `name`. It is gone, durably, when this returns, even if it cannot
    /// be read. Blocks.
    pub(super) fn take(&self, name: &str) -> Result<Option<Bytes>, HomeError> {
        let content = self.load(name);
        if !matches!(content, Ok(None) | Err(HomeError::BadName { .. })) {
            let path = self.path.join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            sync_directory(&self.path)?;
        }
        content
    }

    /// Draws the incarnation of this start, and notes durably that the directory is in use.
    pub(super) fn begin_life(&self) -> Result<Incarnation, HomeError> {
        let incarnation = Incarnation(random(&self.path)?);
        self.save(INCARNATION, format!("{incarnation}\n").as_bytes())?;
        Ok(incarnation)
    }

    /// The last loss of the data store, if there ever was one. Whoever refills the store tells
    /// by this number which loss its notes are about.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn loss(&self) -> Result<Option<u64>, HomeError> {
        let Some(content) = self.load(LOST)? else { return Ok(None) };
        let path = self.path.join(LOST);
        let number = text(&path, &content)?.trim();
        let number = u64::from_str_radix(number, 16).map_err(|why| damaged(&path, why))?;
        Ok(Some(number))
    }

    /// Notes, durably, that the data store lost what it held.
    pub(super) fn note_loss(&self) -> Result<(), HomeError> {
        let number = random(&self.path)?;
        self.save(LOST, format!("{number:016x}\n").as_bytes())
    }

    /// Whether stores were ever opened here.
    pub(super) fn is_used(&self) -> bool {
        self.path.join(INCARNATION).exists()
    }

    /// The note of the last clean stop, if nothing has been started since. It is gone, durably,
    /// when this returns: from now on the node runs.
    pub(super) fn take_clean_stop(&self) -> Result<Option<CleanStop>, HomeError> {
        let path = self.path.join(CLEAN);
        let note = match self.load(CLEAN) {
            Ok(Some(content)) => parse_clean_stop(&content),
            Ok(None) => return Ok(None),
            // It says nothing then, which costs a comparison with peers and no data.
            Err(HomeError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        sync_directory(&self.path)?;
        Ok(note)
    }

    /// Notes a clean stop. Everything that the stores held is durable already.
    pub(super) fn note_clean_stop(&self, stop: CleanStop) -> Result<(), HomeError> {
        let CleanStop { data_sequence, hints_sequence } = stop;
        let content = format!("{data_sequence} {hints_sequence}\n");
        self.save(CLEAN, content.as_bytes())
    }
}

fn parse_clean_stop(content: &[u8]) -> Option<CleanStop> {
    let (data, hints) = std::str::from_utf8(content).ok()?.trim_end().split_once(' ')?;
    Some(CleanStop { data_sequence: data.parse().ok()?, hints_sequence: hints.parse().ok()? })
}

/// Takes the directory's lock; the operating system frees it when the process ends.
fn lock(directory: &Path) -> Result<File, HomeError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    let started = Instant::now();
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && started.elapsed() < LOCK_WAIT {
        thread::sleep(LOCK_POLL);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                holder => holder.to_owned(),
            };
            let path = directory.display().to_string();
            return Err(HomeError::Locked { path, holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    let holder = format!("process {}\n", std::process::id());
    (file.set_len(0))
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(failed("write", &path))?;
    Ok(file)
}

fn make_node(directory: &Path) -> Result<NodeId, HomeError> {
    let node = NodeId(random(directory)?);
    save(directory, NODE, format!("format {FORMAT}\nnode {node}\n").as_bytes())?;
    if let Some(parent) = directory.parent() {
        // A relative path of one part has an empty parent.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        sync_directory(parent)?;
    }
    Ok(node)
}

fn read_node(directory: &Path, content: &[u8]) -> Result<NodeId, HomeError> {
    let path = directory.join(NODE);
    let mut lines = text(&path, content)?.lines();
    let format = lines.next().and_then(|line| line.strip_prefix("format ")).unwrap_or("unknown");
    if format != FORMAT.to_string() {
        return Err(HomeError::UnknownFormat {
            path: directory.display().to_string(),
            found: format.to_owned(),
        });
    }
    let id = lines.next().and_then(|line| line.strip_prefix("node ")).unwrap_or("");
    id.parse().map_err(|why| damaged(&path, why))
}

fn random(directory: &Path) -> Result<u64, HomeError> {
    getrandom::u64().map_err(|error| {
        let source = io::Error::other(error.to_string());
        failed("draw random bits for", directory)(source)
    })
}

fn check_name(name: &str) -> Result<(), HomeError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain) {
        Ok(())
    } else {
        Err(HomeError::BadName { name: name.to_owned() })
    }
}

fn save(directory: &Path, name: &str, content: &[u8]) -> Result<(), HomeError> {
    check_name(name)?;
    let path = directory.join(name);
    let beside = directory.join(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{MAGIC} {}", hex::encode(checksum(content)))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(failed("write", &path))?;
    sync_directory(directory)
}

fn append(directory: &Path, name: &str, content: &[u8]) -> Result<(), HomeError> {
    check_name(name)?;
    let path = directory.join(name);
    let is_new = !path.exists();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        file.sync_data()
    };
    write().map_err(failed("write", &path))?;
    if is_new { sync_directory(directory) } else { Ok(()) }
}

fn load(directory: &Path, name: &str) -> Result<Option<Bytes>, HomeError> {
    check_name(name)?;
    let path = directory.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let end = (bytes.iter().position(|byte| *byte == b'\n'))
        .ok_or_else(|| damaged(&path, "its first line is missing"))?;
    let content = bytes.slice(end + 1..);
    let expected = format!("{MAGIC} {}", hex::encode(checksum(&content)));
    if bytes[..end] != *expected.as_bytes() {
        return Err(damaged(&path, "its checksum does not match"));
    }
    Ok(Some(content))
}

fn sync_directory(path: &Path) -> Result<(), HomeError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

fn text<'a>(path: &Path, content: &'a [u8]) -> Result<&'a str, HomeError> {
    std::str::from_utf8(content).map_err(|why| damaged(path, why))
}

fn damaged(path: &Path, why: impl ToString) -> HomeError {
    HomeError::Damaged { path: path.display().to_string(), why: why.to_string() }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.display().to_string();
    move |source| HomeError::Io { doing, path, source }
}
