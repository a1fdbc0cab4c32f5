//! Writers that log what they were told: for `tests/benches/backup.sh`, which holds a restored backup
//! against the log.
//!
//! `acknowledged LOG ENDPOINTS KEYSPACE KEYS load` puts each of the keys once. `… paced RATE SECONDS` gets
//! and puts them by turns, so many requests a second, where latency counts from when one was due; a RATE of
//! 0 is as many as go. It prints what it measured as one JSON document.
//!
//! A line of the log is a put: its key, when it began, and when it was acknowledged, in microseconds since
//! 1970, or `-` for an unknown outcome. The value is made of key and beginning (`value`), so the log tells
//! each byte of it. Each key has one writer, which waits for an answer before it writes the key again: so of
//! the puts of a key a later one has replaced the earlier ones.
//!
//! Left out: deletes, and values of other lengths.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::json;
use stator_client::{Client, Effect, Entry};
use tokio::time::sleep_until;

/// Writers at a time.
const LANES: u64 = 256;
const VALUE_BYTES: usize = 256;

/// What is to be done.
struct Plan {
    keyspace: String,
    keys: u64,
    /// Requests a second, and until when; nothing: each key once.
    paced: Option<(u64, Instant)>,
    started: Instant,
    next: AtomicU64,
    log: Mutex<BufWriter<File>>,
}

/// What was answered.
struct Found {
    gets: Histogram<u64>,
    puts: Histogram<u64>,
    errors: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [log, endpoints, keyspace, keys, rest @ ..] = arguments.as_slice() else {
        bail!("usage: acknowledged LOG ENDPOINTS KEYSPACE KEYS load | paced RATE SECONDS");
    };
    let started = Instant::now();
    let paced = match rest {
        [load] if load == "load" => None,
        [paced, rate, seconds] if paced == "paced" => {
            Some((rate.parse()?, started + Duration::from_secs(seconds.parse()?)))
        }
        other => bail!("neither load nor paced RATE SECONDS: {other:?}"),
    };
    let log = File::options().append(true).create(true).open(log).context("the log")?;
    let plan = Arc::new(Plan {
        keyspace: keyspace.clone(),
        keys: keys.parse()?,
        paced,
        started,
        next: AtomicU64::new(0),
        log: Mutex::new(BufWriter::new(log)),
    });
    let client = Client::connect(endpoints.split(','))?;
    let lanes = (0..LANES).map(|lane| tokio::spawn(write(plan.clone(), client.clone(), lane)));
    let mut all = Found::new()?;
    for lane in lanes.collect::<Vec<_>>() {
        let found = lane.await??;
        all.gets.add(found.gets)?;
        all.puts.add(found.puts)?;
        all.errors += found.errors;
    }
    plan.log.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
    let seconds = started.elapsed().as_secs_f64();
    let latency = |of: &Histogram<u64>| {
        json!({
            "p50_us": of.value_at_quantile(0.5), "p99_us": of.value_at_quantile(0.99),
            "p999_us": of.value_at_quantile(0.999),
        })
    };
    let per_second = (all.gets.len() + all.puts.len()) as f64 / seconds;
    let document = json!({
        "per_second": per_second, "errors": all.errors,
        "latency": { "reads": latency(&all.gets), "updates": latency(&all.puts) },
    });
    println!("{document}");
    Ok(())
}

/// Carries out what of the plan is the lane's: every key whose number leaves `lane` divided by [`LANES`].
async fn write(plan: Arc<Plan>, client: Client, lane: u64) -> Result<Found> {
    let mut found = Found::new()?;
    // A prime, so that a key comes again after all others.
    let (own, stride) = ((plan.keys + LANES - 1 - lane) / LANES, 1_000_003);
    let first = now()? % own.max(1);
    for turn in 0_u64.. {
        let due = match plan.paced {
            None if turn == own => break,
            None => Instant::now(),
            Some((0, end)) if Instant::now() < end => Instant::now(),
            Some((0, _)) => break,
            Some((rate, end)) => {
                let number = plan.next.fetch_add(1, Ordering::Relaxed);
                let due = plan.started + Duration::from_secs_f64(number as f64 / rate as f64);
                if due >= end {
                    break;
                }
                sleep_until(due.into()).await;
                due
            }
        };
        let number = first + if plan.paced.is_some() { turn / 2 } else { turn };
        let key = format!("key-{:010}", number * stride % own.max(1) * LANES + lane);
        if plan.paced.is_some() && turn % 2 == 0 {
            match client.siblings(&plan.keyspace, key).await {
                Ok(_) => found.gets.saturating_record(due.elapsed().as_micros() as u64),
                Err(_) => found.errors += 1,
            }
            continue;
        }
        let begun = now()?;
        let mut entry = Entry::blind(&plan.keyspace, key.clone());
        entry.set(value(&key, begun));
        let acknowledged = match client.put(entry).await {
            Ok(_) => now()?.to_string(),
            Err(error) if error.effect() == Effect::Maybe => "-".to_owned(),
            Err(_) => String::new(),
        };
        match acknowledged.as_str() {
            "" | "-" => found.errors += 1,
            _ => found.puts.saturating_record(due.elapsed().as_micros() as u64),
        }
        if !acknowledged.is_empty() {
            let mut log = plan.log.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(log, "{key} {begun} {acknowledged}").context("the log")?;
        }
    }
    Ok(found)
}

impl Found {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3);
        Ok(Found { gets: histogram()?, puts: histogram()?, errors: 0 })
    }
}

/// As the check in `backup.sh` makes it.
fn value(key: &str, begun: u64) -> String {
    let words = format!("{key} {begun} ");
    words.repeat(VALUE_BYTES / words.len() + 1)[..VALUE_BYTES].to_owned()
}

fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}
