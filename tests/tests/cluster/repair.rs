//! Replicas that differ though nobody reads them: found by their hash trees, and repaired.

use std::path::Path;

use futures::StreamExt;
use stator_proto::v1;

use crate::support::{
    Cluster, Node, eventually, get, keyspace, must, nothing_is_lost, put, refusal, stator, values,
};

const KEYS: usize = 60;

/// Flags for nodes that compare all they own in so many milliseconds, 0 for never.
fn covering_in(folder: &Path, cover_ms: u64) -> Vec<String> {
    let path = folder.join(format!("cover-{cover_ms}.toml"));
    let text = format!("[timings]\nexchange_cover_ms = {cover_ms}\n");
    std::fs::write(&path, text).expect("a settings file");
    vec!["--config".to_owned(), path.display().to_string()]
}

fn key(number: usize) -> String {
    format!("key-{number}")
}

async fn objects(node: &Node) -> Result<u64, String> {
    let status = node.status().await?;
    let data = status.stores.iter().find(|store| store.name == "data");
    data.map(|store| store.objects).ok_or_else(|| "it has no data store".to_owned())
}

/// Three nodes, of which the last one missed all writes while it was cut off, and the hints for it
/// are gone with their disks.
async fn one_is_behind(cover_ms: u64) -> (Cluster, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_with(3, |_| covering_in(folder.path(), cover_ms)).await;
    cluster.create(keyspace("behind", 2, 2)).await;
    cluster[2].set_isolated(true).await;
    for number in 0..KEYS {
        let put = put("behind", &key(number), &format!("the value of {}", key(number)));
        cluster[0].kv().put(put).await.expect("two of three are there");
    }
    for node in &mut cluster.nodes_mut()[..2] {
        node.kill().await;
        let hints = node.data_dir.join("hints");
        std::fs::remove_dir_all(&hints).expect("its hints are there");
        node.restart().await;
    }
    assert_eq!(objects(&cluster[2]).await, Ok(0));
    cluster[2].set_isolated(false).await;
    cluster.all_alive().await;
    (cluster, folder)
}

/// The last node answers for all keys with nobody left to ask.
async fn answers_alone(cluster: &mut Cluster) {
    cluster[0].kill().await;
    cluster[1].kill().await;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    // What reaches a node right after a pause may have waited in it, and is refused.
    eventually("it holds everything itself", async || {
        nothing_is_lost(&cluster[2], "behind", 1, &keys).await
    })
    .await;
}

async fn repair(node: &Node, more: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    let mut arguments = vec!["cluster", "repair", "--output", "json", "--admin"];
    arguments.push(&node.addresses.admin);
    arguments.extend(more);
    let output = stator(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

#[tokio::test]
async fn what_nobody_reads_is_found_and_repaired_on_demand() {
    let (mut cluster, _folder) = one_is_behind(0).await;
    // Nothing repairs it by itself: no hint is left, nobody reads, no schedule runs.
    let status = cluster[2].status().await.expect("it runs");
    let figures = status.anti_entropy.expect("it tells");
    assert_eq!((figures.exchanges, figures.keys_repaired), (0, 0), "{figures:?}");
    assert_eq!(objects(&cluster[2]).await, Ok(0));

    let (code, found, said) = repair(&cluster[1], &["--keyspace", "none"]).await;
    assert_eq!((code, found.is_null()), (Some(3), true), "{said}");
    assert!(said.contains("UNKNOWN_KEYSPACE"), "{said}");
    let (code, _, said) = repair(&cluster[1], &["--partition", "256"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("OUT_OF_RANGE") && said.contains("256"), "{said}");

    // Both others hold what the third lacks; it is sent by the one that leads the partition, and
    // the nodes rebuild their trees first, because two of them were killed.
    let (code, found, said) = repair(&cluster[1], &["--keyspace", "behind"]).await;
    assert_eq!(code, Some(0), "{found} {said}");
    assert_eq!(found["partitions"], 256, "{found}");
    assert_eq!(found["partitions_done"], 256, "{found}");
    assert_eq!(found["keys_differed"], KEYS, "{found}");
    assert_eq!(found["keys_repaired"], KEYS, "{found}");
    assert_eq!(objects(&cluster[2]).await, Ok(KEYS as u64));

    let (code, again, said) = repair(&cluster[2], &[]).await;
    assert_eq!((code, &again["keys_differed"]), (Some(0), &0.into()), "{again} {said}");

    // An owner that is away is named, and the exit code says that not all is known.
    cluster[2].pause();
    let (code, found, said) = repair(&cluster[0], &["--partition", "7"]).await;
    assert_eq!((code, &found["partitions_failed"]), (Some(4), &1.into()), "{found} {said}");
    let third = cluster[2].addresses.node.clone();
    assert!(said.contains(&third), "{said}");
    cluster[2].signal(libc::SIGCONT);
    answers_alone(&mut cluster).await;
}

/// `STATOR_REPAIR_KEYS` sets how many keys there are (3,000 by default). Prints how long it took.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_among_many_is_found_without_comparing_the_others() {
    let many = std::env::var("STATOR_REPAIR_KEYS").ok().and_then(|count| count.parse().ok());
    let many: u64 = many.unwrap_or(3_000);
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_with(3, |_| covering_in(folder.path(), 0)).await;
    cluster.create(keyspace("many", 2, 2)).await;
    let kv = cluster[0].kv();
    let load = async |number: u64| {
        let request = v1::PutRequest { w: Some(3), ..put("many", &format!("{number}"), "a value") };
        kv.clone().put(request).await.map(drop)
    };
    let mut loads = futures::stream::iter(0..many).map(load).buffer_unordered(128);
    while let Some(loaded) = loads.next().await {
        loaded.expect("all three take it");
    }
    drop(loads);
    cluster[2].set_isolated(true).await;
    cluster[0].kv().put(put("many", "7", "another")).await.expect("two of three are there");
    for node in &mut cluster.nodes_mut()[..2] {
        node.kill().await;
        std::fs::remove_dir_all(node.data_dir.join("hints")).expect("its hints are there");
        node.restart().await;
    }
    cluster[2].set_isolated(false).await;
    cluster.all_alive().await;
    eventually("the trees are counted anew", async || {
        for node in cluster.nodes() {
            let figures = node.status().await?.anti_entropy.unwrap_or_default();
            must(figures.trees_ready, || format!("{figures:?}"))?;
        }
        Ok(())
    })
    .await;

    let started = std::time::Instant::now();
    let (code, found, said) = repair(&cluster[1], &[]).await;
    println!("{many} keys, one differs: repaired after {:?}, {found}", started.elapsed());
    assert_eq!(code, Some(0), "{found} {said}");
    assert_eq!((&found["keys_differed"], &found["keys_repaired"]), (&1.into(), &1.into()));
    let compared = found["keys_compared"].as_u64().expect("it tells");
    assert!(compared * 20 < many, "{compared} keys were compared");
}

#[tokio::test]
async fn what_nobody_reads_is_found_and_repaired_by_the_schedule() {
    let (mut cluster, _folder) = one_is_behind(2_000).await;
    eventually("all is repaired", async || {
        let held = objects(&cluster[2]).await?;
        must(held == KEYS as u64, || format!("{held} of {KEYS}"))
    })
    .await;
    answers_alone(&mut cluster).await;
}

#[tokio::test]
async fn an_unclean_stop_of_a_buffered_keyspace_is_followed_by_a_comparison() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_with(3, |_| covering_in(folder.path(), 0)).await;
    let durability = v1::Durability::Buffered.into();
    cluster.create(v1::Keyspace { durability, ..keyspace("quick", 1, 2) }).await;
    cluster[1].kv().put(put("quick", "k", "v")).await.expect("acknowledged");
    cluster[0].kill().await;
    cluster[0].restart().await;
    // 256 partitions, two other owners.
    eventually("everything is compared", async || {
        let figures = cluster[0].status().await?.anti_entropy.ok_or("it does not tell")?;
        must(figures.trees_ready && figures.exchanges >= 512, || format!("{figures:?}"))
    })
    .await;
    cluster[1].kill().await;
    cluster[2].kill().await;
    let read = cluster[0].kv().get(get("quick", "k")).await.expect("answered").into_inner();
    assert!(values(&read).contains("v"), "{read:?}");
}

#[tokio::test]
async fn an_unknown_repair_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let unknown = refusal(tonic::Code::NotFound, "UNKNOWN_REPAIR", &["ask the node"]);
    for id in ["0000000000000001", "", "nonsense", "-1", "ffffffffffffffffff"] {
        let request = v1::GetRepairRequest { id: id.to_owned() };
        unknown.check(id, node.admin().get_repair(request).await);
    }
    // A node alone has nobody to compare with.
    let alone = node.admin().start_repair(v1::StartRepairRequest::default()).await;
    let alone = alone.expect("it starts").into_inner();
    assert!(alone.is_done && alone.partitions == 256, "{alone:?}");
}
