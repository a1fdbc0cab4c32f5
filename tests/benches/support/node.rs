//! A node as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A node that listens on free ports, and dies with this value.
pub struct Node {
    child: Child,
    pub client: String,
    pub admin: String,
    pub peer: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts one, with its data in a folder of its own.
    pub fn start(folder: &std::path::Path, index: usize) -> Node {
        let mut child = Command::new(super::support::program())
            .args(["serve", "--output", "json", "--bootstrap", "wait", "--log", "warn"])
            .args(["client", "admin", "peer"].map(|whom| format!("--{whom}-listen=127.0.0.1:0")))
            .arg("--data-dir")
            .arg(folder.join(format!("node-{index}")))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("it is ready");
        let address = |name: &str| ready[name].as_str().expect("an address").to_owned();
        let (client, admin, peer) = (address("client"), address("admin"), address("peer"));
        Node { child, client, admin, peer }
    }

    /// Processor time so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("it runs");
        let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
        // SAFETY: sysconf only reads a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        (ticks(11) + ticks(12)) / per_second
    }
}
