//! The process that compiles: started, fed, killed when its owner lets go of it, and always
//! reaped, with what it took.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::{JoinHandle, spawn_blocking};

use super::compile_child::COMPILE_MODULE;
use super::limits::Limits;

/// How often a running compiler's memory is looked at: first after this time, then after twice as
/// much, up to …
const LOOK_MIN_MS: i32 = 1;
/// … this.
const LOOK_MAX_MS: i32 = 20;

/// What a compilation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// The most memory that was resident at a time.
    pub(super) memory_peak_bytes: u64,
    /// Processor time, in user and kernel.
    pub(super) cpu: Duration,
}

/// A compiler at work. Dropped, it is killed.
pub(super) struct Compiler {
    process: Arc<Process>,
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
    end: JoinHandle<io::Result<(ExitStatus, Cost)>>,
}

struct Process {
    pid: libc::pid_t,
    /// Afterwards the number may be another process's.
    is_reaped: Mutex<bool>,
}

impl Drop for Compiler {
    fn drop(&mut self) {
        let is_reaped = self.process.is_reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_reaped {
            // SAFETY: kill takes plain numbers, and the pid is still our child's.
            let _ = unsafe { libc::kill(self.process.pid, libc::SIGKILL) };
        }
    }
}

impl Compiler {
    /// Starts `program` as a compiler under `limits`.
    pub(super) fn start(program: &Path, limits: &Limits) -> io::Result<Compiler> {
        let floor_bytes = memory_peak(std::process::id());
        let mut child = Command::new(program);
        child
            .arg(COMPILE_MODULE)
            .arg(limits.compile_memory_bytes.to_string())
            .arg(limits.compile_cpu_seconds.to_string())
            .env_clear()
            // Or the allocator takes a gigabyte of addresses before the child limits itself, which
            // leaves none for the rest and sets no limit to what is allocated.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The standard library's child, because nobody else may reap it: `wait4` tells its cost.
        let mut child = child.as_std_mut().spawn()?;
        let process = Process { pid: child.id().cast_signed(), is_reaped: Mutex::new(false) };
        let process = Arc::new(process);
        let watched = process.clone();
        Ok(Compiler {
            end: spawn_blocking(move || watched.watch(floor_bytes)),
            process,
            stdin: child.stdin.take().map(ChildStdin::from_std).transpose()?,
            stdout: child.stdout.take().map(ChildStdout::from_std).transpose()?,
            stderr: child.stderr.take().map(ChildStderr::from_std).transpose()?,
        })
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> io::Result<(ExitStatus, Cost)> {
        (&mut self.end).await.map_err(io::Error::other)?
    }
}

impl Process {
    /// Blocks until the process ends, and reaps it.
    ///
    /// The kernel counts the memory of the process that starts another as the other's, so its
    /// own count holds only if it is above `floor_bytes`; below, what was seen while it ran.
    fn watch(&self, floor_bytes: u64) -> io::Result<(ExitStatus, Cost)> {
        let (mut seen_bytes, mut wait_ms) = (0, LOOK_MIN_MS);
        if let Some(process) = self.open() {
            while !is_over(&process, wait_ms) {
                seen_bytes = memory_peak(self.pid.cast_unsigned()).max(seen_bytes);
                wait_ms = (wait_ms * 2).min(LOOK_MAX_MS);
            }
        }
        self.wait_for_end()?;
        let mut is_reaped = self.is_reaped.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, usage) = self.reap()?;
        *is_reaped = true;
        let counted_bytes = (usage.ru_maxrss as u64).saturating_mul(1024);
        let counted_bytes = if counted_bytes > floor_bytes { counted_bytes } else { 0 };
        let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
        Ok((status, Cost { memory_peak_bytes: counted_bytes.max(seen_bytes), cpu }))
    }

    /// A descriptor that becomes readable at its end; none on kernels before 5.3.
    fn open(&self) -> Option<OwnedFd> {
        // SAFETY: takes plain numbers. A descriptor that it returns is nobody else's.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        // SAFETY: as above.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    fn wait_for_end(&self) -> io::Result<()> {
        let mut end = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let (pid, flags) = (self.pid.cast_unsigned(), libc::WEXITED | libc::WNOWAIT);
        // SAFETY: `end` is a place for one siginfo_t, and nothing reads it.
        retried(|| unsafe { libc::waitid(libc::P_PID, pid, end.as_mut_ptr(), flags) }).map(drop)
    }

    fn reap(&self) -> io::Result<(ExitStatus, libc::rusage)> {
        let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: both are places for what the call writes; all zeros are an rusage as well.
        retried(|| unsafe { libc::wait4(self.pid, &mut status, 0, usage.as_mut_ptr()) })?;
        // SAFETY: as above.
        Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }))
    }
}

/// Waits a little for the end of a process.
fn is_over(process: &OwnedFd, wait_ms: i32) -> bool {
    use std::os::fd::AsRawFd;
    let mut wanted = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, for the time of the call.
    let found = unsafe { libc::poll(&mut wanted, 1, wait_ms) };
    // An error other than an interruption would come back at once, for ever.
    found > 0 || (found < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted)
}

fn retried(mut call: impl FnMut() -> i32) -> io::Result<i32> {
    loop {
        match call() {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            done => return Ok(done),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

/// The most memory that a process has had resident, in bytes; 0 if it is gone.
fn memory_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
