//! What a page tells its reader to do.
//!
//! | block | |
//! |---|---|
//! | `console` | the lines behind `$ ` are commands (`\` at the end goes on), the others their output, standard error included; `…` stands for any text in a line, alone for any lines |
//! | `sh` | commands, which must succeed, whatever they print |
//! | `text`, `json` | only to be looked at: no line of it may be a command |
//! | any other | only with a marker |
//!
//! A marker is a comment of one line, which nobody sees who reads the page as it is rendered:
//!
//! | before a block | |
//! |---|---|
//! | `<!-- file: PATH -->` | it is the file that an editor leaves there |
//! | `<!-- in: PATH -->` | it stands so, but for indentation, in this file of the repository, which is tried by itself |
//! | `<!-- not run: REASON -->` | it cannot be run here |
//!
//! | anywhere | |
//! |---|---|
//! | `<!-- needs: NAME -->` | what follows, up to the next headline, is only done where the tool of this name is |
//! | `<!-- run: COMMAND -->` | what the page takes as done already; it must succeed |
//! | `<!-- here: WORD is COMMAND -->` | in what follows WORD stands for what the command prints |

/// One thing that a reader of the page does.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Types a command and sees this, or anything as long as it succeeds.
    Run { command: String, expected: Option<Vec<String>> },
    /// Leaves a file like this.
    Write { path: String, text: String },
    /// Finds this in a file of the repository.
    Find { path: String, lines: Vec<String> },
    /// Has, where the page has a word, what a command prints.
    Mean { word: String, command: String },
}

/// A page as its reader follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub steps: Vec<Step>,
    /// The commands of each block that is not run.
    pub excused: Vec<Vec<String>>,
    /// The tools that are missing for a part of it.
    pub missing: Vec<String>,
}

impl Page {
    /// Reads a page for somebody who has the tools that `has` names.
    ///
    /// # Errors
    /// Something in it is neither run nor excused, or no marker: the line, and what is wrong with it.
    pub fn read(text: &str, has: impl Fn(&str) -> bool) -> Result<Page, String> {
        let mut page = Page::default();
        let (mut marker, mut skips) = (None, false);
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let wrong = |what: &str| format!("line {}: {what}: {line}", at + 1);
            let mut steps = Vec::new();
            if let Some(comment) = line.trim_start().strip_prefix("<!--") {
                let comment = comment.strip_suffix("-->").unwrap_or_default().trim();
                match comment.split_once(": ").ok_or_else(|| wrong("no marker"))? {
                    ("needs", tool) => {
                        skips = !has(tool);
                        page.missing.extend(skips.then(|| tool.to_owned()));
                    }
                    ("run", command) => steps.push(run(command)),
                    ("here", both) => {
                        let (word, command) =
                            both.split_once(" is ").ok_or_else(|| wrong("no ` is `"))?;
                        let (word, command) = (word.to_owned(), command.to_owned());
                        steps.push(Step::Mean { word, command });
                    }
                    (kind @ ("file" | "in" | "not run"), rest) => marker = Some((kind, rest)),
                    _ => return Err(wrong("no marker")),
                }
            } else if line.starts_with('#') {
                skips = false;
            } else if let Some(language) = line.trim_start().strip_prefix("```") {
                let indentation = line.len() - line.trim_start().len();
                let block = lines.by_ref().map(|(_, line)| line.get(indentation..).unwrap_or(""));
                let block: Vec<_> = block.take_while(|line| *line != "```").collect();
                let block = Block { language, lines: block };
                match block.read(marker.take()).map_err(wrong)? {
                    Read::Steps(found) => steps = found,
                    Read::Excused(commands) => page.excused.push(commands),
                }
            }
            page.steps.extend(steps.into_iter().filter(|_| !skips));
        }
        Ok(page)
    }
}

struct Block<'a> {
    language: &'a str,
    lines: Vec<&'a str>,
}

enum Read {
    Steps(Vec<Step>),
    Excused(Vec<String>),
}

impl Block<'_> {
    fn read(&self, marker: Option<(&str, &str)>) -> Result<Read, &'static str> {
        let path = |path: &str| path.to_owned();
        Ok(Read::Steps(match (marker, self.language) {
            (Some(("file", to)), _) => {
                vec![Step::Write { path: path(to), text: self.lines.join("\n") + "\n" }]
            }
            (Some(("in", file)), _) => {
                let lines = self.lines.iter().map(|line| line.trim().to_owned()).collect();
                vec![Step::Find { path: path(file), lines }]
            }
            (Some(_), _) => return Ok(Read::Excused(self.typed()?)),
            (None, "console") => self.console()?,
            (None, "sh") => self.script()?.iter().map(|command| run(command)).collect(),
            (None, "text" | "json") if !self.lines.iter().any(|line| is_typed(line)) => Vec::new(),
            _ => return Err("a block that is neither run nor excused"),
        }))
    }

    /// The commands in it, if it has any.
    fn typed(&self) -> Result<Vec<String>, &'static str> {
        match self.language {
            "sh" => self.script(),
            "console" => Ok(self.console()?.into_iter().filter_map(command).collect()),
            _ => Ok(self.lines.iter().take(1).map(|line| (*line).to_owned()).collect()),
        }
    }

    fn console(&self) -> Result<Vec<Step>, &'static str> {
        let mut steps = Vec::new();
        let mut lines = self.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let first = line.strip_prefix("$ ").ok_or("output before the first command")?;
            let command = whole(first, &mut lines)?;
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected.push((*line).to_owned());
            }
            steps.push(Step::Run { command, expected: Some(expected) });
        }
        Ok(steps)
    }

    fn script(&self) -> Result<Vec<String>, &'static str> {
        let mut commands = Vec::new();
        let mut lines = self.lines.iter();
        while let Some(line) = lines.next() {
            if !line.is_empty() && !line.starts_with('#') {
                commands.push(whole(line, &mut lines)?);
            }
        }
        Ok(commands)
    }
}

fn run(command: &str) -> Step {
    Step::Run { command: command.to_owned(), expected: None }
}

fn command(step: Step) -> Option<String> {
    match step {
        Step::Run { command, .. } => Some(command),
        _ => None,
    }
}

fn is_typed(line: &str) -> bool {
    ["$ ", "stator ", "make ", "cargo ", "curl ", "sudo "].iter().any(|word| line.starts_with(word))
}

/// A command that may go on in the next lines.
fn whole<'a>(
    first: &str,
    lines: &mut impl Iterator<Item = &'a &'a str>,
) -> Result<String, &'static str> {
    let mut command = first.to_owned();
    while command.ends_with('\\') {
        command.push('\n');
        command.push_str(lines.next().ok_or("a command that does not end")?);
    }
    Ok(command)
}

#[test]
fn a_page_is_read_as_it_says() {
    let page = "words\n```console\n$ one \\\n  two\nout\n$ three\n```\n<!-- run: hidden -->\n\
                ```sh\n# why\nfour  # and how\n\nfive \\\n six\n```\n\
                <!-- file: a/b.rs -->\n```rust\nfn f() {}\n```\n\
                - in a list:\n  <!-- in: c.rs -->\n  ```rust\n  fn g() {\n    1\n  ```\n\
                <!-- here: NODE is echo 1 -->\n```text\na drawing\n```\n\
                <!-- not run: it would format the disk -->\n```sh\nsix\nseven\n```\n";
    let shown = |command: &str, expected: &[&str]| Step::Run {
        command: command.to_owned(),
        expected: Some(expected.iter().map(|line| (*line).to_owned()).collect()),
    };
    let read = |page: &str| Page::read(page, |tool| tool != "c");
    let expected = [
        shown("one \\\n  two", &["out"]),
        shown("three", &[]),
        run("hidden"),
        run("four  # and how"),
        run("five \\\n six"),
        Step::Write { path: "a/b.rs".to_owned(), text: "fn f() {}\n".to_owned() },
        Step::Find { path: "c.rs".to_owned(), lines: vec!["fn g() {".to_owned(), "1".to_owned()] },
        Step::Mean { word: "NODE".to_owned(), command: "echo 1".to_owned() },
    ];
    let found = read(page).expect("it can be read");
    assert_eq!(found.steps, expected);
    assert_eq!(found.excused, [["six", "seven"]]);
    let needy = "<!-- needs: c -->\n```sh\none\n```\n# next\n```sh\ntwo\n```\n";
    let found = read(needy).expect("it can be read");
    assert_eq!((found.steps, found.missing), (vec![run("two")], vec!["c".to_owned()]));
}

#[test]
fn no_block_escapes() {
    for block in [
        "```\nls\n```",
        "```bash\nls\n```",
        "```rust\nfn f() {}\n```",
        "```text\n$ ls\n```",
        "```text\nstator serve\n```",
        "```console\nout\n```",
        "```sh\nls \\\n```",
        "<!-- not ran: typing error -->\n```sh\nls\n```",
        "<!-- a remark -->",
    ] {
        let found = Page::read(block, |_| true);
        assert!(found.is_err(), "{block}: {found:?}");
    }
}
