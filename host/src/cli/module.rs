//! `stator module`: merge modules, from a compiler's output to the cluster.
//!
//! `new` begins one in any of several languages, `build` makes a component of a crate. `encode` is the
//! second half of that, for other compilers: it makes the component that a cluster takes. `rules`
//! writes one that needs no code, `test` checks the merge laws of a component, `describe` shows what
//! it is, `keygen` and `sign` vouch for it. None of them needs a node. What a component may import and export is checked by the node at
//! `push`.

mod bindings;
mod build;
mod describe;
mod new;
mod pause;
mod remerge;
mod replay;
pub(super) mod rules;
pub(super) mod sign;
mod templates;
mod test;
mod trial;
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stator_client::Admin;
use stator_core::catalogue::ModuleClass;
use stator_core::id::ModuleDigest;
use stator_proto::v1;

pub(super) use test::Bench;

use super::failure::{Failure, Kind};
use super::members::{self, short};
use super::output::{self, Output};
use super::session::Session;
use crate::merge::{Encoded, Limits, encode_component};

/// What an upload may take beside the compilation at its end.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);
/// How long a node is asked to wait at a time for a module to be compiled.
const READY_POLL: Duration = Duration::from_secs(1);

/// Begin, build, test, push and list merge modules
#[derive(Debug, Subcommand)]
pub(super) enum Module {
    /// Begin a merge module: a crate with a small merge, tests, and the commands to go on
    New(new::New),
    /// Build a crate and make a component of it, in one step
    Build(build::Build),
    /// Print the WIT that every module is written against, in any language
    Wit,
    /// Write the bindings of a module in C, for C and C++
    Bindings(bindings::Bindings),
    /// Make a component of what a compiler built: a core module, or a component that wants WASI
    Encode(Encode),
    /// Check the merge laws of a component, by the node's own code and without a node
    Test(test::Test),
    /// Write the component that merges JSON documents by rules, without code
    Rules(rules::WriteRules),
    /// Show what a component or a pushed module is: its options, its size, what it costs, its laws
    Describe(describe::Describe),
    /// Make a pair of keys to sign modules with
    Keygen(sign::Keygen),
    /// Sign a module; the signature goes with its push
    Sign(sign::Sign),
    /// Upload a component to the cluster
    Push(Push),
    /// List the modules of the cluster, the newest first
    List,
    /// Download a component from the cluster
    Pull(Pull),
    /// Delete a module that no keyspace needs, on every node
    Delete(Delete),
    /// Run a module beside the one that merges, and compare what both make
    Shadow(trial::Shadow),
    /// Let a module merge a share of the keys, and roll it back by itself if it does worse
    Canary(trial::Canary),
    /// Show what the nodes have seen of a module on trial
    Trial {
        /// The keyspace
        keyspace: String,
    },
    /// End the trial of a module
    Untry(trial::Untry),
    /// Call no module in a keyspace for now
    Pause(pause::Pause),
    /// Let a keyspace merge again
    Resume(pause::Resume),
    /// Print the last lines that a module has logged
    Logs(pause::Logs),
    /// Run a module on recorded conflicts, and compare it with the one that merges
    Replay(replay::Replay),
    /// Merge anew what a bad module has folded
    Remerge(remerge::Remerge),
}

/// Download a component from the cluster
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator module pull cart --out cart.wasm")]
pub(super) struct Pull {
    /// The module: its digest, the beginning of it, or its name
    module: String,
    /// Where to write the component
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Delete a module that no keyspace needs, on every node
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stator module delete 1f0c5d6f90ab\n\nIt is refused as long as a keyspace is pinned to the module or tries it. A keyspace can not be\nrolled back to it after that, unless the same bytes are pushed again."
)]
pub(super) struct Delete {
    /// The module: its digest, the beginning of it, or its name
    module: String,
    /// Check only, delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// Make a component of what a compiler built: a core module, or a component that wants WASI
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stator module encode target/wasm32-unknown-unknown/guest/cart.wasm --out cart.wasm
  stator module encode wasi.wasm --out notes.wasm

A core module without WIT types gets those of the functions that it exports: by their full names, or
as resolve, samples, preserves, validate, schema and migrate. What stands in for WASI writes what is
printed to the module's log, has clocks at 0, random bytes of zeros and no files.")]
pub(super) struct Encode {
    /// The core module or component
    input: PathBuf,
    /// Where to write the component
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Upload a component to the cluster
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stator module push target/components/cart.wasm\n  stator module push notes-py.wasm --class large\n  stator module push cart.wasm --sign release.key\n\nSignatures are added to those that the module has: push it again to sign it once more."
)]
pub(super) struct Push {
    /// The component
    file: PathBuf,
    /// A name for people [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// Check only, keep nothing
    #[arg(long)]
    dry_run: bool,
    /// What it may use: small for Rust and C, large for modules with an interpreter inside
    #[arg(long, default_value_t)]
    class: ModuleClass,
    #[command(flatten)]
    signing: sign::Signing,
}

impl Module {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Module::New(command) => command.run(session.output),
            Module::Build(command) => command.run(session.output),
            Module::Wit => new::print_wit(),
            Module::Bindings(command) => command.run(session.output),
            Module::Encode(command) => command.run(session.output),
            Module::Test(command) => command.run(session.output).await,
            Module::Rules(command) => command.run(session.output),
            Module::Describe(command) => command.run(session).await,
            Module::Keygen(command) => command.run(session.output),
            Module::Sign(command) => command.run(session.output),
            Module::Push(command) => command.run(session).await,
            Module::List => list(session).await,
            Module::Pull(command) => command.run(session).await,
            Module::Delete(command) => command.run(session).await,
            Module::Shadow(command) => command.run(session).await,
            Module::Canary(command) => command.run(session).await,
            Module::Trial { keyspace } => trial::report(session, &keyspace).await,
            Module::Untry(command) => command.run(session).await,
            Module::Pause(command) => command.run(session).await,
            Module::Resume(command) => command.run(session).await,
            Module::Logs(command) => command.run(session).await,
            Module::Replay(command) => command.run(session).await,
            Module::Remerge(command) => command.run(session).await,
        }
    }
}

impl Encode {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let component = encode_file(&self.input, &self.out)?;
        print_component(&self.out, &component, output)
    }
}

/// Makes a component of what is in file `core` and writes it to file `out`.
fn encode_file(core: &Path, out: &Path) -> Result<Vec<u8>, Failure> {
    let built = fs::metadata(core).and_then(|metadata| metadata.modified()).ok();
    let Encoded { component, remarks } =
        encode_component(&read(core)?, built).map_err(|error| {
            Failure::refused(format!("{} makes no merge module: {error}", core.display()))
        })?;
    remarks.into_iter().for_each(|remark| output::say(format!("note: {remark}")));
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, &component)
        .map_err(|error| Failure::refused(format!("cannot write {}: {error}", out.display())))?;
    Ok(component)
}

fn print_component(path: &Path, component: &[u8], output: Output) -> Result<(), Failure> {
    let digest = ModuleDigest::of(component).to_string();
    match output {
        Output::Json => {
            output::json(&json!({ "path": path, "digest": digest, "size_bytes": component.len() }))
        }
        Output::Table => {
            output::line(format!("{}: {} bytes, digest {digest}", path.display(), component.len()))
        }
    }
}

impl Push {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let component = read(&self.file)?;
        let name = match self.name {
            Some(name) => name,
            None => self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let session = &patient(session, self.class);
        let header = v1::ModuleHeader {
            name,
            class: class_to_wire(self.class).into(),
            validate_only: self.dry_run,
            signatures: self.signing.of(&ModuleDigest::of(&component))?,
            ..Default::default()
        };
        let module = upload(session, header, component).await?;
        let done = if self.dry_run { "would be taken, nothing was kept" } else { "pushed" };
        match session.output {
            Output::Json => output::json(&json(&module))?,
            Output::Table => {
                output::line(push_words(&module, done))?;
                verdicts::say(&module.laws);
            }
        }
        if self.dry_run { Ok(()) } else { until_ready(session, &module.digest).await }
    }
}

/// A session that waits for what an upload and the compilation at its end may take.
fn patient(session: &Session, class: ModuleClass) -> Session {
    session.patient(Limits::of(class).compile_wall + UPLOAD_PATIENCE)
}

/// Uploads a component to the node at --admin, which checks it.
async fn upload(
    session: &Session,
    header: v1::ModuleHeader,
    component: Bytes,
) -> Result<v1::Module, Failure> {
    let admin = session.admin().await?;
    let digest = ModuleDigest::of(&component).to_string();
    Ok(admin.push_module_with(v1::ModuleHeader { digest, ..header }, component).await?)
}

fn push_words(module: &v1::Module, done: &str) -> String {
    format!(
        "{} {done}: {} bytes, class {}, digest {}",
        module.name,
        module.size_bytes,
        class_name(module),
        module.digest
    )
}

/// Waits until every node that answers has compiled the module.
async fn until_ready(session: &Session, digest: &str) -> Result<(), Failure> {
    let is_ready = async |admin: &Admin| {
        let request = v1::GetModuleRequest {
            digest: digest.to_owned(),
            wait_ready_ms: READY_POLL.as_millis() as u32,
        };
        Ok(admin.get_module(request).await?.ready)
    };
    members::until_all(session, "are ready to call it", is_ready).await.map(drop)
}

impl Pull {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let digest = resolve(&session.admin().await?, &self.module).await?;
        let component = pulled(session, &digest).await?;
        fs::write(&self.out, &component).map_err(|error| {
            Failure::refused(format!("cannot write {}: {error}", self.out.display()))
        })?;
        print_component(&self.out, &component, session.output)
    }
}

/// The bytes of the module with this digest.
async fn pulled(session: &Session, digest: &str) -> Result<Bytes, Failure> {
    let admin = session.patient(UPLOAD_PATIENCE).admin().await?;
    let component = admin.pull_module(digest).await?;
    let found = ModuleDigest::of(&component).to_string();
    if found != digest {
        let message = format!("what came has the digest {found}, not {digest}");
        return Err(Failure::refused(message).hint("nothing was written; try again"));
    }
    Ok(component)
}

impl Delete {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let admin = session.admin().await?;
        let digest = resolve(&admin, &self.module).await?;
        let request = v1::DeleteModuleRequest { digest, validate_only: self.dry_run };
        let module = admin.delete_module(request).await?;
        let done = if self.dry_run { "would be deleted, nothing was changed" } else { "deleted" };
        match session.output {
            Output::Json => output::json(&json(&module)),
            Output::Table => output::line(format!("{} {done}: {}", module.name, module.digest)),
        }
    }
}

fn class_to_wire(class: ModuleClass) -> v1::ModuleClass {
    match class {
        ModuleClass::Small => v1::ModuleClass::Small,
        ModuleClass::Large => v1::ModuleClass::Large,
    }
}

fn class_name(module: &v1::Module) -> &'static str {
    match module.class() {
        v1::ModuleClass::Unspecified | v1::ModuleClass::Small => ModuleClass::Small.name(),
        v1::ModuleClass::Large => ModuleClass::Large.name(),
    }
}

pub(super) fn read(path: &Path) -> Result<Bytes, Failure> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes.into())
}

fn class_of(module: &v1::Module) -> ModuleClass {
    match module.class() {
        v1::ModuleClass::Large => ModuleClass::Large,
        v1::ModuleClass::Small | v1::ModuleClass::Unspecified => ModuleClass::Small,
    }
}

/// Whether a keyspace may fold by it.
fn fold_word(module: &v1::Module) -> &'static str {
    match (module.laws.as_slice(), module.why_no_fold.as_str()) {
        ([], _) => "unknown",
        (_, "") => "may",
        _ => "no",
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let mut modules = session.admin().await?.modules().await?;
    modules.sort_by_key(|module| std::cmp::Reverse(module.pushed_at_ms));
    match session.output {
        Output::Json => {
            output::json(&json!({ "modules": modules.iter().map(json).collect::<Vec<_>>() }))
        }
        Output::Table if modules.is_empty() => {
            output::say("there is no module yet: upload one with `stator module push FILE`");
            Ok(())
        }
        Output::Table => {
            let rows = modules.iter().map(|module| {
                let keyspaces = module.keyspaces.join(" ");
                [
                    module.name.clone(),
                    short(&module.digest).to_owned(),
                    module.size_bytes.to_string(),
                    class_name(module).to_owned(),
                    fold_word(module).to_owned(),
                    output::utc(module.pushed_at_ms),
                    keyspaces,
                ]
            });
            output::line(output::table(
                ["name", "digest", "bytes", "class", "fold", "pushed", "keyspaces"],
                rows.collect(),
            ))
        }
    }
}

/// The digest of the module that `text` means: a digest, its beginning or a name.
pub(super) async fn resolve(admin: &Admin, text: &str) -> Result<String, Failure> {
    if let Ok(digest) = text.parse::<ModuleDigest>() {
        return Ok(digest.to_string());
    }
    let modules = admin.modules().await?;
    choose(&modules, text)
}

fn choose(modules: &[v1::Module], text: &str) -> Result<String, Failure> {
    let named = modules.iter().filter(|module| module.name == text);
    let mut found: Vec<_> = named.map(|module| module.digest.clone()).collect();
    if found.is_empty() && text.len() >= 8 {
        let begun = modules.iter().filter(|module| module.digest.starts_with(text));
        found.extend(begun.map(|module| module.digest.clone()));
    }
    match found.as_slice() {
        [digest] => Ok(digest.clone()),
        [] => Err(Failure::new(Kind::NotFound, format!("no module is called {text}")).hint(
            "`stator module list` shows those there are, `stator module push FILE` adds one",
        )),
        several => Err(Failure::usage(format!("{} modules are called {text}", several.len()))
            .hint(format!("give the digest: {}", several.join(", ")))),
    }
}

/// Who has signed it.
fn signers(module: &v1::Module) -> Vec<&str> {
    module.signatures.iter().map(|signature| signature.key.as_str()).collect()
}

fn json(module: &v1::Module) -> Value {
    json!({
        "digest": module.digest,
        "name": module.name,
        "size_bytes": module.size_bytes,
        "pushed_at_ms": module.pushed_at_ms,
        "class": class_name(module),
        "keyspaces": module.keyspaces,
        "laws": verdicts::json(&module.laws),
        "signed_by": signers(module),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_chosen_by_name_or_beginning_of_its_digest() {
        let module = |name: &str, digest: &str| v1::Module {
            name: name.into(),
            digest: digest.into(),
            ..Default::default()
        };
        let modules = [module("a", "0123456789"), module("b", "01234567ff"), module("b", "aa")];
        assert_eq!(choose(&modules, "a").ok().as_deref(), Some("0123456789"));
        assert_eq!(choose(&modules, "01234567f").ok().as_deref(), Some("01234567ff"));
        assert_eq!(choose(&modules, "b").expect_err("two").kind, Kind::Usage);
        assert_eq!(choose(&modules, "01234567").expect_err("two").kind, Kind::Usage);
        assert_eq!(choose(&modules, "c").expect_err("none").kind, Kind::NotFound);
    }
}
