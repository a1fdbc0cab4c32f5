//! The protocol's loop alone: how many events a second `Node::on_event` takes on one core, and how
//! much of it a put and a get need.
//!
//! Three nodes of the core, driven by hand: a message arrives at once, a store is a map that
//! answers at once. Only the time within `on_event` counts, less what the clock itself takes; no
//! driver, network, disk or client is in it.

#[path = "../../host/core/tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::id::NodeId;
use stator_core::request::PutRequest;
use stator_core::version::Payload;
use world::{World, carts, put_of};

const KEYS: u64 = 20_000;
const VALUE_BYTES: usize = 1 << 10;

fn main() {
    let mut keyspace = carts();
    keyspace.read_repair_percent = 10;
    let mut world = World::with(3, keyspace);
    let clock = clock();
    println!(
        "three nodes, n=3, r=2, w=2, {KEYS} keys of {VALUE_BYTES} bytes, time within on_event:"
    );
    println!(
        "| | events each | µs each, all three nodes | events/s of one loop | requests/s where each node coordinates a third |"
    );
    println!("|---|---|---|---|---|");
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let put = |world: &mut World, number: u64| {
        let mut put: PutRequest = put_of("");
        put.key = key(number);
        put.draft.payload = Payload::Value(value.clone());
        let ticket = world.put(coordinator(number), put);
        assert!(matches!(world.puts.pop(), Some((t, Ok(_))) if t == ticket), "a put succeeds");
    };
    let get = |world: &mut World, number: u64| {
        let ticket = world.get_key(coordinator(number), key(number));
        let receipt = world.gets.remove(&ticket).expect("answered").expect("a get succeeds");
        assert_eq!(receipt.siblings.versions().len(), 1, "what was put is read");
    };
    for round in 0..2 {
        row("put of a new key", &mut world, clock, round, put);
        row("get", &mut world, clock, round, get);
        world.hosts.values_mut().for_each(|host| host.store.clear());
    }
}

/// Does `what` for every key; the first round warms up.
fn row(name: &str, world: &mut World, clock: Duration, round: u64, what: impl Fn(&mut World, u64)) {
    (world.events, world.time_in_nodes) = (0, Duration::ZERO);
    for number in 0..KEYS {
        what(world, number);
        world.sent.clear();
        world.notices.clear();
        // Timers that have nothing to do any more go by.
        if number % 64 == 0 {
            world.pass_ms(1);
        }
    }
    if round == 0 {
        return;
    }
    let time = world.time_in_nodes.saturating_sub(clock * world.events as u32).as_secs_f64();
    let (events, each) = (world.events as f64 / KEYS as f64, time / KEYS as f64);
    let per_second = world.events as f64 / time;
    println!("| {name} | {events:.1} | {:.1} | {per_second:.0} | {:.0} |", each * 1e6, 3.0 / each);
}

/// What reading the clock twice takes.
fn clock() -> Duration {
    const TIMES: u32 = 100_000;
    let begun = Instant::now();
    let sum: Duration = (0..TIMES).map(|_| Instant::now().elapsed()).sum();
    std::hint::black_box(sum);
    begun.elapsed() / TIMES
}

fn key(number: u64) -> Bytes {
    format!("user{number:012}").into()
}

fn coordinator(number: u64) -> NodeId {
    NodeId(number % 3 + 1)
}
