//! `stator module describe`: what a component is, as a node would find it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use stator_core::catalogue::ModuleClass;

use super::rules;
use super::test::Bench;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::merge::{rules_of, surface};

/// Show what a component is: its options, its size, what it costs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator module describe target/components/cart.wasm")]
pub(in crate::cli) struct Describe {
    /// The component
    file: PathBuf,
    /// The limits to load it with, as at the push
    #[arg(long, default_value_t)]
    class: ModuleClass,
}

impl Describe {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let component = super::read(&self.file)?;
        let (bench, info) = Bench::admit(&self.file, self.class).await?;
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
        let mut rows = vec![
            ["digest".to_owned(), info.digest.to_string()],
            ["size".to_owned(), format!("{} bytes", info.component_bytes)],
            ["machine code".to_owned(), format!("{} bytes", info.code_bytes)],
            ["limits".to_owned(), format!("class {}", limits.class)],
            ["world".to_owned(), surface.world.clone()],
            ["imports".to_owned(), list(&surface.imports)],
            ["options".to_owned(), list(&options)],
        ];
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
