//! What a cluster's nodes tell one another when nobody asks them for anything, and when a keyspace is
//! made, at 10, 100 and 1,000 nodes: the core itself in the simulator, whose time is virtual.
//!
//! `make bench BENCH=metadata`; 1,000 nodes take some minutes and 2 GiB.
//! `STATOR_METADATA_NODES=10,100` leaves them out.

use std::time::Instant;

use stator_simulator::metadata::told;

/// Long enough for each kind of message to come by.
const SECONDS: u64 = 30;

fn main() {
    let asked = std::env::var("STATOR_METADATA_NODES").unwrap_or_else(|_| "10,100,1000".to_owned());
    println!(
        "| nodes | partitions | catalogue | bytes a node says a second | of which | a new keyspace: bytes a node | known to all after |"
    );
    println!("|---|---|---|---|---|---|---|");
    for nodes in asked.split(',').map(|count| count.trim().parse().expect("a number of nodes")) {
        row(nodes);
    }
}

fn row(nodes: usize) {
    let began = Instant::now();
    // At least sixteen places for each node, as `cluster init --partitions` advises.
    let partitions_log2 = (nodes * 16 / 3).next_power_of_two().ilog2().max(8);
    let told = told(nodes, partitions_log2, SECONDS).expect("a cluster at rest");
    let per_node = |bytes: u64| bytes as f64 / nodes as f64;
    let per_second = |bytes: u64| per_node(bytes) / SECONDS as f64;
    let kinds: Vec<String> = (told.at_rest.kinds())
        .map(|(name, kind)| format!("{name} {:.0}", per_second(kind.bytes)))
        .collect();
    println!(
        "| {nodes} | {} | {} | {:.0} | {} | {:.0} | {} ms |",
        1_u32 << partitions_log2,
        told.catalogue_bytes,
        per_second(told.at_rest.bytes()),
        kinds.join(", "),
        per_node(told.change.bytes()),
        told.change_ms,
    );
    eprintln!("{nodes} nodes: {:.0} s", began.elapsed().as_secs_f64());
}
