//! Durable puts through a node's write path, per engine and number of writers.

mod support;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use stator::storage::{Area, EngineKind, Home, StoreOptions, Stores, WriteJob};
use stator_core::causality::{Context, Survivors};
use stator_core::id::{KeyspaceId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::version::Payload;
use stator_core::write::{Change, Draft, SiblingLimits};

const VALUE_BYTES: usize = 1 << 10;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
const WRITERS: [usize; 3] = [1, 64, 256];

struct Round {
    puts_per_s: f64,
    latency: Histogram<u64>,
}

fn main() {
    println!("durable puts of 1 KiB; median of {ROUNDS} rounds of {ROUND:?}");
    println!("| engine | writers | puts/s | p50 ms | p99 ms | p99.9 ms | to the first row |");
    println!("|---|---|---|---|---|---|---|");
    let engines = [("sled", EngineKind::Sled), ("fjall", EngineKind::Fjall)];
    let mut rows: Vec<Vec<Round>> = Vec::new();
    rows.resize_with(engines.len() * WRITERS.len(), Vec::new);
    for _ in 0..ROUNDS {
        for (index, (_, engine)) in engines.iter().enumerate() {
            for (column, writers) in WRITERS.into_iter().enumerate() {
                rows[index * WRITERS.len() + column].push(round(*engine, writers));
            }
        }
    }
    let mut first = None;
    for (index, mut rounds) in rows.into_iter().enumerate() {
        rounds.sort_by(|a, b| a.puts_per_s.total_cmp(&b.puts_per_s));
        let Round { puts_per_s, latency } = &rounds[ROUNDS / 2];
        let base = *first.get_or_insert(*puts_per_s);
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
        println!(
            "| {} | {} | {puts_per_s:.0} | {:.2} | {:.2} | {:.2} | {:.1} |",
            engines[index / WRITERS.len()].0,
            WRITERS[index % WRITERS.len()],
            ms(0.5),
            ms(0.99),
            ms(0.999),
            puts_per_s / base
        );
    }
}

fn round(engine: EngineKind, writers: usize) -> Round {
    let folder = tempfile::tempdir_in(support::built()).expect("a folder on a real disk");
    let home = Arc::new(Home::open(folder.path()).expect("a home"));
    let options = StoreOptions { engine, ..StoreOptions::default() };
    let stores = Stores::open(home, &options).expect("stores");
    let started = Instant::now();
    let mut latency = Histogram::new(3).expect("a histogram");
    std::thread::scope(|scope| {
        let stores = &stores;
        let threads: Vec<_> = (0..writers)
            .map(|writer| scope.spawn(move || write_until(stores, writer, started + ROUND)))
            .collect();
        for thread in threads {
            latency.add(thread.join().expect("no panic")).expect("the same bounds");
        }
    });
    let puts_per_s = latency.len() as f64 / started.elapsed().as_secs_f64();
    stores.close().expect("closed");
    Round { puts_per_s, latency }
}

/// One writer: the next put starts when the last is durable.
fn write_until(stores: &Stores, writer: usize, end: Instant) -> Histogram<u64> {
    let mut latency = Histogram::new(3).expect("a histogram");
    let (sender, receiver) = sync_channel(1);
    let mut number = 0;
    while Instant::now() < end {
        let started = Instant::now();
        let sender = sender.clone();
        stores.write(job(
            writer,
            number,
            Box::new(move |done| {
                done.expect("stored");
                let _ = sender.send(());
            }),
        ));
        receiver.recv().expect("answered");
        latency.record(started.elapsed().as_nanos() as u64).expect("within bounds");
        number += 1;
    }
    latency
}

fn job(
    writer: usize,
    number: usize,
    done: stator::storage::Done<stator::storage::WriteDone>,
) -> WriteJob {
    let value = format!("{writer:08}{number:08}").repeat(VALUE_BYTES / 16);
    let limits = SiblingLimits { siblings_max: 100, siblings_bytes_max: 1 << 20 };
    let draft = Draft {
        payload: Payload::Value(Bytes::from(value)),
        schema: 0,
        ttl_ms: None,
        labels: Default::default(),
        request: None,
    };
    WriteJob {
        area: Area::Data,
        key: StoreKey {
            partition: PartitionId(writer as u16 % 64),
            keyspace: KeyspaceId::of("bench", 1),
            key: Bytes::from(format!("{writer:012}{number:020}")),
        },
        change: Change::Mint {
            passed_ms: 0,
            context: Context::default(),
            draft,
            now_ms: number as u64,
            limits,
            ancestors: Default::default(),
            until_ms: u64::MAX,
            is_lent: false,
            allowance: None,
        },
        targets: Vec::new(),
        survivors: Survivors::All,
        sync: true,
        until: None,
        applied: None,
        done,
    }
}
