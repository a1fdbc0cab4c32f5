//! `stator bench` on real nodes. What it counts is checked, never how fast anything was.

use std::path::Path;

use serde_json::Value;

use crate::support::{Cluster, keyspace, stator};

/// Runs `stator bench` and reads what it prints.
async fn bench(arguments: &[&str]) -> Value {
    let output = stator(["--output", "json", "bench"].iter().chain(arguments)).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
    serde_json::from_slice(&output.stdout).expect("one document")
}

async fn fails(arguments: &[&str], code: i32) -> String {
    let output = stator(["bench"].iter().chain(arguments)).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    words
}

fn count(result: &Value, kind: &str) -> u64 {
    let latency = &result["latency"][kind];
    let sum = latency["histogram"]
        .as_array()
        .map_or(0, |steps| steps.iter().map(|step| step[1].as_u64().expect("how often")).sum());
    assert_eq!(latency["count"].as_u64().unwrap_or(0), sum, "{kind}");
    sum
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect()
}

#[tokio::test]
async fn a_bench_starts_nodes_counts_all_it_does_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().display().to_string();
    let sizes = ["--keys", "100", "--value-bytes", "256", "--operations", "200", "--warm-up", "0"];
    let loops = ["--connections", "3", "--concurrency", "6", "--conflicts", "40"];
    let nodes = ["--local", "3", "--engine", "memory", "--dir", &dir];
    let workloads = ["--workload", "a,d,cart,load"];
    let document = bench(&[&sizes[..], &loops, &nodes, &workloads].concat()).await;
    assert!(entries(folder.path()).is_empty(), "its nodes' folder is gone");
    let results = document["results"].as_array().expect("a result for each workload");
    assert_eq!(results.len(), 4);
    for result in results {
        assert_eq!(result["errors"], serde_json::json!({}), "{}", result["workload"]);
        assert_eq!(result["operations"], 200, "{}", result["workload"]);
        assert_eq!(result["siblings"]["absent"], 0, "{}", result["workload"]);
        assert!(result["server_us"].is_number());
    }
    let [a, d, cart, load] = results.as_slice() else { panic!("four") };
    assert_eq!(count(a, "read") + count(a, "update"), 200);
    assert_eq!(count(d, "read") + count(d, "insert"), 200);
    assert_eq!((count(cart, "read"), count(cart, "read-modify-write")), (200, 200));
    assert!(count(cart, "update") > 200, "some carts were written by two");
    assert!(
        cart["siblings"]["writes"].as_u64() > Some(0)
            && cart["siblings"]["reads"].as_u64() > Some(0)
    );
    assert_eq!(count(load, "insert"), 200);

    let file = folder.path().join("one.json");
    std::fs::write(&file, document.to_string()).expect("written");
    let (file, svg) = (file.display().to_string(), folder.path().join("one.svg"));
    let drawing = svg.display().to_string();
    let compared = bench(&["compare", &file, &file, "--svg", &drawing]).await;
    let rows = compared["rows"].as_array().expect("rows");
    let same = rows.iter().filter(|row| row["values"][0] != 0.0);
    assert!(same.clone().count() > 20 && same.into_iter().all(|row| row["ratios"][0] == 1.0));
    let svg = std::fs::read_to_string(svg).expect("drawn");
    assert_eq!(svg.matches("<polyline").count(), 2 * (2 + 2 + 3 + 1));
}

#[tokio::test]
async fn a_balancer_takes_its_time_and_every_node_is_asked() {
    let through = ["--local", "2", "--engine", "memory", "--link-delay", "2ms", "--balancer"];
    let sizes = ["--keys", "10", "--warm-up", "0", "--connections", "2", "--concurrency", "2"];
    let work = ["--workload", "c", "--operations", "20", "-r", "1"];
    let document = bench(&[&through[..], &sizes, &work].concat()).await;
    let read = &document["results"][0]["latency"]["read"];
    assert_eq!(read["count"], 20);
    // There and back, to the balancer and to the node.
    let least = read["histogram"][0][0].as_u64().expect("microseconds");
    assert!(least >= 8_000, "{least} µs: {read}");
}

#[tokio::test]
async fn a_bench_of_a_cluster_that_is_there_keeps_to_its_rate_and_can_go_on() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("measured", 2, 2)).await;
    let endpoints: Vec<_> =
        cluster.nodes().iter().map(|node| node.addresses.client.clone()).collect();
    let endpoints = endpoints.join(",");
    let place = ["--endpoints", &endpoints, "-k", "measured", "--keys", "50"];
    let sizes =
        ["--operations", "100", "--warm-up", "0", "--connections", "3", "--concurrency", "4"];
    for more in [&["--rate", "1000", "--durability", "buffered"][..], &["--no-load", "-r", "1"]] {
        let workload = ["--workload", "f"];
        let document = bench(&[&place[..], &sizes, &workload, more].concat()).await;
        let result = &document["results"][0];
        assert_eq!((&result["operations"], &result["never_begun"]), (&100.into(), &0.into()));
        assert_eq!(result["siblings"]["absent"], 0, "what was loaded is found");
        assert!(result["server_us"].is_null(), "these are not its own");
    }
    // Loaded once more, the keys have one version each all the same.
    let again = bench(&[&place[..], &sizes, &["--workload", "c"]].concat()).await;
    assert_eq!(again["results"][0]["siblings"]["most"], 1);
}

#[tokio::test]
async fn what_cannot_be_measured_is_said_before_anything_is_started() {
    fails(&["--conflicts", "3"], 2).await;
    fails(&["--engine", "memory"], 2).await;
    fails(&["--local", "3", "-w", "4"], 2).await;
    fails(&["--local", "2", "--far", "2", "--link-delay", "1ms"], 2).await;
    fails(&["--local", "2", "--far", "1"], 2).await;
    fails(&["--local", "2", "--balancer"], 2).await;
    let client = ["--coordination", "client", "--link-delay", "1ms"];
    fails(&[&["--local", "2", "--balancer"][..], &client].concat(), 2).await;
    fails(&["--local", "3", "--blind", "--workload", "cart"], 2).await;
    fails(&["--duration", "1s", "--operations", "1"], 2).await;
    fails(&["compare", "/nonexistent", "/nonexistent"], 2).await;
    let cluster = Cluster::start(1).await;
    let endpoint = cluster[0].addresses.client.clone();
    let words = fails(&["--endpoint", &endpoint, "-k", "unknown", "--operations", "1"], 3).await;
    assert!(words.contains("UNKNOWN_KEYSPACE"), "{words}");
}
