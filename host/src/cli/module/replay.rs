//! `stator module replay`: a module on recorded conflicts, beside the one that merges.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;
use stator_proto::v1;

use super::test::Bench;
use super::{class_of, pulled, read, resolve};
use crate::cli::conflicts::recordings;
use crate::cli::failure::Failure;
use crate::cli::members::short;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;
use crate::merge::laws::{merge_test, read_samples};

/// How many differences a table shows.
const SHOWN_MAX: usize = 20;

const EXAMPLES: &str = "\
Examples:
  stator module replay carts cart-v2.wasm
  stator module replay carts cart-v2 --against 1f0c5d6f90ab
  stator module replay carts cart-v2.wasm --emit-tests cart::CartMerge > tests/recorded.rs

It merges here, not on a node: what the nodes have recorded is fetched, and both modules run on it in
the same sandbox. The candidate is a file, or a module of the cluster. The exit code is 1 if the
candidate fails where the other does not.";

/// Run a module on recorded conflicts, and compare it with the one that merges
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Replay {
    /// The keyspace whose conflicts were recorded
    keyspace: String,
    /// The candidate: a component's file, or a module's digest, the beginning of it, or its name
    candidate: String,
    /// Compare with this module [default: the one that the keyspace is pinned to]
    #[arg(long, value_name = "MODULE")]
    against: Option<String>,
    /// The limits of a candidate that is a file
    #[arg(long, default_value_t)]
    class: ModuleClass,
    /// Print Rust tests of the module's crate, for the type of this path: each recorded conflict, and
    /// what the module that it is compared with made of it
    #[arg(long, value_name = "TYPE")]
    emit_tests: Option<String>,
}

type Answer = Result<Arc<Resolution>, MergeFailure>;

/// What both made of one recorded conflict.
struct Compared {
    recording: v1::Recording,
    divergence: Divergence,
    candidate: Answer,
    active: Answer,
}

impl Replay {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let bench = Bench::new()?;
        let active = self.active(session).await?;
        take(&bench, session, &active).await?;
        let candidate = self.take_candidate(&bench, session).await?;
        let recorded = recordings(session, &self.keyspace).await?;
        let mut compared = Vec::new();
        for recording in recorded {
            let divergence = divergence(&recording)?;
            let [candidate, active] =
                [&candidate, &active].map(|m| bench.host.resolve(m, &divergence));
            let (candidate, active) = (candidate.await, active.await);
            compared.push(Compared { recording, divergence, candidate, active });
        }
        if let Some(module) = &self.emit_tests {
            return emit(&compared, module);
        }
        match session.output {
            Output::Json => output::json(&report([candidate, active], &compared))?,
            Output::Table => print([candidate, active], &compared)?,
        }
        match compared.iter().filter(|c| c.candidate.is_err() && c.active.is_ok()).count() {
            0 => Ok(()),
            n => Err(Failure::refused(format!(
                "the candidate fails at {n} that the other one merges"
            ))),
        }
    }

    async fn active(&self, session: &Session) -> Result<ModuleDigest, Failure> {
        let admin = session.admin().await?;
        let digest = match &self.against {
            Some(module) => resolve(&admin, module).await?,
            None => {
                let request = v1::GetKeyspaceRequest { name: self.keyspace.clone() };
                admin.get_keyspace(request).await?.reconcile.unwrap_or_default().module_digest
            }
        };
        digest.parse().map_err(|_| {
            Failure::usage(format!("keyspace {} merges by no module now", self.keyspace))
                .hint("say with --against which one to compare with")
        })
    }

    async fn take_candidate(
        &self,
        bench: &Bench,
        session: &Session,
    ) -> Result<ModuleDigest, Failure> {
        let file = Path::new(&self.candidate);
        if file.is_file() {
            let named = (self.candidate.as_str(), self.class);
            return Ok(bench.take(named, read(file)?).await?.digest);
        }
        let digest = resolve(&session.admin().await?, &self.candidate).await?;
        let digest = digest.parse().map_err(|_| Failure::refused("the node names a bad digest"))?;
        take(bench, session, &digest).await?;
        Ok(digest)
    }
}

/// Takes a module of the cluster, with the limits that it has there.
pub(super) async fn take(
    bench: &Bench,
    session: &Session,
    digest: &ModuleDigest,
) -> Result<(), Failure> {
    let digest = digest.to_string();
    let request = v1::GetModuleRequest { digest: digest.clone(), wait_ready_ms: 0 };
    let class = class_of(&session.admin().await?.get_module(request).await?);
    let component = pulled(session, &digest).await?;
    bench.take((&digest, class), component).await.map(drop)
}

/// The input of a recorded merge.
fn divergence(recording: &v1::Recording) -> Result<Divergence, Failure> {
    let unread = |why: String| Failure::refused(format!("a recording cannot be read: {why}"));
    let read = read_samples(&recording.sample).map_err(|error| unread(error.to_string()))?;
    let divergence = read.into_iter().next().ok_or_else(|| unread("it is empty".to_owned()))?;
    // The host remembers merges by it.
    let fingerprint = *blake3::hash(recording.sample.as_bytes()).as_bytes();
    Ok(Divergence { fingerprint, ..divergence })
}

fn words(answer: &Answer) -> String {
    match answer {
        Ok(made) => match &made.outcome {
            Outcome::Value(value) => parse::shown(value),
            Outcome::Delete => "deleted".to_owned(),
            Outcome::KeepSiblings => "siblings kept".to_owned(),
        },
        Err(failure) => format!("failed: {failure}"),
    }
}

impl Compared {
    fn is_same(&self) -> bool {
        match (&self.candidate, &self.active) {
            (Ok(candidate), Ok(active)) => candidate.outcome == active.outcome,
            (Err(_), Err(_)) => true,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
    }
}

/// Same, different, failed where the other did not, and the other way round; fuel of both.
fn sums(compared: &[Compared]) -> ([usize; 4], [u64; 2]) {
    let count = |of: fn(&Compared) -> bool| compared.iter().filter(|c| of(c)).count();
    let differs = |c: &Compared| c.candidate.is_ok() && c.active.is_ok() && !c.is_same();
    let counts = [
        count(Compared::is_same),
        count(differs),
        count(|c| c.candidate.is_err() && c.active.is_ok()),
        count(|c| c.candidate.is_ok() && c.active.is_err()),
    ];
    let both =
        compared.iter().filter_map(|c| Some([c.candidate.as_ref().ok()?, c.active.as_ref().ok()?]));
    let fuel = both.fold([0; 2], |[a, b], [candidate, active]| {
        [a + candidate.fuel_used, b + active.fuel_used]
    });
    (counts, fuel)
}

fn print(modules: [ModuleDigest; 2], compared: &[Compared]) -> Result<(), Failure> {
    let ([same, differ, failed, mended], [fuel, active_fuel]) = sums(compared);
    let [candidate, active] = modules.map(|module| module.to_string());
    output::line(format!(
        "{} recorded conflicts, {} beside {}: {same} the same, {differ} different, {failed} failed, \
         {mended} mended",
        compared.len(),
        short(&candidate),
        short(&active),
    ))?;
    if active_fuel > 0 {
        output::line(format!(
            "fuel: {:.2} times that of the other",
            fuel as f64 / active_fuel as f64
        ))?;
    }
    let differing: Vec<_> = compared.iter().filter(|c| !c.is_same()).collect();
    for one in differing.iter().take(SHOWN_MAX) {
        output::line(format!(
            "\n{}, {}",
            parse::shown(&one.divergence.key),
            output::utc(one.recording.at_ms)
        ))?;
        for sibling in &one.divergence.siblings {
            let value =
                sibling.value.as_ref().map_or("deleted".to_owned(), |value| parse::shown(value));
            output::line(format!("  sibling    {value}"))?;
        }
        output::line(format!(
            "  {} {}",
            short(&active).get(..10).unwrap_or_default(),
            words(&one.active)
        ))?;
        output::line(format!(
            "  {} {}",
            short(&candidate).get(..10).unwrap_or_default(),
            words(&one.candidate)
        ))?;
    }
    if differing.len() > SHOWN_MAX {
        output::say(format!("{} more: --output json has all", differing.len() - SHOWN_MAX));
    }
    Ok(())
}

fn report(modules: [ModuleDigest; 2], compared: &[Compared]) -> Value {
    let ([same, differ, failed, mended], [fuel, active_fuel]) = sums(compared);
    let [candidate, active] = modules.map(|module| module.to_string());
    let differing = compared.iter().filter(|c| !c.is_same()).map(|one| {
        json!({
            "id": one.recording.id,
            "at_ms": one.recording.at_ms,
            "sample": serde_json::from_str::<Value>(&one.recording.sample).unwrap_or_default(),
            "candidate": words(&one.candidate),
            "active": words(&one.active),
        })
    });
    json!({
        "candidate": candidate,
        "active": active,
        "recorded": compared.len(),
        "same": same,
        "different": differ,
        "failed": failed,
        "mended": mended,
        "candidate_fuel": fuel,
        "active_fuel": active_fuel,
        "differing": differing.collect::<Vec<_>>(),
    })
}

/// Prints a test of each conflict that the other module merges.
fn emit(compared: &[Compared], module: &str) -> Result<(), Failure> {
    let merged = compared.iter().filter_map(|one| Some((one, one.active.as_ref().ok()?)));
    for (number, (one, active)) in (1..).zip(merged) {
        let name = format!("recorded_{number}_{}", one.recording.id);
        output::line(merge_test((&name, module), &one.divergence, &active.outcome))?;
    }
    Ok(())
}
