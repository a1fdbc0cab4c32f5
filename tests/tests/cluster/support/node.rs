//! One node: its process, which comes and goes, and clients that stay.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

use super::process::{Process, Ready, tail};
use super::{eventually, get, must, put, values};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A node with a data directory of its own.
#[derive(Debug)]
pub struct Node {
    process: Option<Process>,
    /// Where it listens, the same after a restart.
    pub addresses: Ready,
    pub data_dir: PathBuf,
    log: PathBuf,
    flags: Vec<String>,
    client: Channel,
    admin: Channel,
}

impl Node {
    /// Starts a node on free ports of loopback, its data in `folder` under `name`.
    pub async fn start(folder: &Path, name: &str, flags: &[&str]) -> Node {
        let data_dir = folder.join(name);
        let log = folder.join(format!("{name}.log"));
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(["--data-dir".to_owned(), data_dir.display().to_string()]);
        let mut free = flags.clone();
        free.extend(listeners("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"));
        let started = Process::serve(&free, &log).await.expect("the node starts");
        Node::over(started, (data_dir, log), flags)
    }

    /// The same with another standard error, and no log.
    pub async fn start_to(folder: &Path, name: &str, stderr: Stdio) -> Node {
        let (data_dir, log) = (folder.join(name), folder.join(format!("{name}.log")));
        let flags = vec!["--data-dir".to_owned(), data_dir.display().to_string()];
        let mut free = flags.clone();
        free.extend(listeners("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"));
        let started = Process::serve_to(&free, stderr, &log).await.expect("the node starts");
        Node::over(started, (data_dir, log), flags)
    }

    /// The same under limits that a shell sets first.
    pub async fn start_under(limits: &str, folder: &Path, name: &str) -> Node {
        let (data_dir, log) = (folder.join(name), folder.join(format!("{name}.log")));
        let flags = vec!["--data-dir".to_owned(), data_dir.display().to_string()];
        let mut free = flags.clone();
        free.extend(listeners("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"));
        let started = Process::serve_under(limits, &free, &log).await.expect("the node starts");
        Node::over(started, (data_dir, log), flags)
    }

    /// Starts a node that waits for a cluster where another one, which has ended, listened.
    pub async fn start_at(folder: &Path, name: &str, addresses: &Ready) -> Node {
        let data_dir = folder.join(name);
        let log = folder.join(format!("{name}.log"));
        let mut flags: Vec<String> =
            ["--bootstrap", "wait"].iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(["--data-dir".to_owned(), data_dir.display().to_string()]);
        let mut taken = flags.clone();
        taken.extend(listeners(&addresses.client, &addresses.admin, &addresses.peer));
        // An outgoing connection of anyone may have taken the port meanwhile, for a while.
        let started =
            eventually("the node starts", async || Process::serve(&taken, &log).await).await;
        Node::over(started, (data_dir, log), flags)
    }

    /// Copies its data directory.
    pub fn copy_to(&self, folder: &Path, name: &str) {
        copy_folder(&self.data_dir, &folder.join(name)).expect("a copy");
    }

    /// Starts a process on such a copy, with the node's flags, at other addresses.
    pub async fn start_copy(folder: &Path, name: &str, of: &Node) -> Node {
        // The last two name the directory.
        let flags = of.flags[..of.flags.len() - 2].iter().map(String::as_str);
        Node::start(folder, name, &flags.collect::<Vec<_>>()).await
    }

    fn over(
        (process, addresses): (Process, Ready),
        (data_dir, log): (PathBuf, PathBuf),
        flags: Vec<String>,
    ) -> Node {
        let channel = |address: &str| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            endpoint.timeout(REQUEST_TIMEOUT).connect_lazy()
        };
        let (client, admin) = (channel(&addresses.client), channel(&addresses.admin));
        Node { process: Some(process), addresses, data_dir, log, flags, client, admin }
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.client.clone())
    }

    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.admin.clone())
    }

    /// A client of the admin listener for requests that take long.
    pub fn patient_admin(&self) -> AdminClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addresses.admin));
        AdminClient::new(endpoint.expect("an address").connect_lazy())
    }

    /// The connection to its client listener.
    pub fn client_channel(&self) -> Channel {
        self.client.clone()
    }

    /// The connection to its admin listener.
    pub fn admin_channel(&self) -> Channel {
        self.admin.clone()
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: i32) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Freezes its process; SIGCONT lets it go on.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Waits for the end of its process and tells whether that was a success.
    pub async fn ended(&mut self) -> bool {
        self.process.take().expect("it runs").ended().await.success()
    }

    /// Kills it as a crash does, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        assert!(!self.ended().await);
    }

    /// Starts it again with the same data and addresses.
    pub async fn restart(&mut self) {
        let Ready { client, admin, peer, .. } = &self.addresses;
        let mut flags = self.flags.clone();
        flags.extend(listeners(client, admin, peer));
        // An outgoing connection of anyone may have taken the port meanwhile, for a while.
        let (process, ready) =
            eventually("the node starts again", async || Process::serve(&flags, &self.log).await)
                .await;
        assert_eq!(ready.node, self.addresses.node, "the id is made with the data directory");
        self.process = Some(process);
    }

    /// Starts it again as another program, with the same data and addresses.
    pub async fn restart_as(&mut self, program: &Path) {
        let Ready { client, admin, peer, .. } = &self.addresses;
        let mut flags = self.flags.clone();
        flags.extend(listeners(client, admin, peer));
        let (process, _) = eventually("the node starts as another program", async || {
            Process::serve_as(program, &flags, &self.log).await
        })
        .await;
        self.process = Some(process);
    }

    /// Starts it again with the same data, further flags and other addresses.
    pub async fn restart_elsewhere(&mut self, more: &[&str]) {
        let mut flags = self.flags.clone();
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags.extend(listeners("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"));
        let started = Process::serve(&flags, &self.log).await.expect("the node starts");
        let paths = (self.data_dir.clone(), self.log.clone());
        *self = Node::over(started, paths, self.flags.clone());
    }

    pub async fn status(&self) -> Result<v1::NodeStatus, String> {
        let answer = self.admin().get_status(v1::GetStatusRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    }

    pub async fn incarnation(&self) -> String {
        let status = self.status().await.expect("it runs");
        status.node.expect("it knows itself").incarnation
    }

    pub async fn set_isolated(&self, isolated: bool) {
        let answer = self.admin().set_fault(v1::SetFaultRequest { isolated }).await;
        assert_eq!(answer.expect("faults are enabled").into_inner().isolated, isolated);
    }

    /// Checks that it still takes and gives values.
    pub async fn serves(&self, keyspace: &str, after: &str) {
        let key = format!("after {after}");
        let written = self.kv().put(put(keyspace, &key, "served")).await;
        written.unwrap_or_else(|status| panic!("no put after {after}: {status}"));
        let read = self.kv().get(get(keyspace, &key)).await;
        let read = read.unwrap_or_else(|status| panic!("no get after {after}: {status}"));
        assert!(values(read.get_ref()).contains("served"), "after {after}");
    }

    /// Waits until it belongs to a cluster and sees all its `members` alive.
    pub async fn sees_all(&self, members: usize) {
        eventually("a node sees all members alive", async || {
            let status = self.status().await?;
            let alive = status.members.iter().filter(|view| {
                let seen = view.reachability();
                matches!(seen, v1::Reachability::Alive | v1::Reachability::Self_)
            });
            must(alive.count() == members, || format!("{:?}", status.members))
        })
        .await;
    }

    /// Waits until its log has these words: it is written behind what it tells of.
    pub async fn logs(&self, words: &str) {
        eventually("its log says so", async || {
            must(self.log().contains(words), || format!("{words:?} is not in {}", self.log()))
        })
        .await;
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

fn listeners(client: &str, admin: &str, peer: &str) -> [String; 6] {
    [
        ["--client-listen".to_owned(), client.to_owned()],
        ["--admin-listen".to_owned(), admin.to_owned()],
        ["--peer-listen".to_owned(), peer.to_owned()],
    ]
    .concat()
    .try_into()
    .expect("three pairs")
}
