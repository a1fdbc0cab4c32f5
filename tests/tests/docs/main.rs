//! Pages of `docs/` and the README, word by word: what a reader types is run, what they would see is
//! compared. `page.rs` says how a page is read.
//!
//! Commands run in one new folder, by `bash`, with the built `stator` first in the path and the repository
//! in `$REPOSITORY`. `stator serve … &` gets free ports; where the page names ports, the commands after it
//! are given those that the node took, and what they print is compared with the page's. What names none is
//! told the first node that runs. `kill %2` means the second node, as in a shell. Crates build in the
//! target folder of this workspace, where `make test` has built what they depend on, and without network.

mod commands;
mod page;
mod reader;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use page::Page;
use reader::Reader;

/// Tests, and the pages that each follows, one after the other with the same nodes.
macro_rules! readings {
    ($($name:ident: $pages:expr;)*) => {
        const READINGS: &[&[&str]] = &[$(&$pages),*];
        $(#[test]
        fn $name() {
            follow(&$pages);
        })*
    };
}

readings! {
    the_readme_does_what_it_says: ["README.md"];
    the_quick_start_and_what_goes_on_from_it_do_what_they_say:
        ["docs/quick-start.md", "docs/api.md", "docs/operations.md"];
    the_page_on_regions_does_what_it_says: ["docs/regions.md"];
    the_page_on_the_ring_does_what_it_says: ["docs/ring.md"];
    the_page_on_merges_does_what_it_says: ["docs/merges.md"];
    the_page_on_languages_does_what_it_says: ["docs/languages.md"];
    the_page_on_backups_does_what_it_says: ["docs/backup.md"];
    the_page_on_access_does_what_it_says: ["docs/access.md"];
    the_page_on_clients_does_what_it_says: ["docs/clients.md"];
    the_page_on_the_console_does_what_it_says: ["docs/console.md"];
    the_page_on_metrics_does_what_it_says: ["docs/metrics.md"];
    the_page_on_security_does_what_it_says: ["docs/security.md"];
    the_page_on_watching_does_what_it_says: ["docs/watch.md"];
    pages_with_nothing_to_run_have_nothing_to_run: [
        "ARCHITECTURE.md", "docs/choosing.md", "docs/comparison.md", "docs/dynamo.md",
        "docs/performance.md", "docs/when-not.md"
    ];
}

/// The blocks that are not run: page, first command, and how many there are in it. Why stands before each
/// of them in the page.
const EXCUSED: &[(&str, &str, usize)] = &[
    ("README.md", "make demo", 2),
    ("README.md", "stator bench --local 3 --workload load,a,c", 6),
    ("README.md", "grpcurl -plaintext 127.0.0.1:7101 list", 3),
    ("README.md", "make simulate REPLAY=1 FIRST=42 SCENARIO='lost disks'", 1),
    ("docs/quick-start.md", "make release", 3),
    ("docs/quick-start.md", "cd host/packaging/docker", 5),
    ("docs/quick-start.md", "docker compose exec node-1 stator keyspace create carts", 4),
    ("docs/quick-start.md", "make release", 3),
    ("docs/quick-start.md", "head -c 32 /dev/urandom | base64 >cluster-secret", 2),
    ("docs/quick-start.md", "sudo systemctl enable --now stator", 4),
    ("docs/regions.md", "stator bench --local 3 --far 1 --link-delay 20ms", 1),
    ("docs/backup.md", "sudo systemctl enable --now stator-backup.timer", 3),
    ("docs/access.md", "printf 'stator module signature", 3),
    ("docs/clients.md", "const watch = client.watch(", 1),
    ("docs/security.md", "cargo test --workspace --test cluster hostile_clients", 1),
    ("docs/watch.md", "stator kv watch -k carts", 4),
    ("docs/watch.md", "async def follow", 1),
    ("docs/performance.md", "apt-get install etcd-server redis-server", 4),
    ("docs/performance.md", "stator bench --against etcd", 3),
    ("docs/performance.md", "stator bench --local 5 --link-delay 2ms", 1),
];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn target() -> PathBuf {
    root().join("target").canonicalize().expect("the target folder")
}

/// The compilers that `tests/languages/install` has brought, by the variables of the templates, and the
/// Python that `tests/clients/install` has.
fn compilers() -> Vec<(&'static str, PathBuf)> {
    let all = [
        ("ASC", "languages/tools/node_modules/.bin/asc"),
        ("COMPONENTIZE_QJS", "languages/tools/node_modules/.bin/componentize-qjs"),
        ("COMPONENTIZE_PY", "languages/tools/venv/bin/componentize-py"),
        ("PYTHON", "clients/venv/bin/python"),
    ];
    let all = all.map(|(variable, program)| (variable, target().join(program)));
    all.into_iter().filter(|(_, program)| program.exists()).collect()
}

/// Whether a tool is here: a language that `make languages` has built, a client that
/// `tests/clients/install` has brought the tools of, or a program.
fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match tool {
        "python-client" => target().join("clients/venv/installed.txt").is_file(),
        "typescript-client" => {
            let package = target().join("clients/host/client/typescript");
            package.join("node_modules/installed.json").is_file()
        }
        // Its port is the page's: where somebody has it the part is not done.
        "rotel" => {
            let is_here = target().join("collector/rotel").is_file();
            is_here && std::net::TcpListener::bind("127.0.0.1:4317").is_ok()
        }
        "curl" => std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()),
        language => target().join(format!("components/languages/{language}.wasm")).is_file(),
    }
}

fn text(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn read(page: &str, has: impl Fn(&str) -> bool) -> Page {
    Page::read(&text(page), has).unwrap_or_else(|error| panic!("{page}, {error}"))
}

fn follow(pages: &[&str]) {
    let mut reader = Reader::new();
    for name in pages {
        let page = read(name, has);
        for tool in page.missing {
            // Not by a macro, whose words the harness keeps of a test that passes.
            let _ = writeln!(io::stderr(), "skipped: what {name} does with {tool}");
        }
        reader.turn_the_page(name);
        for step in &page.steps {
            reader.follow(step);
        }
    }
}

#[test]
fn every_page_is_followed() {
    let pages = fs::read_dir(root().join("docs")).expect("the folder").flatten();
    let names = pages.filter_map(|page| page.file_name().into_string().ok());
    let mut expected: BTreeSet<_> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    expected.extend(["README.md", "ARCHITECTURE.md"].map(str::to_owned));
    let followed: BTreeSet<_> =
        READINGS.iter().flat_map(|pages| pages.iter()).map(|page| (*page).to_owned()).collect();
    assert_eq!(followed, expected);
}

#[test]
fn what_is_not_run_is_known_by_name() {
    let mut excused = Vec::new();
    for page in READINGS.iter().flat_map(|pages| pages.iter()) {
        let blocks = read(page, |_| true).excused;
        excused.extend(blocks.into_iter().map(|block| (*page, block)));
    }
    let are_known = excused.iter().zip(EXCUSED).all(|((page, block), (of, first, count))| {
        page == of && block[0].starts_with(first) && block.len() == *count
    });
    assert!(are_known && excused.len() == EXCUSED.len(), "{excused:#?}");
}

#[test]
fn the_program_knows_what_the_pages_name() {
    let mut commands = BTreeSet::new();
    for page in READINGS.iter().flat_map(|pages| pages.iter()) {
        let excused = read(page, |_| true).excused.into_iter().flatten();
        let all = excused.filter_map(|command| commands::within(&command));
        let all = all.chain(commands::named(&text(page)));
        commands.extend(all.map(|command| (command, *page)));
    }
    assert!(commands.len() > 100, "the commands were not found: {}", commands.len());
    let unknown: Vec<_> = commands
        .iter()
        .filter_map(|(command, page)| Some(format!("{page}: {}", commands::unknown(command)?)))
        .collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
