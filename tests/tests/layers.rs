//! The layers of design: what imports what, checked by machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(file(path));
        }
    }
    found
}

fn file(path: PathBuf) -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string(&path).expect("a source file");
    vec![(path, text)]
}

/// Lines of the module in `folder`, or in the file of its name, that contain one of `words`, tests and comments excepted.
fn mentions(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let path = root().join(folder);
    let texts = if path.is_dir() { sources(&path) } else { file(path.with_extension("rs")) };
    for (path, text) in texts {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if !is_comment && words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_core_depends_on_no_crate_that_does_input_or_output() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "stator-core", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("names of crates");
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"foca"), "the list is not the core's: {names:?}");
    let forbidden = [
        "tokio",
        "mio",
        "socket2",
        "hyper",
        "tonic",
        "prost",
        "wasmtime",
        "sled",
        "fjall",
        "libc",
        "rustix",
        "getrandom",
        "tempfile",
    ];
    let found: Vec<_> = names.iter().filter(|name| forbidden.contains(name)).collect();
    assert!(found.is_empty(), "stator-core depends on {found:?}");
}

#[test]
fn the_core_has_no_clock_no_randomness_and_no_unordered_map() {
    let words = [
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::net",
        "std::thread",
        "HashMap",
        "HashSet",
        "rand::rng",
        "OsRng",
    ];
    assert_eq!(mentions("host/core/src", &words), Vec::<String>::new());
}

/// The core's modules from the bottom up. Those of one step may know one another.
const CORE: [&[&str]; 14] = [
    &["id", "codec"],
    &["keys", "position", "quorum", "agreement", "divergence", "failure", "admission"],
    &["founding", "holder"],
    &["causality", "version", "ancestor", "lent"],
    &["expiry", "held_by_all", "homecoming"],
    &["ring", "catalogue"],
    &["tree", "usage", "request_notes", "reconcile", "region"],
    &["fold"],
    &["record", "write", "quota", "collect"],
    &["request", "listing"],
    &["message"],
    &["wire", "hedge"],
    &["event"],
    &["node"],
];

#[test]
fn no_module_of_the_core_knows_what_stands_above_it() {
    let step_of = |module: &str| CORE.iter().position(|step| step.contains(&module));
    let folder = root().join("host/core/src");
    let mut found = Vec::new();
    for (path, text) in sources(&folder) {
        let inside = path.strip_prefix(&folder).expect("a path inside");
        let first = inside.iter().next().and_then(|part| part.to_str()).expect("a name");
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let step = step_of(module).unwrap_or_else(|| panic!("where does {module} stand?"));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let names = line.split("crate::").skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                &rest[..end.unwrap_or(rest.len())]
            });
            let above = |name: &&str| step_of(name).is_none_or(|other| other > step);
            found.extend(names.filter(above).map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn adapters_do_not_know_one_another_nor_what_is_above_them() {
    let layers = ["storage", "transport", "merge"];
    for adapter in layers {
        let above =
            ["driver", "node", "api", "console", "gateway", "server", "cli", "demo", "torture"];
        let others = layers.iter().filter(|other| **other != adapter).chain(&above);
        let words: Vec<String> = others.map(|other| format!("crate::{other}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(mentions(&format!("host/src/{adapter}"), &words), Vec::<String>::new());
    }
}

#[test]
fn imports_point_one_way() {
    let ladder = [
        ("driver", &["node", "api", "console", "server", "cli", "demo"][..]),
        ("node", &["api", "console", "server", "cli", "demo"][..]),
        ("api", &["console", "gateway", "server", "cli", "demo", "torture"][..]),
        ("console", &["gateway", "server", "cli", "demo", "torture"][..]),
        ("gateway", &["server", "cli", "demo", "torture"][..]),
    ];
    for (layer, above) in ladder {
        let words: Vec<String> = above.iter().map(|other| format!("crate::{other}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(mentions(&format!("host/src/{layer}"), &words), Vec::<String>::new());
    }
}

#[test]
fn generated_messages_stay_where_they_are_spoken() {
    for layer in ["driver", "node", "storage", "transport", "merge", "config"] {
        let words = ["stator_proto"];
        assert_eq!(mentions(&format!("host/src/{layer}"), &words), Vec::<String>::new());
    }
}
