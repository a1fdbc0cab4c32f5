//! Merges without code: `stator module rules`, and what `stator keyspace` does with rules.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use stator_core::catalogue::ModuleClass;
use stator_proto::v1;

use super::{patient, print_component, push_words, until_ready, upload, verdicts};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;
use crate::merge::{RULES_COMPONENT_BYTES, RULES_NAME, Rules, component_of, rules_of};

const EXAMPLES: &str = "\
Examples:
  stator module rules --rule /items=union --rule '/items/*/qty=max' --out carts.wasm
  stator module rules --rule =three-way:last-write --rule /visits=sum --out pages.wasm
  stator module test carts.wasm

POINTER is a JSON pointer (RFC 6901); `*` stands for any member, the most specific one counts, and an
empty one is for all that has no rule. Objects are merged member by member. RULE is one of:
  union           arrays: each element once; what is below an object, too
  max, min        numbers or texts: the largest, the smallest
  sum             an object of numbers by writer: the largest of each; readers add them up
  last-write      what was written last, by the clocks of the nodes
  three-way:RULE  what was changed since the common ancestor (--ancestor); RULE if several did
Siblings that differ where there is no rule stay siblings, and their reader is told where.";

/// Write the component that merges JSON documents by rules, without code
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct WriteRules {
    /// How to merge what is at a path; may be given several times
    #[arg(long = "rule", value_name = "POINTER=RULE", required = true)]
    rules: Vec<String>,
    /// Where to write the component
    #[arg(long, value_name = "FILE", default_value = "json-rules.wasm")]
    out: PathBuf,
}

impl WriteRules {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let component = component_of(&read(&self.rules)?);
        fs::write(&self.out, &component).map_err(|error| {
            Failure::refused(format!("cannot write {}: {error}", self.out.display()))
        })?;
        print_component(&self.out, &component, output)?;
        output::say(format!("next: stator module test {}", self.out.display()));
        Ok(())
    }
}

/// Reads what `--rule` was given, before anything is sent.
pub(in crate::cli) fn read(rules: &[String]) -> Result<Rules, Failure> {
    Rules::read(rules).map_err(|why| {
        Failure::usage(format!("--rule {why}"))
            .hint("nothing was sent; `stator module rules --help` shows how rules are written")
    })
}

/// Pushes the component that merges by `rules`, and waits until the nodes are ready to call it; its
/// digest. What happens is told to people only: the result is that of whoever pushes it.
pub(in crate::cli) async fn push(session: &Session, rules: &Rules) -> Result<String, Failure> {
    let class = ModuleClass::Small;
    let session = &patient(session, class);
    let component = component_of(rules).into();
    let header = v1::ModuleHeader {
        name: RULES_NAME.to_owned(),
        class: v1::ModuleClass::Small.into(),
        ..Default::default()
    };
    let module = upload(session, header, component).await?;
    output::say(push_words(&module, "pushed"));
    // Why `last-write` breaks laws stands in the documentation; it is no fault of whoever wrote rules.
    verdicts::say_names(&module.laws);
    until_ready(session, &module.digest).await?;
    Ok(module.digest)
}

/// The rules by which a keyspace merges, if its module is one of rules; asks for the bytes of none
/// that cannot be one. To show them is a courtesy: what fails is passed over.
pub(in crate::cli) async fn of_keyspace(
    session: &Session,
    keyspace: &v1::Keyspace,
) -> Option<Rules> {
    let digest = &keyspace.reconcile.as_ref()?.module_digest;
    if digest.is_empty() {
        return None;
    }
    let admin = session.admin().await.ok()?;
    let request = v1::GetModuleRequest { digest: digest.clone(), wait_ready_ms: 0 };
    let size = admin.get_module(request).await.ok()?.size_bytes;
    if size != RULES_COMPONENT_BYTES as u64 {
        return None;
    }
    rules_of(&admin.pull_module(digest.clone()).await.ok()?)
}

/// The rules as they are listed for people and programs.
pub(in crate::cli) fn words(rules: &Rules) -> Vec<String> {
    rules.listed().iter().map(ToString::to_string).collect()
}
