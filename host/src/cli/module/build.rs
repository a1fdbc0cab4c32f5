//! `stator module build`: from a crate to a component, in one step.
//!
//! Cargo compiles for `wasm32-unknown-unknown`, with a profile that is given on its command line,
//! so that it is the right one whatever the crate says: no unwinding, small, fast. Then the core
//! module is encoded like by `stator module encode`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use super::{encode_file, print_component};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};

const TARGET: &str = "wasm32-unknown-unknown";

/// The profile, the same as in the workspace of Stator and in the template of `module new`.
const PROFILE: [&str; 7] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=3",
    "profile.guest.lto=true",
    "profile.guest.codegen-units=1",
    "profile.guest.panic=\"abort\"",
    "profile.guest.strip=true",
    "profile.guest.debug=false",
];

const EXAMPLES: &str = "\
Examples:
  stator module build
  stator module build example-merges/cart --out cart.wasm

CARGO_NET_OFFLINE=true keeps cargo from the network.";

/// Build a crate and make a component of it, in one step
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Build {
    /// The crate's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where to write the component [default: components/NAME.wasm in cargo's target folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Build {
    pub(in crate::cli) fn run(self, output: Output) -> Result<(), Failure> {
        if !self.folder.join("Cargo.toml").is_file() {
            let message = format!("{} has no Cargo.toml", self.folder.display());
            return Err(Failure::usage(message)
                .hint("give the folder of a crate; `stator module new NAME` makes one"));
        }
        ensure_target(&self.folder)?;
        let built = cargo(&self.folder)?;
        let out = match self.out {
            Some(out) => out,
            None => shown(built.default_out()),
        };
        let component = encode_file(&built.core, &out)?;
        print_component(&out, &component, output)?;
        output::say(format!("next: stator module test {}", out.display()));
        Ok(())
    }
}

/// What cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    package: String,
    core: PathBuf,
}

impl Built {
    /// `TARGET_FOLDER/components/NAME.wasm`; the core module is in
    /// `TARGET_FOLDER/wasm32-unknown-unknown/guest`.
    fn default_out(&self) -> PathBuf {
        let target_folder = self.core.ancestors().nth(3).unwrap_or(Path::new("."));
        target_folder.join("components").join(&self.package).with_extension("wasm")
    }
}

/// A path as seen from the current folder, if it is inside.
fn shown(path: PathBuf) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map(Path::to_path_buf).unwrap_or(path)
}

/// Adds the target by rustup if the compiler that `folder` uses lacks it.
fn ensure_target(folder: &Path) -> Result<(), Failure> {
    if target_is_installed(folder)? {
        return Ok(());
    }
    output::say(format!("the target {TARGET} is missing: rustup target add {TARGET}"));
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::refused(format!("rustup could not add {TARGET}: {status}"))),
        Err(_) => Err(Failure::refused(format!(
            "the compiler has no target {TARGET}, and there is no rustup to add it; nothing was \
             built"
        ))
        .hint("install Rust from https://rustup.rs, or the target as your distribution has it")),
    }
}

fn target_is_installed(folder: &Path) -> Result<bool, Failure> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(folder);
    let printed = rustc.output().map_err(|error| not_there("rustc", &error))?;
    let libraries = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
    Ok(printed.status.success() && Path::new(&libraries).is_dir())
}

fn not_there(program: &str, error: &io::Error) -> Failure {
    Failure::refused(format!("{program} does not start: {error}; nothing was built"))
        .hint("a merge module in Rust is built by cargo: install it from https://rustup.rs")
}

fn cargo(folder: &Path) -> Result<Built, Failure> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--lib", "--profile", "guest", "--target", TARGET]);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config", *setting]));
    // Errors and progress of the compiler are for the author; only the messages are for us.
    cargo.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let built = cargo.output().map_err(|error| not_there("cargo", &error))?;
    if !built.status.success() {
        return Err(Failure::refused("cargo could not build the crate; its errors are above"));
    }
    core_module(&built.stdout, folder)
}

/// The core module among cargo's messages: of the one package that was asked for, which comes
/// last.
fn core_module(messages: &[u8], folder: &Path) -> Result<Built, Failure> {
    let messages = messages.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages.filter_map(|message| built(&message)).next_back().ok_or_else(|| {
        let message = format!("{} was built, but makes no module", folder.display());
        Failure::refused(message)
            .hint("Cargo.toml needs: [lib] crate-type = [\"cdylib\", \"rlib\"]")
    })
}

fn built(message: &Value) -> Option<Built> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let kinds = message["target"]["kind"].as_array()?;
    kinds.iter().find(|kind| **kind == "cdylib")?;
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    let core = files.map(Path::new).find(|file| file.extension() == Some(OsStr::new("wasm")))?;
    let package = package_name(message["package_id"].as_str()?)?.to_owned();
    Some(Built { package, core: core.to_owned() })
}

/// The name out of `path+file:///folder/NAME#0.1.0` or `path+file:///folder#NAME@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (location, fragment) = id.rsplit_once('#')?;
    match fragment.rsplit_once('@') {
        Some((name, _)) => Some(name),
        None => location.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(id: &str, kind: &str) -> Value {
        json!({
            "reason": "compiler-artifact",
            "package_id": id,
            "target": { "kind": [kind, "rlib"] },
            "filenames": [
                "/t/wasm32-unknown-unknown/guest/or_set.wasm",
                "/t/wasm32-unknown-unknown/guest/libor_set.rlib",
            ],
        })
    }

    #[test]
    fn the_core_module_is_found_among_the_messages() {
        let messages = [
            json!({ "reason": "build-script-executed" }),
            artifact("path+file:///home/me/or-set#0.1.0", "cdylib"),
            json!({ "reason": "build-finished" }),
        ]
        .map(|message| message.to_string());
        let built = core_module(messages.join("\n").as_bytes(), Path::new(".")).expect("a module");
        assert_eq!(built.default_out(), Path::new("/t/components/or-set.wasm"));
    }

    #[test]
    fn a_crate_in_a_folder_of_another_name_keeps_its_own() {
        let message = artifact("path+file:///home/me/folder#or-set@0.1.0", "cdylib");
        assert_eq!(built(&message).expect("a module").package, "or-set");
    }

    #[test]
    fn a_library_that_is_no_cdylib_is_no_module() {
        let message = artifact("path+file:///home/me/or-set#0.1.0", "lib").to_string();
        assert!(core_module(message.as_bytes(), Path::new(".")).is_err());
    }
}
