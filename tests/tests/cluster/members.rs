//! Who is a member, from the first to the last day: clusters that many make at once, members whose
//! addresses are other ones, nodes that were removed and what they alone hold.

use serde_json::Value;
use stator_proto::v1;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{
    Cluster, Node, eventually, get, keyspace, must, put, refusal, stator, values,
};

/// Runs `stator cluster …` at the admin listener of `at`; its result, and its words if it failed.
async fn cluster(at: &Node, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let admin = ["--admin", at.addresses.admin.as_str(), "--output", "json", "cluster"];
    let output = stator(admin.iter().chain(arguments).copied()).await;
    let result = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), result, String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn waiting(count: usize) -> (tempfile::TempDir, Vec<Node>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = Vec::new();
    for number in 1..=count {
        let name = format!("node-{number}");
        nodes.push(Node::start(folder.path(), &name, &["--bootstrap", "wait"]).await);
    }
    (folder, nodes)
}

#[tokio::test]
async fn inits_at_once_make_one_cluster_and_a_retry_finds_it() {
    let (_folder, nodes) = waiting(3).await;
    let all: Vec<&str> = nodes.iter().map(|node| node.addresses.admin.as_str()).collect();
    // Each in another order, with its own address twice, and one by name.
    let named = all[0].replace("127.0.0.1", "localhost");
    let lists: Vec<String> = (0..3)
        .map(|first| {
            let turned = all.iter().cycle().skip(first).take(4).copied();
            turned.chain([named.as_str()]).collect::<Vec<_>>().join(",")
        })
        .collect();
    let made = futures::future::join_all((0..3).map(|at| {
        let (node, list) = (&nodes[at], lists[at].as_str());
        async move { cluster(node, &["init", "--nodes", list]).await }
    }))
    .await;
    for (code, _, words) in &made {
        assert!(matches!(code, Some(0 | 1)), "{words}");
    }
    let mut ids = std::collections::BTreeSet::new();
    for (node, list) in nodes.iter().zip(&lists) {
        let (code, made, words) = cluster(node, &["init", "--nodes", list]).await;
        assert_eq!(code, Some(0), "{words}");
        ids.insert(made["cluster_id"].to_string());
        node.sees_all(3).await;
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let other = ["init", "--nodes", &lists[0], "--partitions", "512"];
    let (code, _, words) = cluster(&nodes[0], &other).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("CLUSTER_EXISTS") && words.contains("256"), "{words}");
}

#[tokio::test]
async fn members_that_have_all_moved_find_one_another() {
    let (_folder, mut nodes) = waiting(3).await;
    let all: Vec<&str> = nodes.iter().map(|node| node.addresses.admin.as_str()).collect();
    let (code, _, words) = cluster(&nodes[0], &["init", "--nodes", &all.join(",")]).await;
    assert_eq!(code, Some(0), "{words}");
    // All of them first: who has seen one stop does not see it alive.
    for node in &nodes {
        node.sees_all(3).await;
    }
    for node in &mut nodes {
        node.signal(libc::SIGTERM);
        assert!(node.ended().await);
    }
    // By a seed that all but one have, written as a name.
    nodes[0].restart_elsewhere(&[]).await;
    let seed = nodes[0].addresses.peer.replace("127.0.0.1", "localhost");
    for node in &mut nodes[1..] {
        node.restart_elsewhere(&["--seeds", &seed]).await;
    }
    // All of them first: who has seen one stop does not see it alive.
    for node in &nodes {
        node.sees_all(3).await;
    }
    for node in &mut nodes {
        node.signal(libc::SIGTERM);
        assert!(node.ended().await);
    }
    // By hand.
    for node in &mut nodes {
        node.restart_elsewhere(&[]).await;
    }
    for other in [1, 2] {
        let address = nodes[other].addresses.peer.clone();
        let (code, met, words) = cluster(&nodes[0], &["introduce", &address]).await;
        assert_eq!((code, &met["is_member"]), (Some(0), &Value::Bool(true)), "{words}");
    }
    for node in &nodes {
        node.sees_all(3).await;
    }
}

async fn health(node: &Node, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(node.client_channel()).check(request).await;
    answer.expect("health answers").into_inner().status()
}

/// Waits until `node` says that it was removed, and checks that it serves nothing then.
async fn serves_nothing(node: &Node, case: &str) {
    eventually("the removed node hears of it", async || {
        let status = node.status().await?;
        must(status.state() == v1::NodeState::Removed, || format!("{:?}", status.state()))
    })
    .await;
    let refused = refusal(Code::FailedPrecondition, "NODE_REMOVED", &["removed", "ring version"]);
    refused.check(case, node.kv().put(put("alone", "late", "never")).await);
    refused.check(case, node.kv().get(get("alone", "key 0")).await);
    refused.check(case, node.kv().put(put("no such keyspace", "", "")).await);
    for service in ["", "stator.v1.Kv", "stator.v1.Routing"] {
        assert_eq!(health(node, service).await, ServingStatus::NotServing, "{case}: {service}");
    }
}

#[tokio::test]
async fn a_removed_node_serves_nothing_and_what_it_alone_holds_comes_home() {
    let mut nodes = Cluster::start(3).await;
    nodes.create(keyspace("alone", 1, 1)).await;
    assert_eq!(health(&nodes[2], "").await, ServingStatus::Serving);
    let gone = nodes[2].addresses.node.clone();
    nodes[0].kill().await;
    nodes[1].kill().await;
    for number in 0..5 {
        let key = format!("key {number}");
        eventually("the node that is left takes a write", async || {
            let written = nodes[2].kv().put(put("alone", &key, "mine")).await;
            written.map(drop).map_err(|status| status.to_string())
        })
        .await;
    }
    nodes[2].kill().await;
    nodes[0].restart().await;
    nodes[1].restart().await;
    let (code, _, words) = cluster(&nodes[0], &["leave", &gone, "--lost"]).await;
    assert_eq!(code, Some(0), "{words}");
    let (code, _, words) = cluster(&nodes[0], &["commit"]).await;
    assert_eq!(code, Some(0), "{words}");
    eventually("its places are taken", async || {
        let status = nodes[0].status().await?;
        let pending = status.cluster.map_or(1, |cluster| cluster.slots_pending);
        must(pending == 0, || format!("{pending} are not"))
    })
    .await;

    nodes[2].restart().await;
    serves_nothing(&nodes[2], "told").await;
    nodes[2].signal(libc::SIGKILL);
    assert!(!nodes[2].ended().await);
    // It remembers, though nobody can tell it again.
    nodes[2].restart().await;
    serves_nothing(&nodes[2], "after a restart").await;
    let (code, shown, words) = cluster(&nodes[2], &["status"]).await;
    assert_eq!((code, &shown["nodes"][0]["state"]), (Some(0), &Value::from("removed")), "{words}");
    let (_, shown, _) = cluster(&nodes[0], &["status"]).await;
    assert_eq!(shown["nodes"].as_array().map(Vec::len), Some(2), "nobody waits for it: {shown}");

    let source = nodes[2].addresses.admin.clone();
    let (code, found, words) = cluster(&nodes[0], &["recover", &source, "--dry-run"]).await;
    assert_eq!(
        (code, &found["brought"], &found["doubtful"]),
        (Some(0), &5.into(), &0.into()),
        "{found} {words}"
    );
    refusal(Code::FailedPrecondition, "NOT_REMOVED", &["member"])
        .check("a member", nodes[1].admin().list_held(v1::ListHeldRequest::default()).await);
    let (code, found, words) = cluster(&nodes[1], &["recover", &source]).await;
    assert_eq!(
        (code, &found["brought"], &found["waiting"]),
        (Some(0), &5.into(), &0.into()),
        "{found} {words}"
    );
    for node in &nodes.nodes()[..2] {
        for number in 0..5 {
            let read = node.kv().get(get("alone", &format!("key {number}"))).await;
            assert!(values(read.expect("a member answers").get_ref()).contains("mine"));
        }
    }
    let (code, found, words) = cluster(&nodes[0], &["recover", &source]).await;
    assert_eq!((code, &found["brought"]), (Some(0), &0.into()), "once: {found} {words}");
}

/// Two that were removed together are each other's company: with w = 2 they acknowledge, strictly
/// or not, until a member tells them. That comes home too.
#[tokio::test]
async fn what_two_removed_nodes_acknowledged_before_they_were_told_comes_home() {
    let mut nodes = Cluster::start(5).await;
    nodes.create(keyspace("alone", 1, 2)).await;
    let (kept, gone) = nodes.nodes_mut().split_at_mut(3);
    // Not killed: a process that starts waits until a majority accepts it.
    for node in &*gone {
        node.pause();
    }
    for node in &*gone {
        let leave = ["leave", &node.addresses.node, "--lost"];
        let (code, _, words) = cluster(&kept[0], &leave).await;
        assert_eq!(code, Some(0), "{words}");
    }
    let (code, _, words) = cluster(&kept[0], &["commit"]).await;
    assert_eq!(code, Some(0), "{words}");
    for node in &*kept {
        // Or one of them comes back as a member of the old ring, to which the removed ones belong.
        eventually("it knows the new ring, and has it on disk", async || {
            let known = node.status().await?.cluster.unwrap_or_default();
            must(known.ring_version == 2 && known.slots_pending == 0, || format!("{known:?}"))
        })
        .await;
    }
    // Not paused: contact lasts until a silent connection is given up.
    for node in &mut *kept {
        node.signal(libc::SIGKILL);
        assert!(!node.ended().await);
    }
    for node in &*gone {
        node.signal(libc::SIGCONT);
    }
    // What they write before counts as doubtful: it may have gone out with a session's last bytes.
    for (node, other) in gone.iter().flat_map(|node| kept.iter().map(move |other| (node, other))) {
        eventually("the end of a session with a member is noted", async || {
            let path = node.data_dir.join("contact");
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            let end = format!("\"{}\":", other.addresses.node);
            let is_noted = text.contains(&end) && !text.contains(&format!("{end}null"));
            must(is_noted, || text.clone())
        })
        .await;
    }
    eventually("they serve each other", async || {
        let written = gone[0].kv().put(put("alone", "probe", "mine")).await;
        written.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let mut acknowledged = Vec::new();
    for quorum in [v1::Quorum::Strict, v1::Quorum::Sloppy] {
        let name = quorum.as_str_name();
        let before = acknowledged.len();
        for number in 0..100 {
            let key = format!("{name} {number}");
            let write = v1::PutRequest { quorum: quorum.into(), ..put("alone", &key, "mine") };
            let written = gone[number % 2].kv().put(write).await;
            acknowledged.extend(written.ok().map(|_| key));
        }
        let count = acknowledged.len() - before;
        println!("{name}: {count} of 100 acknowledged by removed nodes");
        assert!(count > 0, "of some keys both are owners");
    }
    for node in &mut *kept {
        node.restart().await;
    }
    for node in &*gone {
        serves_nothing(node, "told").await;
    }
    for node in &*gone {
        let source = node.addresses.admin.clone();
        let (code, found, words) = cluster(&kept[0], &["recover", &source]).await;
        let left = (&found["doubtful"], &found["waiting"]);
        assert_eq!((code, left), (Some(0), (&0.into(), &0.into())), "{found} {words}");
    }
    for key in acknowledged {
        let read = kept[1].kv().get(v1::GetRequest { r: Some(3), ..get("alone", &key) }).await;
        assert!(values(read.expect("members answer").get_ref()).contains("mine"), "{key}");
    }
}

/// The rule of the smaller id decides between two connections, not who may dial.
#[tokio::test]
async fn a_member_that_moves_is_found_by_all_whichever_id_it_has() {
    let mut nodes = Cluster::start(3).await;
    for moved in 0..3 {
        let node = &mut nodes.nodes_mut()[moved];
        node.signal(libc::SIGTERM);
        assert!(node.ended().await);
        node.restart_elsewhere(&[]).await;
        nodes.all_alive().await;
        for node in nodes.nodes() {
            let address = &nodes.nodes()[moved].addresses.peer;
            eventually("it is known at its new address", async || {
                let status = node.status().await?;
                let members = status.members.iter().filter_map(|view| view.member.as_ref());
                let known = members.into_iter().any(|member| member.peer_address == *address);
                must(known, || format!("{address}: {:?}", status.members))
            })
            .await;
        }
    }
}
