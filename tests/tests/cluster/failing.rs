//! A module that fails at half of all merges, under load and partitions: nothing that was
//! acknowledged is lost, every merge that a reader met is on record, and all is merged by the mended
//! module.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stator_proto::v1;

use crate::conflicts::{must_run, run};
use crate::support::{Cluster, Node, eventually, get, keyspace, must, put};

const KEYS: usize = 12;
const ROUNDS: usize = 60;

/// A merge as a reader met it: the node, the writes that were merged, whether that failed.
type Met = (String, BTreeSet<String>, bool);

/// What a client knows at the end.
#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<String, BTreeSet<String>>,
    met: Vec<Met>,
}

fn lines(values: &[v1::Version]) -> BTreeSet<String> {
    let texts = values.iter().filter_map(|version| version.value.as_deref());
    let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What a reader met of a merge, if there was one.
fn met(id: &str, answer: &v1::GetResponse) -> Option<Met> {
    let merge = answer.merge.as_ref().filter(|merge| merge.merged || !merge.failure.is_empty())?;
    // What the node, not the module, failed at is no merge.
    let is_failure = !merge.merged;
    let by_module = merge.failure.is_empty() || merge.failure.contains("trapped");
    let dots = answer.versions.iter().flat_map(|version| version.dots.clone()).collect();
    by_module.then(|| (id.to_owned(), dots, is_failure))
}

/// Reads and writes at one node: each write adds a line to all that its writer saw.
async fn client(number: usize, node: &Node, id: String) -> Known {
    let mut known = Known::default();
    for round in 0..ROUNDS {
        let key = format!("key-{}", (round * 7 + number) % KEYS);
        let Ok(answer) = node.kv().get(get("lines", &key)).await else { continue };
        let answer = answer.into_inner();
        known.met.extend(met(&id, &answer));
        let mut all = lines(&answer.versions);
        let line = format!("{number}-{round}");
        all.insert(line.clone());
        let text: String = all.iter().map(|line| format!("{line}\n")).collect();
        let contexts = answer.context.into_iter().collect();
        let request = v1::PutRequest { contexts, ..put("lines", &key, &text) };
        if node.kv().put(request).await.is_ok() {
            known.acknowledged.entry(key).or_default().insert(line);
        }
    }
    known
}

/// The merges of all nodes on record, as readers met them.
async fn on_record(cluster: &Cluster) -> BTreeSet<Met> {
    let all = ["conflicts", "tail", "--since", "0", "--no-wait", "-k", "lines"];
    let records = run(&cluster[0], &all).await.expect("told");
    let met = |record: &Value| {
        let siblings = record["siblings"].as_array().expect("siblings").iter();
        let dots = siblings.flat_map(|dots| dots.as_array().expect("dots").clone());
        let dots = dots.map(|dot| dot.as_str().expect("a dot").to_owned()).collect();
        let node = record["node"].as_str().expect("a node").to_owned();
        (node, dots, record["came"] == "failed")
    };
    records.iter().map(met).collect()
}

async fn ids(cluster: &Cluster) -> Vec<String> {
    let mut ids = Vec::new();
    for node in cluster.nodes() {
        let status = node.status().await.expect("answered");
        ids.push(status.node.expect("a member").node_id);
    }
    ids
}

#[tokio::test]
async fn a_module_that_fails_at_half_of_all_merges_loses_nothing_and_hides_nothing() {
    let cluster = Cluster::start(3).await;
    let half = cluster.push("tests/half").await;
    // A node that lets it rest would not merge, and so not record.
    let merging = Some(v1::Merging { pause_after: Some(0), ..Default::default() });
    let lines_of = v1::Keyspace { reconcile: Some(half), merging, ..keyspace("lines", 1, 1) };
    cluster.create(lines_of).await;
    let ids = ids(&cluster).await;

    let cut = async {
        for node in [&cluster[2], &cluster[0]] {
            node.set_isolated(true).await;
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            node.set_isolated(false).await;
        }
    };
    let clients = [0, 1, 2].map(|n| client(n, &cluster[n], ids[n].clone()));
    let [a, b, c] = clients;
    let (a, b, c, ()) = tokio::join!(a, b, c, cut);
    cluster.all_alive().await;
    let mut acknowledged: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut met_by_readers = Vec::new();
    for known in [a, b, c] {
        met_by_readers.extend(known.met);
        for (key, lines) in known.acknowledged {
            acknowledged.entry(key).or_default().extend(lines);
        }
    }

    // One more look at each key from each node: what fails there must be a dead letter there.
    let mut dead = BTreeSet::new();
    for (node, id) in cluster.nodes().iter().zip(&ids) {
        for key in acknowledged.keys() {
            let request = v1::GetRequest { r: Some(3), ..get("lines", key) };
            let answer = node.kv().get(request).await.expect("answered").into_inner();
            let found = met(id, &answer);
            met_by_readers.extend(found.clone());
            if found.is_some_and(|(_, _, is_failure)| is_failure) {
                dead.insert((id.clone(), key.clone()));
            }
        }
    }
    let recorded = on_record(&cluster).await;
    let hidden: Vec<_> = met_by_readers.iter().filter(|met| !recorded.contains(*met)).collect();
    assert!(
        hidden.is_empty(),
        "{} of {} are not on record: {hidden:?}",
        hidden.len(),
        met_by_readers.len()
    );
    let failures = met_by_readers.iter().filter(|(_, _, is_failure)| *is_failure).count();
    assert!(
        failures > 0 && failures < met_by_readers.len(),
        "{failures} of {}",
        met_by_readers.len()
    );
    let letters = must_run(&cluster[0], &["conflicts", "dead", "-k", "lines"]).await;
    let told = letters["letters"].as_array().expect("letters").iter().map(|letter| {
        let text = |field: &str| letter["last"][field].as_str().expect(field).to_owned();
        (text("node"), text("key"))
    });
    let told: BTreeSet<_> = told.collect();
    assert!(dead.is_subset(&told), "{dead:?} are dead, told were {told:?}");

    cluster.push("tests/lines").await;
    must_run(&cluster[1], &["keyspace", "activate", "lines", "lines"]).await;
    eventually("all letters are merged", async || {
        let dead = must_run(&cluster[0], &["conflicts", "dead"]).await;
        must(dead["letters"] == Value::Array(Vec::new()), || dead.to_string())
    })
    .await;
    for (key, wanted) in &acknowledged {
        let request = v1::GetRequest { r: Some(3), ..get("lines", key) };
        let answer = cluster[0].kv().get(request).await.expect("answered").into_inner();
        assert_eq!(answer.versions.len(), 1, "it is merged: {answer:?}");
        let lost: Vec<_> = wanted.difference(&lines(&answer.versions)).cloned().collect();
        assert!(lost.is_empty(), "{key} lost {lost:?}");
    }
}
