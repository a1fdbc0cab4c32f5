//! Two regions on real processes: local quorums, one region cut off, and back.

use stator_client::Client;
use stator_proto::v1;

use crate::conflicts::{must_run, run};
use crate::support::{
    Cluster, Writer, eventually, get, keyspace, must, nothing_is_lost, put, values,
};

fn local(value: &str) -> v1::PutRequest {
    v1::PutRequest { quorum: v1::Quorum::Local.into(), ..put("data", "k", value) }
}

/// A put that every owner knows again.
fn named(number: u8, value: &str) -> v1::PutRequest {
    let request_id = format!("{value} {number}").into();
    v1::PutRequest { key: format!("named-{number}").into(), request_id, ..local(value) }
}

#[tokio::test]
async fn a_region_goes_on_alone_and_the_other_has_all_when_it_is_back() {
    let cluster = Cluster::start_with(4, |number| {
        let region = if number <= 2 { "eu" } else { "us" };
        let zone = format!("{region}-{}", number % 2);
        ["--region", region, "--zone", &zone].map(str::to_owned).to_vec()
    })
    .await;
    // As many owners as `cluster init` allows by default: three, two of them in one region.
    cluster.create(keyspace("data", 2, 2)).await;
    let status = must_run(&cluster[0], &["cluster", "status"]).await;
    assert!(status.to_string().contains("\"eu\""), "{status}");
    for node in cluster.nodes() {
        let written = node.kv().put(local("together")).await;
        let found = written.map(|answer| answer.into_inner().acked);
        // A key may have one owner in a region, or two: the majority is that many.
        assert!(found.as_ref().is_ok_and(|acked| (1..=2).contains(acked)), "{found:?}");
    }
    let here = cluster.nodes()[..2].iter().map(|node| node.addresses.client.clone());
    let client = Client::connect(here).expect("addresses");
    for number in 0..20 {
        // It knows all owners by the ring soon, those of the other region too.
        client.send_put(named(number, "before")).await.expect("a local quorum is there");
    }
    for place in [2, 3] {
        cluster[place].set_isolated(true).await;
    }
    for number in 0..20 {
        client.send_put(named(number, "after")).await.expect("a local quorum is there");
        let key = format!("named-{number}");
        let request = v1::GetRequest { quorum: v1::Quorum::Local.into(), ..get("data", &key) };
        let found = cluster[0].kv().get(request).await.expect("answered").into_inner();
        assert!(
            values(&found).contains("after"),
            "{number} was put in the other region: {found:?}"
        );
    }
    // What is isolated is cut off from everybody; the others are two, and go on.
    let writer = Writer::start("w", "data", &cluster.nodes()[..2]);
    writer.acknowledges(300).await;
    let alone = v1::PutRequest { key: "alone".into(), ..local("here") };
    cluster[0].kv().put(alone).await.expect("a local quorum is there");
    let request = v1::GetRequest { quorum: v1::Quorum::Local.into(), ..get("data", "alone") };
    let found = cluster[1].kv().get(request).await.expect("answered").into_inner();
    assert!(values(&found).contains("here"));
    let got = run(&cluster[0], &["kv", "get", "alone", "-k", "data", "--local-quorum"]).await;
    assert!(got.is_ok(), "{got:?}");
    let (acknowledged, _) = writer.stop().await;
    for place in [2, 3] {
        cluster[place].set_isolated(false).await;
    }
    cluster.all_alive().await;
    cluster.all_delivered().await;
    for node in cluster.nodes() {
        nothing_is_lost(node, "data", 2, &acknowledged).await.expect("nothing is lost");
    }
    eventually("the other region has it", async || {
        let request = v1::GetRequest { quorum: v1::Quorum::Local.into(), ..get("data", "alone") };
        let found = cluster[3].kv().get(request).await.map_err(|status| status.to_string())?;
        must(values(found.get_ref()).contains("here"), || format!("{found:?}"))
    })
    .await;
}
