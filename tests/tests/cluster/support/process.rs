//! One process of the built program.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use serde::Deserialize;
use stator_tests::program;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::DEADLINE;

/// How much of a log a failure shows.
const TAIL_LINES: usize = 30;

/// The program with `arguments`, free of the settings of whoever runs the tests.
fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    command_of(&program(), arguments)
}

fn command_of(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STATOR_") {
            command.env_remove(name);
        }
    }
    // Nor has who runs the tests a profile in them.
    command.env("STATOR_CONFIG", "/dev/null/none");
    command
}

/// Runs the program to its end.
pub async fn stator<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let output = timeout(DEADLINE, command(arguments).output()).await;
    output.expect("the program ends").expect("the program starts")
}

/// The same with these variables in its environment.
pub async fn stator_with<S: AsRef<OsStr>>(
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    let mut command = command(arguments);
    command.envs(variables.iter().copied());
    let output = timeout(DEADLINE, command.output()).await;
    output.expect("the program ends").expect("the program starts")
}

/// The line that `stator serve --output json` prints once it answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub node: String,
    pub client: String,
    pub admin: String,
    pub peer: String,
    pub metrics: Option<String>,
    pub console: Option<String>,
}

/// A running `stator serve`. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `stator serve` with `flags`, its log appended to `log`, and waits until it answers.
    ///
    /// # Errors
    /// It ended instead: with the end of its log.
    pub async fn serve(flags: &[String], log: &Path) -> Result<(Process, Ready), String> {
        let to_log = std::fs::File::options().create(true).append(true).open(log);
        let serve = command(["serve", "--output", "json"]);
        Process::run(serve, flags, to_log.expect("a log").into(), log).await
    }

    /// The same by another program.
    pub async fn serve_as(
        program: &Path,
        flags: &[String],
        log: &Path,
    ) -> Result<(Process, Ready), String> {
        let to_log = std::fs::File::options().create(true).append(true).open(log);
        let serve = command_of(program, ["serve", "--output", "json"]);
        Process::run(serve, flags, to_log.expect("a log").into(), log).await
    }

    /// The same with another standard error: `log` is empty.
    pub async fn serve_to(
        flags: &[String],
        stderr: Stdio,
        log: &Path,
    ) -> Result<(Process, Ready), String> {
        Process::run(command(["serve", "--output", "json"]), flags, stderr, log).await
    }

    /// The same under limits that a shell sets first.
    pub async fn serve_under(
        limits: &str,
        flags: &[String],
        log: &Path,
    ) -> Result<(Process, Ready), String> {
        let to_log = std::fs::File::options().create(true).append(true).open(log);
        let script = format!("{limits} && exec \"$0\" serve --output json \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(program()).stdin(Stdio::null()).kill_on_drop(true);
        Process::run(shell, flags, to_log.expect("a log").into(), log).await
    }

    async fn run(
        mut serve: Command,
        flags: &[String],
        stderr: Stdio,
        log: &Path,
    ) -> Result<(Process, Ready), String> {
        let spawned = serve.args(flags).stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = spawned.expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let read = timeout(DEADLINE, stdout.read_line(&mut line)).await;
        read.map_err(|_| format!("not ready\n{}", tail(log)))?.expect("readable");
        let ready = serde_json::from_str(&line).map_err(|_| format!("ended\n{}", tail(log)))?;
        Ok((Process { child }, ready))
    }

    /// Stops it with SIGSTOP, and returns once none of its threads runs: on a busy machine the
    /// signal alone lets it answer for a while.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let mut seen = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WSTOPPED | libc::WNOWAIT;
        // SAFETY: `seen` is a place for one siginfo_t, and nothing reads it. An exit of the child
        // is not waited for, so it is still there to be reaped by its owner.
        let waited = unsafe { libc::waitid(libc::P_PID, self.pid(), seen.as_mut_ptr(), flags) };
        assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for yet")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes plain numbers. The pid is of our own child, which is not reaped yet,
        // so it cannot have been given to another process.
        let sent = unsafe { libc::kill(self.pid().cast_signed(), signal) };
        assert_eq!(sent, 0, "signal {signal}");
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        let ended = timeout(DEADLINE, self.child.wait()).await;
        ended.expect("the process ends").expect("it was not waited for yet")
    }
}

/// The last lines of a log, under its name.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("--- the end of {}\n{}\n", log.display(), last.join("\n"))
}
