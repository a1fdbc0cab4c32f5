//! `stator kv history` and `restore`: versions that made way for others, and the way back.

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use stator_client::Client;
use stator_proto::v1;

use super::options::Target;
use crate::cli::failure::Failure;
use crate::cli::members::{self, short};
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const HISTORY_EXAMPLES: &str = "\
Examples:
  stator keyspace update carts --history 7d
  stator kv history cart-7 -k carts
  stator kv restore cart-7 8d4fad9a73ae10d1.1.1:4 -k carts

A keyspace keeps superseded versions from then on that it is told to. Each owner of a key notes what
its own store let go; all of them are asked.";

/// List the versions of a key that made way for others
#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(in crate::cli) struct History {
    #[command(flatten)]
    target: Target,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  stator kv restore cart-7 8d4fad9a73ae10d1.1.1:4 -k carts
  stator kv restore cart-7 8d4fad9a73ae10d1.1.1:4 1f0c5d6f90abe211.1.1:9 -k carts
  stator kv restore cart-7 8d4fad9a73ae10d1.1.1:4 -k carts --dry-run

It writes the version anew, in the place of what the key holds now; what that is can be restored
likewise. Several are siblings again, for clients or a module to merge. A write that happens at the
same time stays beside them, as always.";

/// Put versions of a key back that made way for others
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(in crate::cli) struct Restore {
    /// The key
    key: String,
    /// The writes that the versions stand for, as `kv history` lists them
    #[arg(required = true, value_name = "WRITE")]
    writes: Vec<String>,
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    keyspace: String,
    /// Say what would be put back, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What all nodes have of the superseded versions of a keyspace, or of one key; of those for which a
/// fold by a module stands, if its digest is given. Each version once, the oldest first.
pub(in crate::cli) async fn superseded(
    session: &Session,
    keyspace: &str,
    key: Bytes,
    folded_by: &str,
) -> Result<Vec<v1::Superseded>, Failure> {
    let request = v1::ListSupersededRequest {
        keyspace: keyspace.to_owned(),
        key,
        folded_by_digest: folded_by.to_owned(),
    };
    // Asked once for the keyspace itself, so that a name without one is no empty answer.
    let known = v1::GetKeyspaceRequest { name: keyspace.to_owned() };
    let found = session.admin().await?.get_keyspace(known).await?;
    if found.merging.unwrap_or_default().history_ms == 0 {
        return Err(Failure::refused(format!("keyspace {keyspace} keeps no superseded versions"))
            .hint(format!(
                "from now on it does with: stator keyspace update {keyspace} --history 7d"
            )));
    }
    let all = members::gather(session, "superseded versions", async |admin| {
        members::drain(admin.list_superseded(request.clone()).await?).await
    });
    let mut all: Vec<_> = all.await?.into_iter().map(|(_, version)| version).collect();
    let version = |one: &v1::Superseded| {
        (one.key.clone(), one.dots.clone(), one.made_by_digest.clone(), one.value.clone())
    };
    all.sort_by_cached_key(|one| (version(one), one.at_ms));
    all.dedup_by(|a, b| version(a) == version(b));
    all.sort_by_key(|one| one.at_ms);
    Ok(all)
}

impl History {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Target { key, keyspace, .. } = &self.target;
        let all = superseded(session, keyspace, self.target.key_bytes()?, "").await?;
        if session.output == Output::Json {
            let versions: Vec<_> = all.iter().map(superseded_json).collect();
            return output::json(
                &json!({ "keyspace": keyspace, "key": key, "versions": versions }),
            );
        }
        if all.is_empty() {
            return output::line(format!("nothing of {key:?} made way for anything"));
        }
        let rows = all.iter().map(|one| {
            [
                one.dots.join(" "),
                output::utc(one.written_at_ms),
                what(one),
                output::utc(one.at_ms),
                match one.folded_by_digest.as_str() {
                    "" if one.by.is_empty() => "nothing".to_owned(),
                    "" => format!("the write {}", one.by.join(" ")),
                    module => format!("a fold by {}", short(module)),
                },
            ]
        });
        let head = ["write", "written", "what", "made way", "for"];
        output::line(output::table(head, rows.collect()))
    }
}

fn what(one: &v1::Superseded) -> String {
    let what = match &one.value {
        None => "a delete".to_owned(),
        Some(value) => parse::shown(value),
    };
    match one.made_by_digest.as_str() {
        "" => what,
        module => format!("{what}, a fold by {}", short(module)),
    }
}

fn superseded_json(one: &v1::Superseded) -> Value {
    let none_if_empty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "writes": one.dots,
        "written_at_ms": one.written_at_ms,
        "value_base64": one.value.as_ref().map(|value| parse::print_base64(value)),
        "schema": one.schema,
        "made_by": none_if_empty(&one.made_by_digest),
        "at_ms": one.at_ms,
        "folded_by": none_if_empty(&one.folded_by_digest),
        "by": one.by,
    })
}

impl Restore {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (keyspace, key) = (&self.keyspace, Bytes::copy_from_slice(self.key.as_bytes()));
        let all = superseded(session, keyspace, key.clone(), "").await?;
        let wanted = self.writes.iter().map(|write| self.version(&all, write));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        let said = |one: &v1::Superseded| {
            format!("{}, written {}", what(one), output::utc(one.written_at_ms))
        };
        if self.dry_run {
            let would = |one: &&v1::Superseded| {
                output::line(format!("would be put back, nothing was changed: {}", said(one)))
            };
            return wanted.iter().try_for_each(would);
        }
        let client = session.kv().await?;
        let now = stored(&client, keyspace, key.clone()).await?;
        let mut restored = Vec::new();
        for version in wanted {
            // All with what was seen before the first of them: siblings of one another.
            let value = (version.value.clone(), version.schema);
            let dot = write(&client, (keyspace, key.clone()), &now, value).await?;
            if session.output == Output::Table {
                output::line(format!("put back as write {dot}: {}", said(version)))?;
            }
            restored.push(json!({ "dot": dot, "version": superseded_json(version) }));
        }
        match session.output {
            Output::Json => output::json(&json!({
                "restored": restored,
                "replaced": now.versions.iter().flat_map(|v| v.dots.clone()).collect::<Vec<_>>(),
            })),
            Output::Table => Ok(()),
        }
    }

    /// The version that stands for a write.
    fn version<'a>(
        &self,
        all: &'a [v1::Superseded],
        write: &String,
    ) -> Result<&'a v1::Superseded, Failure> {
        let of = all.iter().filter(|one| one.dots.contains(write));
        // Under one write may have stood what the client wrote, and later a fold of it.
        let own = of.min_by_key(|one| (!one.made_by_digest.is_empty(), one.at_ms));
        own.ok_or_else(|| {
            let Restore { key, keyspace, .. } = self;
            let message = format!("no version of {key:?} that made way stands for {write}");
            Failure::refused(format!("{message}; nothing was changed"))
                .hint(format!("`stator kv history {key} -k {keyspace}` lists those there are"))
        })
    }
}

/// What a key holds, without values.
pub(in crate::cli) async fn stored(
    client: &Client,
    keyspace: &str,
    key: Bytes,
) -> Result<v1::GetResponse, Failure> {
    let request = v1::GetRequest {
        keyspace: keyspace.to_owned(),
        key,
        view: v1::View::Metadata as i32,
        ..Default::default()
    };
    Ok(client.send_get(request).await?)
}

/// Writes a value, or deletes, in the place of what was read. The name of the write.
pub(in crate::cli) async fn write(
    client: &Client,
    (keyspace, key): (&str, Bytes),
    now: &v1::GetResponse,
    (value, schema): (Option<Bytes>, u32),
) -> Result<String, Failure> {
    let keyspace = keyspace.to_owned();
    let contexts: Vec<_> = now.context.iter().cloned().collect();
    match value {
        Some(value) => {
            let request =
                v1::PutRequest { keyspace, key, value, contexts, schema, ..Default::default() };
            Ok(client.send_put(request).await?.dot)
        }
        None => {
            let request = v1::DeleteRequest { keyspace, key, contexts, ..Default::default() };
            Ok(client.send_delete(request).await?.dot)
        }
    }
}
