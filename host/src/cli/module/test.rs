//! `stator module test`: the merge laws on a built component, offline, by the code with which a
//! node admits and runs it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use stator_core::catalogue::ModuleClass;
use stator_core::id::ModuleDigest;
use tempfile::TempDir;

use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::merge::laws::{Plan, Report, Verdict, read_samples};
use crate::merge::{MergeHost, MergeHostConfig, ModuleInfo};

const AFTER_HELP: &str = "\
Without options it makes the very check that a node makes at a push and before a keyspace may fold.
It merges the samples in any order and number, with deletes and other times; lets them grow by
merging and editing again and again; puts other words and numbers in their place, and other white
space, order and line ends; and changes single values, which is said where it matters.
The exit code is 1 if a law is violated, or if none could be checked.

Samples in a file are JSON lines, a divergence each; a version is null (a delete), a text, or an
object with one of utf8, base64 and json, and schema and written_at_ms if wanted:
  {\"siblings\": [{\"json\": {\"a\": 1}}, {\"utf8\": \"{}\"}, null], \"ancestor\": {\"json\": {}}}
All versions of a line must come from one history. With the ancestor, which all siblings were
made of, the checker knows what a client's later write looks like.

Examples:
  stator module test target/components/cart.wasm
  stator module test cart.wasm --cases 100000 --seed 7
  stator module test cart.wasm --samples conflicts.jsonl --sampled-only
  stator module test view.wasm --allow-unchecked
  stator module test cart.wasm --emit-test cart::CartMerge > tests/found.rs";

/// How long a check of the user's own may take.
const WALL: Duration = Duration::from_secs(1800);

/// Check the merge laws of a component, by the node's own code and without a node
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Test {
    /// The component
    file: PathBuf,
    /// The limits to check it with, as at the push
    #[arg(long, default_value_t)]
    class: ModuleClass,
    /// Samples instead of those of the module's sampler: JSON lines
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// How many cases to make from the samples, and about as many of each other kind
    #[arg(long, default_value_t = Plan::OF_NODE.cases, value_name = "N")]
    cases: u64,
    /// What all choices follow from: the same seed, the same report
    #[arg(long, default_value_t = Plan::OF_NODE.seed, value_name = "S")]
    seed: u64,
    /// Leave out layouts and changed values that perhaps no client writes
    #[arg(long)]
    sampled_only: bool,
    /// Do not fail if there are no samples, so that no law can be checked
    #[arg(long)]
    allow_unchecked: bool,
    /// Print the counterexamples as Rust tests of the crate, for the type of this path
    #[arg(
        long,
        value_name = "TYPE",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "crate_name::TypeName"
    )]
    emit_test: Option<String>,
}

impl Test {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let samples = self.samples.as_ref().map(|path| {
            let text = super::read(path)?;
            let text = String::from_utf8_lossy(&text);
            read_samples(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
        });
        let (bench, info) = Bench::admit(&self.file, self.class).await?;
        let (samples, component) = (samples.transpose()?, super::read(&self.file)?);
        let report =
            bench.host.check_laws_and_reach(&info.digest, &component, samples, self.plan());
        let report = report.await;
        let report = report.map_err(|error| Failure::refused(error.to_string()))?;
        if let Some(module) = &self.emit_test {
            for found in report.violations() {
                output::line(found.rust_test(module))?;
            }
        } else {
            match output {
                Output::Json => output::json(&json(&info.digest, &report))?,
                Output::Table => print(&info.digest, &report)?,
            }
        }
        let violated: Vec<_> = report.violations().map(|found| found.law.name()).collect();
        match violated.len() {
            0 if report.samples == 0 && !self.allow_unchecked => Err(Failure::refused(
                "no law was checked, for want of samples: give the module a sampler, or give a \
                 file with --samples; --allow-unchecked accepts it as it is",
            )),
            0 => Ok(()),
            n => Err(Failure::refused(format!(
                "{n} {} violated: {}",
                if n == 1 { "law is" } else { "laws are" },
                violated.join(", ")
            ))),
        }
    }

    fn plan(&self) -> Plan {
        let mutate = !self.sampled_only;
        let own = Plan { seed: self.seed, mutate, ..Plan::OF_NODE };
        if self.cases == own.cases {
            return own;
        }
        Plan { mutate, wall: Some(WALL), ..Plan::new(self.cases, self.seed) }
    }
}

/// A merge host for one module, with a cache that goes with it.
pub(in crate::cli) struct Bench {
    pub(in crate::cli) host: MergeHost,
    _cache: TempDir,
}

impl Bench {
    /// One without modules.
    pub(super) fn new() -> Result<Self, Failure> {
        let cache = TempDir::with_prefix("stator-module-")?;
        let host = MergeHostConfig::new(cache.path())
            .map_err(|error| error.to_string())
            .and_then(|config| MergeHost::new(config).map_err(|error| error.to_string()))
            .map_err(Failure::refused)?;
        Ok(Bench { host, _cache: cache })
    }

    /// One with the component in a file, taken as a node would.
    pub(in crate::cli) async fn admit(
        file: &Path,
        class: ModuleClass,
    ) -> Result<(Self, ModuleInfo), Failure> {
        let bench = Bench::new()?;
        let info = bench.take((&file.display().to_string(), class), super::read(file)?).await?;
        Ok((bench, info))
    }

    /// Takes a component as a node would.
    pub(super) async fn take(
        &self,
        (name, class): (&str, ModuleClass),
        component: Bytes,
    ) -> Result<ModuleInfo, Failure> {
        let refused = |why| Failure::refused(format!("{name} would be refused by a node: {why}"));
        self.host.admit_as(class, component).await.map_err(refused)
    }
}

fn print(module: &ModuleDigest, report: &Report) -> Result<(), Failure> {
    let rows = report.verdicts().map(|(law, verdict)| {
        let detail = match verdict {
            Verdict::Holds { cases: 1 } => "on 1 case".to_owned(),
            Verdict::Holds { cases } => format!("on {cases} cases"),
            Verdict::Violated(_) => law.statement().to_owned(),
            Verdict::NotCheckable { why } => why.clone(),
        };
        [law.name().to_owned(), verdict.word().to_owned(), detail]
    });
    output::line(output::table(["law", "verdict", ""], rows.collect()))?;
    for found in report.violations() {
        output::line(format!("\n{}", found.to_string().trim_end()))?;
    }
    output::line(format!(
        "\n{} samples, {} merges, {} fuel, seed {}",
        report.samples, report.merges, report.fuel, report.seed
    ))?;
    output::line(report.variety.to_string())?;
    if let Some(reach) = report.reach.as_ref().filter(|reach| reach.merges > 0) {
        output::line(reach.to_string())?;
    }
    if let Some(stopped) = report.stopped {
        output::line(format!("the check ended early: {stopped}"))?;
    }
    for remark in &report.remarks {
        output::line(format!("note: {remark}"))?;
    }
    match report.why_no_fold(module) {
        None => output::line("the module may fold"),
        Some(why) => output::line(why.to_string()),
    }
}

fn json(module: &ModuleDigest, report: &Report) -> Value {
    let laws: Vec<_> = report
        .verdicts()
        .map(|(law, verdict)| {
            let mut entry = json!({ "law": law.name(), "verdict": verdict.word() });
            match verdict {
                Verdict::Holds { cases } => entry["cases"] = json!(cases),
                Verdict::Violated(found) => entry["counterexample"] = found.json(),
                Verdict::NotCheckable { why } => entry["why"] = json!(why),
            }
            entry
        })
        .collect();
    let why_no_fold = report.why_no_fold(module);
    json!({
        "digest": module.to_string(),
        "laws": laws,
        "may_fold": why_no_fold.is_none(),
        "why_no_fold": why_no_fold.map(|why| why.to_string()),
        "seed": report.seed,
        "samples": report.samples,
        "merges": report.merges,
        "fuel": report.fuel,
        "stopped": report.stopped,
        "variety": report.variety.json(),
        "reach": report.reach.as_ref().map(|reach| json!({
            "blocks": reach.blocks,
            "reached": reach.reached(),
            "merges": reach.merges,
            "last_new": reach.last_new,
        })),
        "remarks": report.remarks,
    })
}
