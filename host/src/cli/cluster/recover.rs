//! `stator cluster recover`: a page at a time from a node that is no member to one, until all that it
//! holds was looked at.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};
use stator_client::Admin;
use stator_proto::v1;
use tokio::time::{Instant, sleep};

use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// The longest list of objects in a JSON document.
const LISTED_MAX: usize = 10_000;
/// A page has many objects, and each is looked up at all its owners.
const PAGE_MIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
A node that was removed serves nothing, but its admin listener answers, and what it holds is there.
So it is with a copy of a data directory that is refused because another process is the node. This
command asks the members for each object of it and brings them those that they have certainly never
seen. Its own data stays as it is; to run the command again does no harm.

Examples, the admin listener of the removed node, or the copy, is 127.0.0.1:7302, a member's
127.0.0.1:7102:
  stator cluster recover 127.0.0.1:7302 --admin 127.0.0.1:7102 --dry-run    what would come back
  stator cluster recover 127.0.0.1:7302 --admin 127.0.0.1:7102

What the members may have seen, deleted and forgotten since is listed as doubtful, and left. With
--all it comes too: what was deleted after the removal, or since the directory was copied, can be
there again. What a copy wrote before it was started last is doubtful.";

/// Bring home what a removed node, or a refused copy of one, alone holds
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Recover {
    /// The admin address of the removed node, or the copy, which must run; --admin is a member's
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Also what is doubtful: what was deleted and forgotten since comes back
    #[arg(long)]
    all: bool,
    /// Change nothing, only list
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default)]
struct Totals {
    looked_at: u64,
    brought: u64,
    known: u64,
    doubtful: u64,
    deleted: u64,
    damaged: u64,
    listed: Vec<Value>,
}

impl Recover {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        session.check(&self.source, "SOURCE")?;
        let session = &session.patient(PAGE_MIN).persistent();
        let (source, member) = (session.admin_of(&self.source).await?, session.admin().await?);
        let node = no_member(&source, &self.source).await?;
        let mut totals = Totals::default();
        let mut page_token = String::new();
        loop {
            let held = source.list_held(v1::ListHeldRequest { page_token }).await?;
            page_token = held.next_page_token.clone();
            totals.damaged += u64::from(held.damaged);
            totals.looked_at += u64::from(held.objects);
            let permille = held.permille;
            if held.objects > 0 {
                let taken = member.bring_home(held, self.all, self.dry_run).await;
                let taken = taken.map_err(|error| {
                    let failure = Failure::from(error).during(totals.words(self.dry_run));
                    failure.hint("run it again: what was taken is not taken twice")
                })?;
                self.add(&mut totals, taken, session.output)?;
                output::say(format!("{}.{} % looked at", permille / 10, permille % 10));
            }
            if page_token.is_empty() {
                break;
            }
        }
        let waiting = match self.dry_run {
            true => 0,
            false => delivered(&member, &node, session.timeout()).await?,
        };
        if session.output == Output::Json {
            output::json(&self.document(&node, &totals, waiting))?;
        } else {
            output::line(totals.words(self.dry_run))?;
        }
        self.end(&totals, waiting)
    }

    fn add(
        &self,
        totals: &mut Totals,
        taken: v1::BringHomeResponse,
        output: Output,
    ) -> Result<(), Failure> {
        totals.brought += u64::from(taken.brought);
        totals.known += u64::from(taken.known);
        totals.doubtful += u64::from(taken.doubtful);
        totals.deleted += u64::from(taken.deleted);
        for object in taken.unknown {
            let key = String::from_utf8_lossy(&object.key).into_owned();
            let written_at = output::utc(object.written_at_ms);
            if output == Output::Table {
                let word = if object.doubtful { "doubtful" } else { "new" };
                let keyspace = &object.keyspace;
                output::line(format!("{word}  {keyspace}  {key:?}  written {written_at}"))?;
            } else if totals.listed.len() < LISTED_MAX {
                totals.listed.push(json!({
                    "keyspace": object.keyspace,
                    "key": key,
                    "key_base64": BASE64.encode(&object.key),
                    "versions": object.versions,
                    "written_at_ms": object.written_at_ms,
                    "doubtful": object.doubtful,
                }));
            }
        }
        Ok(())
    }

    fn document(&self, node: &str, totals: &Totals, waiting: u64) -> Value {
        json!({
            "node_id": node,
            "dry_run": self.dry_run,
            "objects": totals.looked_at,
            "brought": totals.brought,
            "known": totals.known,
            "doubtful": totals.doubtful,
            "of_deleted_keyspaces": totals.deleted,
            "damaged": totals.damaged,
            "waiting": waiting,
            "listed": totals.listed,
        })
    }

    fn end(&self, totals: &Totals, waiting: u64) -> Result<(), Failure> {
        if totals.doubtful > 0 {
            output::say(format!(
                "{} objects are doubtful and were left: never seen by the members, or deleted and \
                 forgotten since; --all brings them too",
                totals.doubtful
            ));
        }
        if waiting > 0 {
            output::say(format!(
                "{waiting} objects are kept safely and wait for owners that are away: `stator \
                 cluster hints` shows them"
            ));
        }
        match totals.damaged {
            0 => Ok(()),
            damaged => Err(Failure::refused(format!(
                "{damaged} records of that node are damaged and were not looked at"
            ))),
        }
    }
}

impl Totals {
    fn words(&self, dry_run: bool) -> String {
        let Totals { looked_at, brought, known, doubtful, deleted, .. } = self;
        let brought_words = if dry_run { "would come home" } else { "came home" };
        format!(
            "{looked_at} objects looked at: {brought} {brought_words}, {known} were known, \
             {doubtful} are doubtful, {deleted} are of deleted keyspaces"
        )
    }
}

/// The id of the node, which must have been removed, or refused.
async fn no_member(source: &Admin, address: &str) -> Result<String, Failure> {
    let status = source.get_status(v1::GetStatusRequest {}).await;
    let status = status.map_err(|error| Failure::from(error).during(address))?;
    let node = status.node.clone().unwrap_or_default().node_id;
    match status.state() {
        v1::NodeState::Removed | v1::NodeState::Refused => Ok(node),
        _ => Err(Failure::refused(format!("the node at {address} was not removed")).hint(
            "what a member holds is with the cluster already; a node that was removed, or is a \
             copy of one that runs, hears it from the first member that it reaches",
        )),
    }
}

/// Waits until all that was taken for `node` is with its owners; tells what still waits.
async fn delivered(member: &Admin, node: &str, within: Duration) -> Result<u64, Failure> {
    let deadline = Instant::now() + within;
    loop {
        let status = member.get_status(v1::GetStatusRequest {}).await?;
        let targets = status.hints.unwrap_or_default().targets;
        let waiting = targets.iter().find(|target| target.node_id == node);
        let waiting = waiting.map_or(0, |target| target.objects);
        if waiting == 0 || Instant::now() >= deadline {
            return Ok(waiting);
        }
        sleep(POLL).await;
    }
}
