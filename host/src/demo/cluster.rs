//! The three node processes: this very program, called with `serve`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::NodeClient;

/// How many nodes the demo runs.
const NODES: usize = 3;
/// How long a node may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to stop cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of each node's log a failure shows.
const TAIL_LINES: usize = 20;

/// Three nodes and the folder with their data and logs. Dropped, the processes are killed and,
/// unless it is kept, the folder is removed.
#[derive(Debug)]
pub struct Cluster {
    // Before the folder: they die first.
    processes: Vec<Process>,
    clients: Vec<NodeClient>,
    folder: TempDir,
    keep: bool,
}

#[derive(Debug)]
struct Process {
    child: Child,
    peer: String,
    log: PathBuf,
}

/// The line that `stator serve --output json` prints once it answers.
#[derive(Debug, Deserialize)]
struct Ready {
    client: String,
    admin: String,
    peer: String,
}

impl Cluster {
    /// Starts the nodes on free ports of loopback, each waiting for a cluster.
    ///
    /// # Errors
    /// A node did not start; its log is in the message.
    pub async fn start(keep: bool) -> Result<Self> {
        let mut folder = TempDir::with_prefix("stator-demo-").context("no temporary folder")?;
        folder.disable_cleanup(keep);
        let mut processes = Vec::new();
        let mut clients = Vec::new();
        for index in 0..NODES {
            let (process, ready) = start_node(folder.path(), index).await?;
            clients.push(NodeClient::new(&ready.client, &ready.admin)?);
            processes.push(process);
        }
        Ok(Cluster { processes, clients, folder, keep })
    }

    /// A connection to each node.
    pub fn clients(&self) -> &[NodeClient] {
        &self.clients
    }

    /// Where the nodes reach each other, as HOST:PORT.
    pub fn peer_addresses(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.peer.clone()).collect()
    }

    /// The last lines of each node's log.
    pub fn log_tails(&self) -> String {
        self.processes.iter().map(|process| tail(&process.log)).collect()
    }

    /// Stops the nodes, cleanly if they can. Tells the folder if it is kept.
    pub async fn stop(mut self) -> Option<PathBuf> {
        for process in &self.processes {
            if let Some(pid) = process.child.id() {
                // SAFETY: kill takes plain numbers. The pid is of our own child, which is not
                // reaped yet, so it cannot have been given to another process.
                unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
            }
        }
        for process in &mut self.processes {
            if timeout(STOP_TIMEOUT, process.child.wait()).await.is_err() {
                // If even that fails the process is gone already.
                let _ = process.child.kill().await;
            }
        }
        self.keep.then(|| self.folder.path().to_owned())
    }
}

async fn start_node(folder: &Path, index: usize) -> Result<(Process, Ready)> {
    let number = index + 1;
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let log = folder.join(format!("node-{number}.log"));
    let log_file =
        std::fs::File::create(&log).with_context(|| format!("no log {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--bootstrap", "wait", "--enable-faults", "--output", "json"])
        .args(["--client-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--peer-listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.join(format!("node-{number}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .kill_on_drop(true);
    // The user's settings are for the user's nodes.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STATOR_") {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().context("cannot start a node")?;
    let Some(stdout) = child.stdout.take() else { bail!("node {number} has no output") };
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    let read = timeout(START_TIMEOUT, stdout.read_line(&mut line)).await;
    match read.map(|read| (read, serde_json::from_str::<Ready>(&line))) {
        Ok((Ok(_), Ok(ready))) => {
            let peer = ready.peer.clone();
            Ok((Process { child, peer, log }, ready))
        }
        Ok(_) => bail!("node {number} did not start\n{}", tail(&log)),
        Err(_) => {
            bail!("node {number} was not ready after {} s\n{}", START_TIMEOUT.as_secs(), tail(&log))
        }
    }
}

/// The last lines of a log, under its name.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    format!("--- the end of {name}\n{}\n", last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_of_a_log() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let lines: Vec<_> = (0..50).map(|n| format!("line {n}")).collect();
        std::fs::write(file.path(), lines.join("\n")).expect("written");
        let tail = tail(file.path());
        assert!(
            tail.contains("line 49") && tail.contains("line 30") && !tail.contains("line 29\n")
        );
    }

    #[test]
    fn the_ready_line_of_serve_is_understood() {
        let line = r#"{"admin":"127.0.0.1:2","client":"127.0.0.1:1","node":"00","peer":"127.0.0.1:3","ready":true}"#;
        let ready: Ready = serde_json::from_str(line).expect("understood");
        assert_eq!((ready.client.as_str(), ready.peer.as_str()), ("127.0.0.1:1", "127.0.0.1:3"));
    }
}
