//! Gathers what `stator module new` writes beside its template: guest-sdk and the WIT, as they
//! are in this tree, and the lock file that they are tested with. So the program alone is enough
//! to begin a module, and what it writes is never older or newer than itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The example whose dependencies are locked: what it uses, an author may want as well.
const LOCKED_FOR: &str = "cart";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let read = |path: &str| {
        println!("cargo::rerun-if-changed=../{path}");
        fs::read_to_string(root.join(path))
    };

    let manifest = standalone(&read("guest-sdk/Cargo.toml")?, &read("Cargo.toml")?);
    let mut files = vec![
        ("stator-guest/Cargo.toml".to_owned(), manifest),
        ("wit/merge.wit".to_owned(), read("wit/merge.wit")?),
    ];
    println!("cargo::rerun-if-changed=../guest-sdk/src");
    for path in sources(&root.join("guest-sdk/src"), Path::new("src"))? {
        let text = read(&format!("guest-sdk/{path}"))?;
        files.push((format!("stator-guest/{path}"), text));
    }
    files.sort();

    let mut code = String::from("pub(super) const SDK: &[(&str, &str)] = &[\n");
    for (path, text) in &files {
        writeln!(code, "    ({path:?}, {text:?}),").map_err(io::Error::other)?;
    }
    writeln!(code, "];\npub(super) const LOCK: &str = {:?};", locked(&read("Cargo.lock")?))
        .map_err(io::Error::other)?;
    fs::write(out.join("sdk.rs"), code)
}

/// The source files under `folder`, named as seen from the crate.
fn sources(folder: &Path, name: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = name.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(sources(&entry.path(), &name)?);
        } else {
            found.push(name.display().to_string());
        }
    }
    Ok(found)
}

/// The manifest without what it inherits from the workspace and without what only its own tests
/// need.
fn standalone(manifest: &str, workspace: &str) -> String {
    let mut standalone = String::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        }
        if matches!(section, "lints" | "dev-dependencies") {
            continue;
        }
        let inherited = line.strip_suffix(".workspace = true");
        let line = inherited.map_or(line, |name| {
            let table = if section == "package" { "package" } else { "dependencies" };
            value(workspace, &format!("[workspace.{table}]"), name)
        });
        standalone.push_str(line);
        standalone.push('\n');
    }
    standalone.push_str("# A copy that came with `stator module new`.\n");
    standalone
}

/// The line of `name` in a section of a manifest.
fn value<'a>(manifest: &'a str, section: &str, name: &str) -> &'a str {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    let found = lines.find(|line| line.split_once(" =").is_some_and(|(key, _)| key == name));
    found.unwrap_or_else(|| panic!("{name} is not in {section} of the workspace's Cargo.toml"))
}

/// The part of a lock file that belongs to what [`LOCKED_FOR`] depends on; cargo drops from it
/// what a module does not use.
fn locked(lock: &str) -> String {
    let mut parts = lock.split("[[package]]\n");
    let head = parts.next().unwrap_or_default();
    let packages: Vec<&str> = parts.collect();
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default().trim_matches(['=', ' ', '"']).to_owned()
    };
    let mut wanted = BTreeSet::from([LOCKED_FOR.to_owned()]);
    loop {
        let before = wanted.len();
        for package in &packages {
            let (name, version) = (field(package, "name"), field(package, "version"));
            if !wanted.contains(&name) && !wanted.contains(&format!("{name} {version}")) {
                continue;
            }
            let needs = package.lines().filter_map(|line| line.strip_prefix(" \""));
            wanted.extend(needs.map(|need| need.trim_end_matches(['"', ',']).to_owned()));
        }
        if wanted.len() == before {
            break;
        }
    }
    let kept = packages.iter().filter(|package| {
        let (name, version) = (field(package, "name"), field(package, "version"));
        let is_wanted = wanted.contains(&name) || wanted.contains(&format!("{name} {version}"));
        is_wanted && package.contains("\nsource = ")
    });
    kept.fold(head.to_owned(), |lock, package| format!("{lock}[[package]]\n{package}"))
}
