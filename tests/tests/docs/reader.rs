//! The reader: a folder, where in it they are, and the nodes they have started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use stator_tests::program;
use tempfile::TempDir;

use crate::page::Step;
use crate::{compilers, root, target};

/// Far beyond what any command takes, so that a hanging one is named.
const COMMAND_SECONDS: u64 = 120;

/// How the lines begin in which a node says where it listens.
const TELLS: [&str; 4] = ["node ", "console: ", "gateway: ", "metrics: "];
/// The setting, the words before the address in such a line, and where that is unless something else is
/// said.
const LISTENERS: [(&str, &str, Option<&str>); 6] = [
    ("client", "clients ", Some("127.0.0.1:7101")),
    ("admin", "admin ", Some("127.0.0.1:7102")),
    ("peer", "peers ", Some("127.0.0.1:7103")),
    ("console", "console: http://", None),
    ("http", "gateway: http://", None),
    ("metrics", "metrics: http://", None),
];

/// A node, or something else that runs beside them.
struct Node {
    process: Child,
    /// Where it listens by the page, and where it really does; nowhere if it is no node.
    addresses: Vec<(String, String)>,
}

impl Node {
    fn is_running(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

/// Follows pages.
pub struct Reader {
    page: String,
    folder: TempDir,
    place: PathBuf,
    nodes: Vec<Node>,
    /// What words of the page stand for.
    words: Vec<(String, String)>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for Node { process, .. } in &mut self.nodes {
            // Its end is not what is tested.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Reader {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().to_owned();
        Reader { page: String::new(), folder, place, nodes: Vec::new(), words: Vec::new() }
    }

    /// Begins the next page, where the one before began.
    pub fn turn_the_page(&mut self, page: &str) {
        self.page = page.to_owned();
        self.place = self.folder.path().to_owned();
        self.words.clear();
    }

    pub fn follow(&mut self, step: &Step) {
        match step {
            Step::Write { path, text } => {
                let path = self.folder.path().join(path);
                assert!(path.is_file(), "{} is edited before it is there", path.display());
                fs::write(path, self.real(text)).expect("written");
            }
            Step::Find { path, lines } => {
                let text = fs::read_to_string(root().join(path)).expect("a file of the repository");
                let text: Vec<_> = text.lines().map(without_margin).collect();
                let is_there = text.windows(lines.len()).any(|some| some == lines.as_slice());
                assert!(is_there, "{path} has no such lines:\n{}", lines.join("\n"));
            }
            Step::Mean { word, command } => {
                let (output, is_done) = self.run(command);
                let output = output.trim();
                assert!(is_done && !output.is_empty(), "{word} is $ {command}\n{output}");
                self.words.retain(|(old, _)| old != word);
                self.words.push((word.clone(), output.to_owned()));
            }
            Step::Run { command, expected } => {
                let (output, is_done) = self.type_in(command);
                let output = self.of_the_page(&output);
                let lines: Vec<_> = output.lines().collect();
                match expected {
                    None => {
                        assert!(is_done, "{}: $ {command}\n--- has failed\n{output}", self.page)
                    }
                    Some(expected) => assert!(
                        output_fits(expected, &lines),
                        "{}: $ {command}\n--- the page says\n{}\n--- it printed\n{output}",
                        self.page,
                        expected.join("\n")
                    ),
                }
                self.share_the_target_folder();
            }
        }
    }

    /// What the command prints, and whether it succeeds.
    fn type_in(&mut self, command: &str) -> (String, bool) {
        let alone = command.split('#').next().unwrap_or_default().split_whitespace();
        if let ["cd", folder] = alone.collect::<Vec<_>>().as_slice() {
            self.place.push(folder);
            assert!(self.place.is_dir(), "{command}: there is no such folder");
            return (String::new(), true);
        }
        match command.strip_prefix("stator serve ") {
            Some(options) if options.ends_with('&') => (self.serve(options), true),
            _ if command.starts_with("kill ") => self.kill(command),
            _ if command.ends_with(" &") => (self.leave_running(command), true),
            _ => self.run(command),
        }
    }

    fn run(&mut self, command: &str) -> (String, bool) {
        let command = self.real(command);
        let mut bash = self.prepared(Command::new("timeout"));
        bash.args([&COMMAND_SECONDS.to_string(), "bash", "-c", &format!("exec 2>&1\n{command}")]);
        let Output { stdout, status, .. } =
            bash.stdin(Stdio::null()).output().expect("bash and timeout are there");
        (String::from_utf8(stdout).expect("UTF-8"), status.success())
    }

    /// Starts what goes on beside the nodes, a job of the shell as they are.
    fn leave_running(&mut self, command: &str) -> String {
        let command = self.real(command.trim_end_matches('&'));
        let mut bash = self.prepared(Command::new("bash"));
        bash.args(["-c", &format!("exec {command}")]).stdin(Stdio::null());
        let process = bash.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.nodes.push(Node { process: process.expect("it starts"), addresses: Vec::new() });
        String::new()
    }

    /// `kill` with jobs of the shell, which nodes are here.
    fn kill(&mut self, command: &str) -> (String, bool) {
        let mut killed = Vec::new();
        let words = command.split('#').next().unwrap_or_default().split_whitespace();
        let words = words.map(|word| match word.strip_prefix('%') {
            None => word.to_owned(),
            Some(job) => {
                killed.push(job.parse::<usize>().expect("the number of a job") - 1);
                self.nodes[killed[killed.len() - 1]].process.id().to_string()
            }
        });
        let command = words.collect::<Vec<_>>().join(" ");
        let found = self.run(&command);
        let goes_on = ["-STOP", "-CONT"].iter().any(|signal| command.contains(signal));
        for node in killed.into_iter().filter(|_| !goes_on) {
            self.nodes[node].process.wait().expect("it ends");
        }
        found
    }

    /// Each word of the page, and what it stands for: first words, then addresses of nodes that run.
    fn meanings(&mut self) -> Vec<(String, String)> {
        let nodes = self.nodes.iter_mut().filter_map(|node| node.is_running().then_some(node));
        let addresses = nodes.flat_map(|node| node.addresses.clone());
        self.words.iter().cloned().chain(addresses).collect()
    }

    fn real(&mut self, text: &str) -> String {
        let meanings = self.meanings();
        meanings.iter().fold(text.to_owned(), |text, (page, real)| text.replace(page, real))
    }

    fn of_the_page(&mut self, text: &str) -> String {
        let meanings = self.meanings();
        let back = meanings.iter().rev();
        back.fold(text.to_owned(), |text, (page, real)| text.replace(real, page))
    }

    /// Starts a node and keeps it; returns what it says of where it listens.
    fn serve(&mut self, options: &str) -> String {
        let words = options.split_whitespace().filter(|word| !matches!(*word, "\\" | "&"));
        let options: Vec<_> = words.collect();
        let mut serve = self.prepared(Command::new(program()));
        serve.arg("serve");
        let mut said = Vec::new();
        for (setting, words, usually) in LISTENERS {
            let option = format!("--{setting}-listen");
            let given = options.iter().position(|word| **word == option);
            let address = given.and_then(|at| options.get(at + 1)).copied();
            said.extend(address.or(usually).map(|address| (words, address.to_owned())));
            if address.or(usually).is_some() {
                serve.env(format!("STATOR_{}_LISTEN", setting.to_uppercase()), "127.0.0.1:0");
            }
        }
        for (at, option) in options.iter().enumerate() {
            let is_of_a_listener = |at: usize| options[at].ends_with("-listen");
            let is_replaced = is_of_a_listener(at) || at > 0 && is_of_a_listener(at - 1);
            if !is_replaced {
                serve.arg(option);
            }
        }
        for (page, _) in self.meanings() {
            let is_taken = said.iter().any(|(_, address)| *address == page);
            assert!(!is_taken, "two nodes listen at {page}: stator serve {}", options.join(" "));
        }
        let (mut process, lines) = self.started(serve);
        // By the place of the listener, since lines come in any order.
        let (mut output, mut found) = (BTreeMap::new(), BTreeMap::new());
        while found.len() < said.len() {
            let line = lines.recv_timeout(Duration::from_secs(COMMAND_SECONDS));
            let line = line.unwrap_or_else(|_| {
                let _ = process.kill();
                panic!("stator serve {} does not say where: {output:?}", options.join(" "))
            });
            let Some(place) = TELLS.iter().position(|tell| line.starts_with(tell)) else {
                continue;
            };
            for (at, (words, page)) in said.iter().enumerate() {
                if let Some((_, rest)) = line.split_once(words) {
                    let address = rest.split([',', '/']).next().unwrap_or_default();
                    found.insert(at, (page.clone(), address.to_owned()));
                }
            }
            output.insert(place, line);
        }
        let addresses = found.into_values().collect();
        self.nodes.push(Node { process, addresses });
        output.into_values().collect::<Vec<_>>().join("\n")
    }

    /// The process, and the lines that it prints, which its log gets as well.
    fn started(&self, mut serve: Command) -> (Child, Receiver<String>) {
        let (reads, writes) = std::io::pipe().expect("a pipe");
        let both = (writes.try_clone().expect("a pipe"), writes);
        let process = serve.stdout(both.0).stderr(both.1).spawn().expect("the node starts");
        let log = format!("node-{}.log", self.nodes.len() + 1);
        let mut log = File::create(self.folder.path().join(log)).expect("a log");
        let (sends, lines) = channel();
        // It ends with the node, whose pipe would be full otherwise.
        std::thread::spawn(move || {
            for line in BufReader::new(reads).lines().map_while(Result::ok) {
                // A log of a test that is over is gone, and nobody listens.
                let _ = writeln!(log, "{line}");
                let _ = sends.send(line);
            }
        });
        (process, lines)
    }

    /// A command in the reader's place and environment, not in that of whoever runs the tests.
    fn prepared(&mut self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("STATOR_") || text.starts_with("CARGO_") && text != "CARGO_HOME" {
                command.env_remove(name);
            }
        }
        let folder = program().parent().map(Path::to_owned).unwrap_or_default();
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let tools = target().join("collector");
        let folders = [folder, tools].into_iter().chain(std::env::split_paths(&rest));
        let path = std::env::join_paths(folders);
        command.env("PATH", path.expect("a path")).env("CARGO_NET_OFFLINE", "true");
        command.env("REPOSITORY", root()).envs(compilers());
        command.env("XDG_CONFIG_HOME", self.folder.path().join(".config"));
        // What names no node asks the first of those that run.
        let mut nodes = self.nodes.iter_mut().filter(|node| !node.addresses.is_empty());
        if let Some(node) = nodes.find_map(|node| node.is_running().then_some(node)) {
            for (variable, (_, address)) in
                ["STATOR_ENDPOINT", "STATOR_ADMIN"].iter().zip(&node.addresses)
            {
                command.env(variable, format!("http://{address}"));
            }
        }
        command.current_dir(&self.place);
        command
    }

    /// A new crate's target folder is the one that has built all it depends on.
    fn share_the_target_folder(&self) {
        for entry in fs::read_dir(self.folder.path()).expect("the reader's folder").flatten() {
            let shared = entry.path().join("target");
            if entry.path().join("Cargo.toml").is_file() && !shared.is_symlink() {
                symlink(target(), shared).expect("a link");
            }
        }
    }
}

/// A line without its indentation, and without the margin that a comment of documentation has.
fn without_margin(line: &str) -> String {
    line.trim().trim_start_matches("//!").trim_start_matches("///").trim().to_owned()
}

/// Whether `line` is `pattern`, in which each `…` stands for any text.
fn line_fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            ends.any(|at| line_fits(rest, &line[at..]))
        }),
    }
}

/// Whether `lines` are the `pattern`, in which a lone `…` stands for any lines.
fn output_fits(pattern: &[String], lines: &[&str]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=lines.len()).any(|skipped| output_fits(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines.split_first().is_some_and(|(line, lines)| {
            line_fits(first, line.trim_end()) && output_fits(rest, lines)
        }),
    }
}

#[test]
fn other_output_than_the_page_shows_is_found() {
    let fits = |pattern: &[&str], output: &str| {
        let pattern: Vec<_> = pattern.iter().map(|line| (*line).to_owned()).collect();
        output_fits(&pattern, &output.lines().collect::<Vec<_>>())
    };
    assert!(fits(&["a … c…", "d"], "a b c\nd\n"));
    assert!(fits(&["a", "…", "d"], "a\nb\nc\nd"));
    assert!(fits(&["…"], ""));
    assert!(!fits(&["a"], "a\nb"));
    assert!(!fits(&["a", "b"], "a"));
    assert!(!fits(&["a … c"], "a b d"));
    assert!(!fits(&[], "a"));
}
