//! One node: a real process in a namespace of its own, with a disk that can be made to fail.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stator_client::{Admin, Options, plain};
use stator_proto::v1;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::lab::{Lab, run};

/// Ports need not be free anywhere else: the namespace is the node's alone.
const CLIENT_PORT: u16 = 7101;
const ADMIN_PORT: u16 = 7102;
const PEER_PORT: u16 = 7103;
/// How long a node may take to start, its stores' recovery included.
const START: Duration = Duration::from_secs(90);
/// How large the disk of each node is: room for what the load writes, soon full.
const DISK: &str = "size=192m";

/// What all nodes are started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The network.
    pub lab: Lab,
    /// Where the nodes' disks, logs and switches are.
    pub folder: PathBuf,
    /// The program under test.
    pub program: PathBuf,
}

/// A node with a file system of its own.
#[derive(Debug)]
pub struct Node {
    /// From 1. Its namespace and its disk are of this number.
    pub number: usize,
    /// The last part of its address: its number, unless it was moved.
    host: usize,
    setup: Setup,
    child: Option<Child>,
}

impl Node {
    /// Makes the disk of node `number`; nothing runs yet.
    pub async fn new(setup: &Setup, number: usize) -> Result<Node> {
        let node = Node { number, host: number, setup: setup.clone(), child: None };
        tokio::fs::create_dir_all(node.disk()).await?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(node.disk()))
            .await?;
        Ok(node)
    }

    fn disk(&self) -> PathBuf {
        self.setup.folder.join(format!("disk-{}", self.number))
    }

    /// What the files begin with that make its disk fail: see `faults.c`.
    fn switches(&self) -> String {
        self.setup.folder.join(format!("switch-{}", self.number)).display().to_string()
    }

    fn ballast(&self) -> PathBuf {
        self.disk().join("ballast")
    }

    fn listens(&self, port: u16) -> String {
        format!("{}:{port}", self.setup.lab.address(self.host))
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        self.listens(CLIENT_PORT)
    }

    /// Where other nodes reach it.
    pub fn peer(&self) -> String {
        self.listens(PEER_PORT)
    }

    /// A client of its admin listener that does not wait for long.
    pub fn admin(&self) -> Result<Admin> {
        let mut options = Options::default();
        (options.timeout, options.attempts_max) = (Duration::from_secs(5), 1);
        Ok(Admin::over(vec![plain(&self.listens(ADMIN_PORT))?], options)?)
    }

    /// What it says of itself.
    pub async fn status(&self) -> Result<v1::NodeStatus> {
        Ok(self.admin()?.get_status(v1::GetStatusRequest {}).await?)
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        let line = self.launch().await?;
        ensure!(!line.is_empty(), "node {} ended at once: see its log", self.number);
        Ok(())
    }

    /// Starts it; what it prints first, or nothing if it ends before.
    pub async fn launch(&mut self) -> Result<String> {
        let log = self.setup.folder.join(format!("node-{}.log", self.number));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let program = self.setup.program.display().to_string();
        let disk = self.disk();
        let mut command = self.setup.lab.at(self.number, "env");
        command
            .arg(format!("LD_PRELOAD={}", self.setup.folder.join("faults.so").display()))
            .arg(format!("FAULT_DIR={}", disk.display()))
            .arg(format!("FAULT_SWITCH={}", self.switches()))
            .args([&program, "serve", "--output", "json", "--bootstrap", "wait", "--insecure"])
            .args(["--client-listen", &self.endpoint(), "--admin-listen"])
            .args([&self.listens(ADMIN_PORT), "--peer-listen", &self.peer(), "--data-dir"])
            .arg(disk.join("data"))
            .arg("--cluster-secret-file")
            .arg(self.setup.folder.join("secret"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{program} does not start"))?;
        let out = child.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        timeout(START, BufReader::new(out).read_line(&mut line)).await??;
        self.child = Some(child);
        Ok(line)
    }

    /// The exit code of its process, if that has ended by itself.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        let child = self.child.as_mut().context("it was never started")?;
        Ok(child.try_wait()?.map(|status| status.code().unwrap_or(-1)))
    }

    /// Stops it in order, and waits until it is gone.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        if let Some(mut child) = self.child.take() {
            timeout(START, child.wait()).await??;
        }
        Ok(())
    }

    /// Gives it the data directory of another node, which does not run.
    pub async fn copy_from(&self, other: &Node) -> Result<()> {
        self.wipe().await?;
        run(Command::new("cp").arg("-a").args([other.disk().join("data"), self.disk()])).await
    }

    /// Takes its data directory away; it must not run.
    pub async fn wipe(&self) -> Result<()> {
        run(Command::new("rm").arg("-rf").arg(self.disk().join("data"))).await
    }

    /// Gives its machine another address; it must not run.
    pub async fn move_to(&mut self, host: usize) -> Result<()> {
        let lab = self.setup.lab.clone();
        let device = ["dev", "eth0"];
        // The first of a network takes the others along when it goes.
        for (verb, host) in [("del", self.host), ("add", host)] {
            let address = format!("{}/24", lab.address(host));
            run(lab.at(self.number, "ip").args(["addr", verb, &address]).args(device)).await?;
        }
        self.host = host;
        Ok(())
    }

    /// What it has logged.
    pub async fn log(&self) -> Result<String> {
        Ok(tokio::fs::read_to_string(self.setup.folder.join(format!("node-{}.log", self.number)))
            .await?)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else {
            bail!("node {} does not run", self.number);
        };
        // SAFETY: kill takes plain numbers. The child is ours and not reaped yet, so its id cannot
        // be another process's; `ip netns exec` and `env` became the node by exec, not by fork.
        let sent = unsafe { libc::kill(pid.cast_signed(), signal) };
        ensure!(sent == 0, "signal {signal}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Kills it as a crash does, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait().await?;
        }
        Ok(())
    }

    /// Fills its disk to the last byte.
    pub async fn fill_disk(&self) -> Result<()> {
        let ballast = self.ballast();
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut file = std::fs::File::options().create(true).append(true).open(ballast)?;
            let block = vec![0_u8; 1 << 16];
            let mut size = block.len();
            // Smaller and smaller pieces: the last page counts too.
            while size > 0 {
                match file.write(&block[..size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await??;
        Ok(())
    }

    /// Gives the room back.
    pub async fn free_disk(&self) -> Result<()> {
        Ok(tokio::fs::remove_file(self.ballast()).await?)
    }

    /// Makes each `write` or `sync` of its disk fail, or succeed again.
    pub async fn set_disk_errors(&self, kind: &str, is_on: bool) -> Result<()> {
        let switch = format!("{}.{kind}", self.switches());
        match is_on {
            true => tokio::fs::write(switch, "").await?,
            false => tokio::fs::remove_file(switch).await?,
        }
        Ok(())
    }
}
