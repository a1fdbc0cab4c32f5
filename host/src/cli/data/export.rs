//! `stator kv export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use stator_core::causality::Siblings;
use stator_core::version::Payload;
use stator_proto::v1;

use super::format::{Format, Writer};
use super::progress;
use super::sort::Sorter;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv export -k carts --to carts.jsonl
  stator kv export -k carts --format binary --to carts.bin
  stator kv export -k carts --prefix cart-7 | jq .values

It goes through the admin address, because it hands out dots and what was seen, which an import takes
at its word. Deleted keys are left out. Keys are sorted in temporary files, so that equal data make
equal files; with --unsorted they come as the ring has them, at once.
For backups of whole clusters, with settings and modules, see `stator backup`.";

/// Write the keys of a keyspace to a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Export {
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    keyspace: String,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true, value_name = "KEY")]
    prefix: String,
    /// PREFIX is given in base64
    #[arg(long)]
    key_base64: bool,
    /// How many owners of each key must answer [default: the keyspace's r]
    #[arg(short, value_name = "REPLICAS")]
    r: Option<u32>,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The file, made anew; standard output without it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// In the order of the ring, without temporary files
    #[arg(long)]
    unsorted: bool,
}

impl Export {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let prefix = match self.prefix.as_str() {
            "" => Bytes::new(),
            text => parse::key(text, self.key_base64)?,
        };
        let keyspace = self.keyspace.clone();
        let request =
            v1::ExportObjectsRequest { keyspace, prefix, r: self.r, ..Default::default() };
        let mut export = session.admin().await?.export(request);
        let mut page = export.next().await?;
        // Not before the cluster has answered: a typing error does not cost an old file.
        let out: Box<dyn Write + Send> = match &self.to {
            Some(path) => {
                let made = File::create(path);
                Box::new(made.map_err(|error| {
                    Failure::usage(format!("cannot write {}: {error}", path.display()))
                })?)
            }
            None => Box::new(io::stdout()),
        };
        let mut writer = Writer::new(BufWriter::new(out), self.format)?;
        let mut sorter = Sorter::new();
        let bar = progress::permille();
        while let Some(found) = page {
            bar.set_position(found.permille.into());
            for (key, object) in found.objects {
                if !has_value(&object)? {
                    continue;
                }
                match self.unsorted {
                    true => writer.object(&key, &object)?,
                    false => sorter.add(key, object)?,
                }
            }
            page = export.next().await?;
        }
        sorter.drain(|key, object| writer.object(key, object))?;
        drop(bar);
        let count = writer.end()?;
        if let Some(path) = &self.to {
            output::say(format!("{count} keys written to {}", path.display()));
        }
        Ok(())
    }
}

/// Whether a reader would find something.
pub(in crate::cli) fn has_value(object: &Bytes) -> Result<bool, Failure> {
    let siblings = Siblings::decode(object.clone())
        .map_err(|error| Failure::refused(format!("an object cannot be read: {error}")))?;
    let mut live = siblings.live();
    Ok(live.any(|(_, version)| version.payload != Payload::Tombstone))
}
