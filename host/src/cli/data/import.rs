//! `stator kv import`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use stator_client::{Admin, Client, Error};
use stator_proto::v1;

use super::format::{PlainValue, Reader, Record};
use super::progress;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv import carts.jsonl -k carts
  stator kv import carts.bin -k carts
  jq -c '{key: .id, value: .}' products.json | stator kv import - -k products

Whole objects are joined with what there is, dots and all: to import a file again changes nothing,
and what has replaced a value stays. A line without an object is put in the place of what the key
holds, unless it holds that value already.";

/// Read keys from a file that `kv export` wrote, or from JSON lines
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    keyspace: String,
    /// How many nodes must acknowledge each key [default: the keyspace's w]
    #[arg(short, value_name = "REPLICAS")]
    w: Option<u32>,
}

/// Bytes, and objects, of one upload.
const UPLOAD_BYTES: usize = 512 << 10;
const UPLOAD_OBJECTS: usize = 512;
/// Uploads, or puts, that run side by side.
const UPLOADS: usize = 4;
const PUTS: usize = 32;

/// What became of imported objects.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::cli) struct Outcome {
    pub(in crate::cli) taken: u64,
    pub(in crate::cli) known: u64,
    pub(in crate::cli) deleted: u64,
    pub(in crate::cli) revived: u64,
}

impl Outcome {
    pub(in crate::cli) fn add(&mut self, other: &Outcome) {
        self.taken += other.taken;
        self.known += other.known;
        self.deleted += other.deleted;
        self.revived += other.revived;
    }
}

/// Sends objects in uploads, some side by side.
pub(in crate::cli) struct Upload {
    admin: Admin,
    header: v1::ImportHeader,
    objects: Vec<(Bytes, Bytes)>,
    bytes: usize,
    running: FuturesUnordered<Running>,
    pub(in crate::cli) outcome: Outcome,
}

type Running =
    std::pin::Pin<Box<dyn Future<Output = Result<v1::ImportObjectsResponse, Error>> + Send>>;

impl Upload {
    pub(in crate::cli) fn new(admin: Admin, header: v1::ImportHeader) -> Self {
        let (objects, running, outcome) = (Vec::new(), FuturesUnordered::new(), Outcome::default());
        Upload { admin, header, objects, bytes: 0, running, outcome }
    }

    pub(in crate::cli) async fn add(&mut self, key: Bytes, object: Bytes) -> Result<(), Failure> {
        self.bytes += key.len() + object.len();
        self.objects.push((key, object));
        match self.bytes >= UPLOAD_BYTES || self.objects.len() >= UPLOAD_OBJECTS {
            true => self.send().await,
            false => Ok(()),
        }
    }

    async fn send(&mut self) -> Result<(), Failure> {
        while self.running.len() >= UPLOADS {
            self.ended().await?;
        }
        self.bytes = 0;
        let (admin, header) = (self.admin.clone(), self.header.clone());
        let objects = std::mem::take(&mut self.objects);
        self.running.push(Box::pin(async move { admin.import(header, objects).await }));
        Ok(())
    }

    async fn ended(&mut self) -> Result<(), Failure> {
        if let Some(answer) = self.running.next().await {
            let v1::ImportObjectsResponse { taken, known, deleted, revived, .. } = answer?;
            self.outcome.add(&Outcome { taken, known, deleted, revived });
        }
        Ok(())
    }

    /// Waits until all is acknowledged.
    pub(in crate::cli) async fn end(mut self) -> Result<Outcome, Failure> {
        if !self.objects.is_empty() {
            self.send().await?;
        }
        while !self.running.is_empty() {
            self.ended().await?;
        }
        Ok(self.outcome)
    }
}

impl Import {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (from, bytes): (Box<dyn BufRead + Send>, u64) = match self.file.as_os_str() == "-" {
            true => (Box::new(BufReader::new(io::stdin())), 0),
            false => {
                let opened = File::open(&self.file).and_then(|f| Ok((f.metadata()?.len(), f)));
                let (bytes, file) = opened.map_err(|error| {
                    Failure::usage(format!("cannot read {}: {error}", self.file.display()))
                })?;
                (Box::new(BufReader::new(file)), bytes)
            }
        };
        // A node that is away for a moment must not end it.
        let session = session.patient(std::time::Duration::from_secs(60)).persistent();
        let mut reader = Reader::new(from)?;
        let header =
            v1::ImportHeader { keyspace: self.keyspace.clone(), w: self.w, ..Default::default() };
        let mut upload = Upload::new(session.admin().await?, header);
        let mut puts = Puts::new(session.kv().await?, &self);
        let bar = progress::bytes(bytes);
        while let Some(record) = reader.next()? {
            match record {
                Record::Object(key, object) => {
                    // As JSON an object takes about this much.
                    bar.inc((key.len() + object.len()) as u64);
                    upload.add(key, object).await?;
                }
                Record::Plain(key, value) => puts.add(key, value).await?,
            }
        }
        let mut outcome = upload.end().await?;
        outcome.add(&puts.end().await?);
        drop(bar);
        let Outcome { taken, known, .. } = outcome;
        match session.output {
            Output::Json => output::json(&json!({
                "keyspace": self.keyspace, "taken": taken, "known": known,
            })),
            Output::Table => {
                let known = match known {
                    0 => String::new(),
                    known => format!(", {known} were there already"),
                };
                output::line(format!("{taken} keys imported into {}{known}", self.keyspace))
            }
        }
    }
}

/// Plain values on their way.
struct Puts {
    client: Client,
    keyspace: String,
    w: Option<u32>,
    running: FuturesUnordered<BoxFuture<'static, Result<bool, Error>>>,
    outcome: Outcome,
}

impl Puts {
    fn new(client: Client, import: &Import) -> Self {
        let (keyspace, w) = (import.keyspace.clone(), import.w);
        Puts { client, keyspace, w, running: FuturesUnordered::new(), outcome: Outcome::default() }
    }

    async fn add(&mut self, key: Bytes, plain: PlainValue) -> Result<(), Failure> {
        while self.running.len() >= PUTS {
            self.ended().await?;
        }
        let (client, keyspace, w) = (self.client.clone(), self.keyspace.clone(), self.w);
        let value = plain.bytes().map_err(Failure::usage)?;
        self.running.push(Box::pin(async move {
            let get = v1::GetRequest {
                keyspace: keyspace.clone(),
                key: key.clone(),
                view: v1::View::Siblings.into(),
                ..Default::default()
            };
            let found = client.send_get(get).await?;
            if let [sole] = &found.versions[..]
                && sole.value.as_ref() == Some(&value)
            {
                return Ok(false);
            }
            let contexts = found.context.into_iter().collect();
            let (schema, labels) = (plain.schema, plain.labels);
            let put = v1::PutRequest {
                keyspace,
                key,
                value,
                contexts,
                schema,
                labels,
                w,
                ..Default::default()
            };
            client.send_put(put).await.map(|_| true)
        }));
        Ok(())
    }

    async fn ended(&mut self) -> Result<(), Failure> {
        match self.running.next().await {
            Some(Ok(true)) => self.outcome.taken += 1,
            Some(Ok(false)) => self.outcome.known += 1,
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Outcome, Failure> {
        while !self.running.is_empty() {
            self.ended().await?;
        }
        Ok(self.outcome)
    }
}
