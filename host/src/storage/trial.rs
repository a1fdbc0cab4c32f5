//! Opening a store in a process of its own first, if the last start may have died of it.
//!
//! Damage can make an engine end the whole process: a length that was flipped asks for more
//! memory than there is, which no `catch_unwind` sees. So a start notes which store it is about to
//! open, and takes the note away when it is open. A start that finds the note opens the store in
//! a child process first. If that one ends itself ([`FATAL`]), the store is damaged and set aside;
//! if it was killed from outside, like the start before it perhaps, that says nothing.
//!
//! A start that is killed meanwhile takes the child with it. Until that has ended it holds the data
//! directory's lock, which it inherits, so that the next start does not meet it in the store.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::{EngineError, Fault};
use super::home::{Home, HomeError};
use super::job::Area;
use super::open::{self, Opener};
use super::options::EngineKind;
use super::stores::look;

/// The hidden subcommand: `stator open-store`, told by the environment what to open. It must be
/// answered with [`open_store_main`].
pub const OPEN_STORE: &str = "open-store";

const ENGINE: &str = "STATOR_OPEN_ENGINE";
const AREA: &str = "STATOR_OPEN_AREA";
const DIRECTORY: &str = "STATOR_OPEN_DIRECTORY";
/// Enough to open any store.
const CACHE_BYTES: u64 = 8 << 20;
const POLL: Duration = Duration::from_millis(5);

/// The name of the note in the data directory.
fn opening(area: Area) -> String {
    format!("opening-{}", area.name())
}

/// Signals by which a process ends itself.
const FATAL: [i32; 5] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// Notes that the store is about to be opened. If the last start noted the same and got no
/// further, the answer is what a process of its own died of in its place.
pub(super) fn begin(home: &Home, opener: &Opener) -> Result<Option<EngineError>, HomeError> {
    if !opener.kind.is_kept() {
        return Ok(None);
    }
    let note = opening(opener.area);
    let found = match home.load(&note) {
        Ok(found) => found.is_some(),
        Err(HomeError::Damaged { .. }) => true,
        Err(error) => return Err(error),
    };
    home.save(&note, b"")?;
    let Some(program) = opener.trial.as_deref().filter(|_| found) else { return Ok(None) };
    Ok(run(program, opener, home.lock()))
}

/// Takes the note away: the store is open. If it comes back after a power cut, that costs a
/// start some time.
pub(super) fn end(home: &Home, area: Area) {
    if let Err(error) = std::fs::remove_file(home.path().join(opening(area)))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a note of the start could not be removed: the next start takes longer");
    }
}

/// What opening the store apart died of, if it did.
fn run(program: &[OsString], opener: &Opener, lock: BorrowedFd<'_>) -> Option<EngineError> {
    let (name, arguments) = program.split_first()?;
    let mut child = Command::new(name);
    bind(&mut child, lock);
    let child = child
        .args(arguments)
        .env(ENGINE, opener.kind.name())
        .env(AREA, opener.area.name())
        .env(DIRECTORY, &opener.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let deadline = Instant::now() + opener.deadline();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(%error, "the store could not be opened in a process of its own first");
            return None;
        }
    };
    let status: Option<ExitStatus> = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            // What is overdue here is overdue again, and dealt with there.
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => break None,
        }
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let signal = status?.signal().filter(|signal| FATAL.contains(signal))?;
    let why = format!(
        "opening it ended the process by signal {signal}, twice: it asks for what no memory holds, \
         or reads what is not its own"
    );
    Some(opener.failure(Fault::Damage, why))
}

/// Has the child end with the thread that starts it, which waits for it, and hold `lock` until then.
fn bind(child: &mut Command, lock: BorrowedFd<'_>) {
    let (parent, lock) = (std::process::id(), lock.as_raw_fd());
    let prepare = move || {
        // SAFETY: the calls take plain numbers and touch no memory.
        let is_done = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
                && libc::fcntl(lock, libc::F_SETFD, 0) == 0
        };
        // SAFETY: as above.
        let is_orphan = unsafe { libc::getppid() }.cast_unsigned() != parent;
        match is_done && !is_orphan {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
    unsafe { child.pre_exec(prepare) };
}

/// Opens and looks through the store that the environment names. The exit code says nothing: only
/// a signal does.
pub fn open_store_main() -> ExitCode {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let kinds = [EngineKind::Sled, EngineKind::Fjall];
    let kind = kinds.into_iter().find(|kind| kind.name() == variable(ENGINE));
    let (Some(kind), Some(area)) = (kind, Area::named(&variable(AREA))) else {
        eprintln!("{OPEN_STORE} is for a node that starts, not for people");
        return ExitCode::from(2);
    };
    let opened = open::open(kind, Path::new(&variable(DIRECTORY)), CACHE_BYTES)
        .and_then(|engine| look(area, &engine, None));
    ExitCode::from(u8::from(opened.is_err()))
}
