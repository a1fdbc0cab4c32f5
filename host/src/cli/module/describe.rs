//! `stator module describe`: what a component is, as a node would find it.

use std::path::Path;

use clap::Args;
use serde_json::json;
use stator_core::catalogue::ModuleClass;
use stator_proto::v1;
use stator_proto::v1::law_verdict::Answer;

use super::test::Bench;
use super::{class_of, fold_word, pulled, resolve, rules, signers};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;
use crate::merge::{rules_of, surface};

/// Show what a component or a pushed module is: its options, its size, what it costs, its laws
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stator module describe target/components/cart.wasm\n  stator module describe cart\n\nA pushed module is fetched and looked at here."
)]
pub(in crate::cli) struct Describe {
    /// The component's file; or a module's digest, the beginning of it, or its name
    module: String,
    /// The limits to load a file with, as at the push
    #[arg(long, default_value_t)]
    class: ModuleClass,
}

/// What the cluster says of a pushed module, in rows.
fn pushed_rows(module: &v1::Module) -> Vec<[String; 2]> {
    let laws = module.laws.iter().map(|law| match law.answer() {
        Answer::Holds => format!("{} ({} cases)", law.law, law.cases),
        Answer::Violated => format!("{} VIOLATED", law.law),
        Answer::NotCheckable | Answer::Unspecified => format!("{} not checkable", law.law),
    });
    let laws: Vec<_> = laws.collect();
    let fold = match fold_word(module) {
        "no" => module.why_no_fold.as_str(),
        "may" => "a keyspace may fold by it",
        _ => "its laws were not checked at the push",
    };
    let rows = [
        ("name", module.name.clone()),
        ("pushed", output::utc(module.pushed_at_ms)),
        ("keyspaces", module.keyspaces.join(", ")),
        ("laws", laws.join(", ")),
        ("fold", fold.to_owned()),
        ("paused in", module.paused_in.join(", ")),
        ("signed by", signers(module).join("\n")),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    rows.map(|(name, value)| [name.to_owned(), value]).collect()
}

impl Describe {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (file, output) = (Path::new(&self.module), session.output);
        let (component, class, pushed) = if file.is_file() {
            (super::read(file)?, self.class, None)
        } else {
            let admin = session.admin().await?;
            let digest = resolve(&admin, &self.module).await?;
            let request = v1::GetModuleRequest { digest: digest.clone(), wait_ready_ms: 0 };
            let module = admin.get_module(request).await?;
            (pulled(session, &digest).await?, class_of(&module), Some(module))
        };
        let bench = Bench::new()?;
        let info = bench.take((&self.module, class), component.clone()).await?;
        let limits = bench.host.limits_of(info.class);
        let surface =
            surface(&component).map_err(|refusal| Failure::refused(refusal.to_string()))?;
        let rules = rules_of(&component).as_ref().map(rules::words);
        let sample = bench.host.sample_merge(&info.digest).await;
        let sample = sample.map_err(|failure| {
            Failure::refused(format!("a sample of its own does not merge: {failure}"))
        })?;
        let document = json!({
            "digest": info.digest.to_string(),
            "size_bytes": info.component_bytes,
            "code_bytes": info.code_bytes,
            "class": limits.class.to_string(),
            "world": surface.world,
            "imports": surface.imports,
            "options": info.options,
            "schema": info.schema,
            "fuel_of_a_tombstone": info.probe_fuel,
            "fuel_of_a_sample": sample.map(|(_, fuel)| fuel),
            "siblings_of_the_sample": sample.map(|(siblings, _)| siblings),
            "fuel_max": limits.fuel,
            "pushed": pushed.as_ref().map(super::json),
            "rules": rules,
        });
        if output == Output::Json {
            return output::json(&document);
        }
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let options: Vec<_> = info.options.iter().map(|name| (*name).to_owned()).collect();
        let mut rows = pushed.as_ref().map(pushed_rows).unwrap_or_default();
        rows.extend([
            ["digest".to_owned(), info.digest.to_string()],
            ["size".to_owned(), format!("{} bytes", info.component_bytes)],
            ["machine code".to_owned(), format!("{} bytes", info.code_bytes)],
            ["limits".to_owned(), format!("class {}", limits.class)],
            ["world".to_owned(), surface.world.clone()],
            ["imports".to_owned(), list(&surface.imports)],
            ["options".to_owned(), list(&options)],
        ]);
        if let Some(schema) = info.schema {
            rows.push(["schema".to_owned(), format!("{schema}; older values are migrated")]);
        }
        if let Some(rules) = rules {
            rows.push(["rules".to_owned(), rules.join("\n")]);
        }
        let of = |fuel: u64| format!("{fuel} of {} fuel", limits.fuel);
        rows.push(["a tombstone costs".to_owned(), of(info.probe_fuel)]);
        if let Some((siblings, fuel)) = sample {
            let words = format!("{} for {siblings} siblings", of(fuel));
            rows.push(["a sample costs".to_owned(), words]);
        }
        output::line(output::table(["", ""], rows).trim_start())
    }
}
