//! Nodes on this machine: processes of this very program, called with `serve`, on free ports of
//! loopback. The demo and the bench run them.

mod link;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use link::Link;

/// How long a node may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to stop cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a node is started again in vain, and the pause between.
const RESTARTS: usize = 20;
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A free port.
const FREE: &str = "127.0.0.1:0";
/// How much of each node's log a failure shows.
const TAIL_LINES: usize = 20;
/// The region of nodes behind a link, where others are not.
const FAR: &str = "far";
/// By which the runtime is told how many threads to have. Nodes that share a machine share its cores:
/// a thread each on every core has the system change between them for nothing.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// Which nodes to run.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// How many.
    pub nodes: usize,
    /// Further flags of `stator serve`.
    pub flags: Vec<String>,
    /// Where to make the folder with their data and logs; none is where temporary files are.
    pub place: Option<PathBuf>,
    /// Whether the folder stays.
    pub keep: bool,
    /// How long what is sent takes to a node, from clients and other nodes alike, and back.
    pub link_delay: Option<Duration>,
    /// The last so many are in region `far`, the others in `near`, and only what is sent to far ones
    /// takes that time. None is no regions: it takes that time to every node.
    pub far: usize,
}

impl Launch {
    /// What region a node is in, if they have one.
    fn region(&self, index: usize) -> Option<&'static str> {
        (self.far > 0).then_some(if index >= self.near() { FAR } else { "near" })
    }

    /// Nodes that are not far.
    fn near(&self) -> usize {
        self.nodes.saturating_sub(self.far)
    }

    fn delay(&self, index: usize) -> Option<Duration> {
        self.link_delay.filter(|_| self.far == 0 || index >= self.near())
    }
}

/// Nodes and the folder with their data and logs. Dropped, the processes are killed and, unless it
/// is kept, the folder is removed.
#[derive(Debug)]
pub struct Nodes {
    // Before the folder: they die first.
    processes: Vec<Process>,
    folder: TempDir,
    launch: Launch,
}

#[derive(Debug)]
struct Process {
    child: Child,
    addresses: Addresses,
    log: PathBuf,
    /// What carries its messages, if they take time.
    links: JoinSet<()>,
}

/// What hands each connection to another node.
#[derive(Debug)]
pub struct Balancer {
    /// Where clients reach it, HOST:PORT.
    pub address: String,
    _links: JoinSet<()>,
}

/// Where a node listens, each HOST:PORT: what `stator serve --output json` prints once it answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// Its id.
    pub node: String,
    /// For clients.
    pub client: String,
    /// For operators.
    pub admin: String,
    /// For other nodes.
    pub peer: String,
}

impl Nodes {
    /// Starts the nodes, each waiting for a cluster.
    ///
    /// # Errors
    /// A node did not start; its log is in the message.
    pub async fn start(launch: &Launch) -> Result<Self> {
        let place = launch.place.clone().unwrap_or_else(std::env::temp_dir);
        let folder = TempDir::with_prefix_in("stator-", &place);
        let mut folder =
            folder.with_context(|| format!("no temporary folder in {}", place.display()))?;
        folder.disable_cleanup(launch.keep);
        let mut processes = Vec::new();
        for index in 0..launch.nodes {
            let process = match launch.region(index) {
                Some(FAR) => {
                    start_far(folder.path(), index, launch, &processes[..launch.near()]).await?
                }
                _ => start_node(folder.path(), index, launch).await?,
            };
            processes.push(process);
        }
        Ok(Nodes { processes, folder, launch: launch.clone() })
    }

    /// Where each node listens.
    pub fn addresses(&self) -> impl Iterator<Item = &Addresses> {
        self.processes.iter().map(|process| &process.addresses)
    }

    /// A load balancer before the first `among` nodes, at the end of a link like theirs: what comes to it
    /// takes that time twice.
    ///
    /// # Errors
    /// There is no free port for it.
    pub async fn balancer(&self, among: usize) -> Result<Balancer> {
        let link = Link::new(self.launch.link_delay.unwrap_or_default()).await?;
        let to = self.addresses().take(among).map(|node| node.client.parse());
        let (address, mut links) = (link.address().to_string(), JoinSet::new());
        link.balance(to.collect::<Result<_, _>>()?, &mut links);
        Ok(Balancer { address, _links: links })
    }

    /// The last lines of each node's log.
    pub fn log_tails(&self) -> String {
        self.processes.iter().map(|process| tail(&process.log)).collect()
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(|process| process.child.id()).collect()
    }

    /// Sends a node a signal; one that has ended gets none.
    pub fn signal(&self, index: usize, signal: i32) {
        if let Some(pid) = self.processes.get(index).and_then(|process| process.child.id()) {
            // SAFETY: kill takes plain numbers. The pid is of our own child, which is not reaped
            // yet, so it cannot have been given to another process.
            unsafe { libc::kill(pid.cast_signed(), signal) };
        }
    }

    /// Kills a node as a crash does, and waits until it is gone.
    pub async fn kill(&mut self, index: usize) {
        if let Some(process) = self.processes.get_mut(index) {
            // If even that fails the process is gone already.
            let _ = process.child.kill().await;
        }
    }

    /// Starts a node again that has ended, with its data, where it listened.
    ///
    /// # Errors
    /// It did not start; its log is in the message.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        let Some(process) = self.processes.get_mut(index) else { return Ok(()) };
        let (folder, launch) = (self.folder.path(), &self.launch);
        let at = Some(process.addresses.clone());
        let mut again = start_process(folder, index, (launch, &launch.flags), at.as_ref()).await;
        // An outgoing connection of anyone may have taken a port meanwhile, for a while.
        for _ in 0..RESTARTS {
            if again.is_ok() {
                break;
            }
            tokio::time::sleep(RESTART_PAUSE).await;
            again = start_process(folder, index, (launch, &launch.flags), at.as_ref()).await;
        }
        process.child = again?.child;
        Ok(())
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
        self.launch.keep.then(|| self.folder.path().to_owned())
    }
}

/// Starts a far node that `near` ones dial. Of two nodes the one of the smaller id does; from a far node
/// to a near one there would be no link on the way.
async fn start_far(
    folder: &Path,
    index: usize,
    launch: &Launch,
    near: &[Process],
) -> Result<Process> {
    loop {
        let mut process = start_node(folder, index, launch).await?;
        if near.iter().all(|near| near.addresses.node < process.addresses.node) {
            return Ok(process);
        }
        process.child.kill().await.context("a node does not end")?;
        let data = folder.join(format!("node-{}", index + 1));
        std::fs::remove_dir_all(&data)
            .with_context(|| format!("{} cannot be removed", data.display()))?;
    }
}

async fn start_node(folder: &Path, index: usize, launch: &Launch) -> Result<Process> {
    let links = match launch.delay(index) {
        Some(delay) => Some((Link::new(delay).await?, Link::new(delay).await?)),
        None => None,
    };
    let Some((client, peer)) = links else {
        return start_process(folder, index, (launch, &launch.flags), None).await;
    };
    let (near_client, near_peer) = (client.address().to_string(), peer.address().to_string());
    let mut flags = launch.flags.clone();
    flags.push(format!("--advertise-client={near_client}"));
    flags.push(format!("--advertise-peer={near_peer}"));
    let mut process = start_process(folder, index, (launch, &flags), None).await?;
    client.carry(process.addresses.client.parse()?, &mut process.links);
    peer.carry(process.addresses.peer.parse()?, &mut process.links);
    (process.addresses.client, process.addresses.peer) = (near_client, near_peer);
    Ok(process)
}

async fn start_process(
    folder: &Path,
    index: usize,
    (launch, flags): (&Launch, &[String]),
    at: Option<&Addresses>,
) -> Result<Process> {
    let number = index + 1;
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let log = folder.join(format!("node-{number}.log"));
    let log_file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("no log {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--bootstrap", "wait", "--output", "json"])
        .args(["--client-listen", at.map_or(FREE, |at| &at.client)])
        .args(["--admin-listen", at.map_or(FREE, |at| &at.admin)])
        .args(["--peer-listen", at.map_or(FREE, |at| &at.peer), "--data-dir"])
        .arg(folder.join(format!("node-{number}")))
        .args(flags)
        .args(launch.region(index).map(|region| format!("--region={region}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .kill_on_drop(true);
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        command.env(THREADS, (cores / launch.nodes).max(1).to_string());
    }
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
    match read.map(|read| (read, serde_json::from_str::<Addresses>(&line))) {
        Ok((Ok(_), Ok(addresses))) => Ok(Process { child, addresses, log, links: JoinSet::new() }),
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

/// Processor time of a process so far, in seconds: fields 14 and 15 of proc(5). None where the
/// system does not tell, or it is gone.
pub fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let sum = ticks()? + ticks()?;
    // SAFETY: sysconf only reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (per_second > 0).then(|| sum / per_second as f64)
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
        let ready: Addresses = serde_json::from_str(line).expect("understood");
        assert_eq!((ready.client.as_str(), ready.peer.as_str()), ("127.0.0.1:1", "127.0.0.1:3"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn processor_time_is_that_of_a_process() {
        assert!(processor_seconds(std::process::id()).is_some_and(|seconds| seconds < 1e6));
        assert_eq!(processor_seconds(u32::MAX), None);
    }
}
