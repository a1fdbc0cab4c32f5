//! Pages of `docs/`, word by word: what a reader types is run, what they would see is compared.
//!
//! - Of a `console` block the lines behind `$ ` are commands (`\` at the end goes on), the others
//!   the output, standard error included. `…` stands for any text in a line, alone for any lines.
//! - A block behind `<!-- file: PATH -->` is the file that an editor leaves there.
//! - What follows `<!-- needs: LANGUAGE -->`, up to the next headline, is only done where `make languages`
//!   has found a compiler for that language; otherwise that is said on standard error.
//!
//! Commands run in one new folder, by `bash`, with the built `stator` first in the path.
//! `stator serve … &` gets free ports; where the page names ports, the commands after it are given those
//! that the node took, and what they print is compared with the page's. What names none is told the first
//! node's. Crates build in the target folder of this workspace, where `make test` has built what they
//! depend on, and without network.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use stator_tests::program;
use tempfile::TempDir;

/// Far beyond what any command takes, so that a hanging one is named.
const COMMAND_SECONDS: u32 = 300;

/// One thing that a reader of the page does.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Types a command and sees this.
    Run { command: String, expected: Vec<String> },
    /// Leaves a file like this.
    Write { path: String, text: String },
}

/// What a page tells its reader to do who has compilers of the languages that `has` names.
fn steps(page: &str, has: impl Fn(&str) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut file, mut skips) = (None, false);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_prefix("<!-- file: ") {
            file = path.strip_suffix(" -->");
        } else if let Some(language) = line.strip_prefix("<!-- needs: ") {
            let language = language.trim_end_matches(" -->");
            skips = !has(language);
            if skips {
                // Not by a macro, whose words the harness keeps of a test that passes.
                let _ =
                    writeln!(io::stderr(), "skipped: what docs/languages.md does in {language}");
            }
        } else if line.starts_with('#') {
            skips = false;
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            match file.take() {
                _ if skips => {}
                Some(path) => {
                    steps.push(Step::Write { path: path.to_owned(), text: block.join("\n") + "\n" })
                }
                None if language == "console" => steps.extend(commands(&block)),
                None => {}
            }
        }
    }
    steps
}

fn commands(block: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = block.iter().peekable();
    while let Some(line) = lines.next() {
        let first = line.strip_prefix("$ ").expect("output before the first command");
        let mut command = first.to_owned();
        while command.ends_with('\\') {
            command.push('\n');
            command.push_str(lines.next().expect("the command goes on"));
        }
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push((*line).to_owned());
        }
        steps.push(Step::Run { command, expected });
    }
    steps
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

/// The reader: a folder, where in it they are, and the nodes they have started.
struct Reader {
    folder: TempDir,
    place: PathBuf,
    nodes: Vec<Child>,
    variables: Vec<(&'static str, String)>,
    /// Where nodes listen by the page, and where they really do.
    addresses: Vec<(String, String)>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Its end is not what is tested.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Reader {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().to_owned();
        let (nodes, variables, addresses) = (Vec::new(), Vec::new(), Vec::new());
        Reader { folder, place, nodes, variables, addresses }
    }

    fn follow(&mut self, step: &Step) {
        match step {
            Step::Write { path, text } => {
                let path = self.folder.path().join(path);
                assert!(path.is_file(), "{} is edited before it is there", path.display());
                fs::write(path, text).expect("written");
            }
            Step::Run { command, expected } => {
                let output = match command.strip_prefix("cd ") {
                    Some(folder) => {
                        self.place.push(folder);
                        assert!(self.place.is_dir(), "{command}: there is no such folder");
                        String::new()
                    }
                    None if command.starts_with("stator serve ") => self.serve(command),
                    None => self.run(&self.in_place_of(command, |(page, real)| (page, real))),
                };
                let output = self.in_place_of(&output, |(page, real)| (real, page));
                let lines: Vec<_> = output.lines().collect();
                assert!(
                    output_fits(expected, &lines),
                    "$ {command}\n--- the page says\n{}\n--- it printed\n{output}",
                    expected.join("\n")
                );
                self.share_the_target_folder();
            }
        }
    }

    fn run(&self, command: &str) -> String {
        let seconds = COMMAND_SECONDS.to_string();
        let mut bash = self.prepared(Command::new("timeout"));
        bash.args([&seconds, "bash", "-c", &format!("exec 2>&1\n{command}")]);
        let output = bash.stdin(Stdio::null()).output().expect("bash and timeout are there");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// `text` with the addresses of the page in place of the real ones, or the other way round.
    fn in_place_of(
        &self,
        text: &str,
        which: fn(&(String, String)) -> (&String, &String),
    ) -> String {
        self.addresses
            .iter()
            .map(which)
            .fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
    }

    /// Starts a node and keeps it; returns the line that says where it listens.
    fn serve(&mut self, command: &str) -> String {
        let words: Vec<_> = command.split_whitespace().filter(|word| *word != "\\").collect();
        let ["stator", options @ .., "&"] = words.as_slice() else {
            panic!("{command} does not go on in the background");
        };
        let mut serve = self.prepared(Command::new(program()));
        for listener in ["CLIENT", "ADMIN", "PEER"] {
            serve.env(format!("STATOR_{listener}_LISTEN"), "127.0.0.1:0");
        }
        let listens = |option: &str| option.starts_with("--") && option.ends_with("-listen");
        let named = |whom: &str| {
            let option = format!("--{whom}-listen");
            let at = options.iter().position(|word| *word == option)?;
            options.get(at + 1).map(|address| (*address).to_owned())
        };
        for (at, option) in options.iter().enumerate() {
            let is_address = at > 0 && listens(options[at - 1]);
            serve.arg(if is_address { "127.0.0.1:0" } else { option });
        }
        let log = format!("node-{}.log", self.nodes.len());
        let log = fs::File::create(self.folder.path().join(log)).expect("a log");
        let mut node = serve.stdout(Stdio::piped()).stderr(log).spawn().expect("the node starts");
        let mut stdout = BufReader::new(node.stdout.take().expect("piped"));
        self.nodes.push(node);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its first line");
        let address = |whom: &str| {
            let rest = line.split_once(&format!("{whom} ")).map(|(_, rest)| rest);
            let address = rest.and_then(|rest| rest.split([',', '\n']).next());
            address.unwrap_or_else(|| panic!("no address of {whom}: {line}")).to_owned()
        };
        for (whom, option) in [("clients", "client"), ("admin", "admin"), ("peers", "peer")] {
            self.addresses.extend(named(option).map(|page| (page, address(whom))));
        }
        if self.nodes.len() == 1 {
            let told = [("STATOR_ENDPOINT", "clients"), ("STATOR_ADMIN", "admin")];
            self.variables
                .extend(told.map(|(name, whom)| (name, format!("http://{}", address(whom)))));
        }
        line
    }

    /// A command in the reader's place and environment, not in that of whoever runs the tests.
    fn prepared(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("STATOR_") || text.starts_with("CARGO_") && text != "CARGO_HOME" {
                command.env_remove(name);
            }
        }
        let folder = program().parent().map(Path::to_owned).unwrap_or_default();
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&rest)));
        command.env("PATH", path.expect("a path")).env("CARGO_NET_OFFLINE", "true");
        command.envs(compilers());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.place);
        command
    }

    /// A new crate's target folder is the one that has built all it depends on.
    fn share_the_target_folder(&self) {
        let shared = program().parent().and_then(Path::parent).map(Path::to_owned);
        for entry in fs::read_dir(self.folder.path()).expect("the reader's folder").flatten() {
            let target = entry.path().join("target");
            if entry.path().join("Cargo.toml").is_file() && !target.is_symlink() {
                symlink(shared.as_deref().expect("target/debug/stator"), target).expect("a link");
            }
        }
    }
}

/// The compilers that `tests/languages/install` has brought, by the variables of the templates.
fn compilers() -> Vec<(&'static str, PathBuf)> {
    let tools = target().join("languages/tools");
    let all = [
        ("ASC", "node_modules/.bin/asc"),
        ("COMPONENTIZE_QJS", "node_modules/.bin/componentize-qjs"),
        ("COMPONENTIZE_PY", "venv/bin/componentize-py"),
    ];
    let all = all.map(|(variable, program)| (variable, tools.join(program)));
    all.into_iter().filter(|(_, program)| program.exists()).collect()
}

fn target() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.canonicalize().expect("the target folder")
}

fn follow(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let has =
        |language: &str| target().join(format!("components/languages/{language}.wasm")).is_file();
    let page = fs::read_to_string(path).expect("the page");
    let all = steps(&page, |_| true);
    let commands = all.iter().filter(|step| matches!(step, Step::Run { .. }));
    assert!(commands.count() > 10, "the page's commands were not found");
    let mut reader = Reader::new();
    for step in &steps(&page, has) {
        reader.follow(step);
    }
}

#[test]
fn the_quick_start_does_what_it_says() {
    follow("quick-start.md");
}

#[test]
fn the_page_on_merges_does_what_it_says() {
    follow("merges.md");
}

#[test]
fn the_page_on_languages_does_what_it_says() {
    follow("languages.md");
}

#[test]
fn the_page_on_backups_does_what_it_says() {
    follow("backup.md");
}

#[test]
fn the_page_on_access_does_what_it_says() {
    follow("access.md");
}

#[test]
fn a_page_is_read_as_it_says() {
    let page = "words\n```console\n$ one \\\n  two\nout\n$ three\n```\n```sh\n$ not run\n```\n\
                <!-- file: a/b.rs -->\n```rust\nfn f() {}\n```\n";
    let run = |command: &str, expected: &[&str]| Step::Run {
        command: command.to_owned(),
        expected: expected.iter().map(|line| (*line).to_owned()).collect(),
    };
    let write = Step::Write { path: "a/b.rs".to_owned(), text: "fn f() {}\n".to_owned() };
    let needy = "<!-- needs: c -->\n```console\n$ one\n```\n# next\n```console\n$ two\n```\n";
    assert_eq!(steps(needy, |_| true).len(), 2);
    assert_eq!(steps(needy, |language| language != "c"), [run("two", &[])]);
    assert_eq!(steps(page, |_| true), [run("one \\\n  two", &["out"]), run("three", &[]), write]);
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
