//! Three nodes, and clients that use them as one.

use std::collections::BTreeSet;

use stator_proto::v1;
use tonic_health::pb as health;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Cluster, eventually, get, keyspace, must, put, values};

const LEFT: &str = r#"{"items":{"a:1":{"sku":"tea","quantity":2}},"removed":["b:1"]}"#;
const RIGHT: &str =
    r#"{"items":{"b:1":{"sku":"jam","quantity":1},"b:2":{"sku":"jam","quantity":3}}}"#;
/// Both adds are there but the one that the left cart had taken out.
const MERGED: &str = concat!(
    r#"{"items":{"a:1":{"quantity":2,"sku":"tea"},"b:2":{"quantity":3,"sku":"jam"}},"#,
    r#""removed":["b:1"]}"#
);

fn one(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

#[tokio::test]
async fn three_nodes_serve_as_one() {
    let cluster = Cluster::start(3).await;
    let reconcile = Some(cluster.push_cart().await);
    cluster.create(v1::Keyspace { reconcile, ..keyspace("carts", 2, 2) }).await;
    contexts_replace_what_was_seen(&cluster).await;
    every_node_merges_a_conflict_alike(&cluster).await;
    every_listener_tells_what_it_is(&cluster).await;
}

/// Each step goes through another node: r + w > n, so each sees the one before.
async fn contexts_replace_what_was_seen(cluster: &Cluster) {
    let absent = cluster[0].kv().get(get("carts", "k")).await.expect("answered").into_inner();
    assert_eq!(absent.versions, []);
    let context = absent.context.expect("an absent key has a context");

    let first = v1::PutRequest { contexts: vec![context], ..put("carts", "k", LEFT) };
    let written = cluster[1].kv().put(first).await.expect("acknowledged").into_inner();
    assert!(written.acked >= 2 && !written.siblings_remain, "{written:?}");
    let context = written.context.expect("it is the only version");

    let second = v1::PutRequest { contexts: vec![context], ..put("carts", "k", RIGHT) };
    cluster[2].kv().put(second).await.expect("acknowledged");
    let read = cluster[0].kv().get(get("carts", "k")).await.expect("answered").into_inner();
    assert_eq!(values(&read), one(RIGHT), "what its writer had seen is replaced");
    assert!(read.answered >= 2, "{read:?}");

    let contexts = vec![read.context.expect("complete")];
    let delete = v1::DeleteRequest {
        keyspace: "carts".to_owned(),
        key: "k".into(),
        contexts,
        ..Default::default()
    };
    cluster[1].kv().delete(delete).await.expect("acknowledged");
    for node in cluster.nodes() {
        let gone = node.kv().get(get("carts", "k")).await.expect("answered").into_inner();
        assert_eq!(gone.versions, [], "deleted");
        assert!(gone.context.is_some());
    }
}

async fn every_node_merges_a_conflict_alike(cluster: &Cluster) {
    // By all three, so that whoever writes next certainly holds it.
    let left = v1::PutRequest { w: Some(3), ..put("carts", "cart", LEFT) };
    let left = cluster[0].kv().put(left).await.expect("acknowledged");
    let right = cluster[2].kv().put(put("carts", "cart", RIGHT)).await.expect("acknowledged");
    assert!(right.get_ref().siblings_remain, "a blind put replaces nothing");
    assert_eq!(right.get_ref().context, None, "its writer has not seen the other");

    let mut dots = vec![left.into_inner().dot, right.into_inner().dot];
    dots.sort_unstable();
    for node in cluster.nodes() {
        // Until a node has compiled the module it answers the siblings, with the reason.
        let read = eventually("the module answers", async || {
            let read = node.kv().get(get("carts", "cart")).await.map_err(|s| s.to_string())?;
            let failure = read.get_ref().merge.as_ref().map(|merge| merge.failure.clone());
            must(failure.is_none_or(|why| why.is_empty()), || format!("{read:?}"))?;
            Ok(read.into_inner())
        })
        .await;
        assert_eq!(values(&read), one(MERGED));
        let merge = read.merge.expect("explained");
        assert!(merge.merged && merge.sibling_count == 2, "{merge:?}");
        let mut found = read.versions[0].dots.clone();
        found.sort_unstable();
        assert_eq!(found, dots, "a merge stands for its inputs");
    }
    let siblings = v1::GetRequest { view: v1::View::Siblings.into(), ..get("carts", "cart") };
    let read = cluster[1].kv().get(siblings).await.expect("answered").into_inner();
    let both = BTreeSet::from([LEFT.to_owned(), RIGHT.to_owned()]);
    assert_eq!(values(&read), both, "a view changes nothing");

    let contexts = vec![read.context.expect("complete")];
    let settled = v1::PutRequest { contexts, ..put("carts", "cart", MERGED) };
    let written = cluster[1].kv().put(settled).await.expect("acknowledged").into_inner();
    assert!(!written.siblings_remain, "its writer had seen both");
}

async fn every_listener_tells_what_it_is(cluster: &Cluster) {
    for node in cluster.nodes() {
        let client = ("stator.v1.Kv", node.client_channel());
        let admin = ("stator.v1.Admin", node.admin_channel());
        for (service, channel) in [client, admin] {
            let request = health::HealthCheckRequest { service: service.to_owned() };
            let mut asked = HealthClient::new(channel.clone());
            let answer = asked.check(request).await.expect("health answers").into_inner();
            assert_eq!(answer.status(), health::health_check_response::ServingStatus::Serving);
        }
        let client = ["stator.v1.Kv", "stator.v1.Routing"];
        for (services, channel) in
            [(&client[..], node.client_channel()), (&["stator.v1.Admin"], node.admin_channel())]
        {
            let listed = reflection::services_v1(channel.clone()).await;
            let own: Vec<_> = listed.iter().filter(|name| name.starts_with("stator.")).collect();
            assert_eq!(own, services, "what this listener serves");
            assert_eq!(reflection::services_v1alpha(channel).await, listed);
        }
    }
    the_ring_is_told_once(cluster).await;
    eventually("every node goes by the same catalogue", async || {
        let mut digests = BTreeSet::new();
        for node in cluster.nodes() {
            digests.insert(node.status().await?.cluster.ok_or("no cluster")?.catalogue_digest);
        }
        must(digests.len() == 1, || format!("{digests:?}"))
    })
    .await;
}

/// Both versions of gRPC's reflection, as tools use them.
mod reflection {
    macro_rules! services {
        ($name:ident, $version:ident) => {
            pub async fn $name(channel: tonic::transport::Channel) -> Vec<String> {
                use tonic_reflection::pb::$version as pb;
                let mut client = pb::server_reflection_client::ServerReflectionClient::new(channel);
                let request = pb::ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(
                        pb::server_reflection_request::MessageRequest::ListServices(String::new()),
                    ),
                };
                let asked = futures::stream::iter([request]);
                let answers = client.server_reflection_info(asked).await.expect("reflection");
                let answer = answers.into_inner().message().await.expect("read").expect("one");
                match answer.message_response {
                    Some(
                        pb::server_reflection_response::MessageResponse::ListServicesResponse(list),
                    ) => list.service.into_iter().map(|service| service.name).collect(),
                    other => panic!("{other:?} is no list"),
                }
            }
        };
    }
    services!(services_v1, v1);
    services!(services_v1alpha, v1alpha);
}

/// Whoever holds a ring, packed or not, is not told it again, by any node.
async fn the_ring_is_told_once(cluster: &Cluster) {
    let ask = async |node: usize, request: v1::GetRingRequest| {
        let routing = v1::routing_client::RoutingClient::new(cluster[node].client_channel());
        let mut routing = routing.max_decoding_message_size(64 << 20);
        routing.get_ring(request).await.expect("answered").into_inner()
    };
    let plain = ask(2, v1::GetRingRequest::default()).await;
    let version = plain.ring_version;
    let plain = plain.ring.expect("the client knew none");
    assert_eq!((plain.members.len(), plain.owners.len()), (3, 256));
    assert_eq!(plain.keyspaces.len(), 1, "{:?}", plain.keyspaces);
    let known = v1::GetRingRequest { known_version: version, ..Default::default() };
    assert_eq!(ask(0, known).await.ring, None);

    let packed = v1::GetRingRequest { packed: true, ..Default::default() };
    let told = ask(0, packed.clone()).await;
    let ring = told.ring.expect("the client knew none");
    assert_eq!((ring.owners.len(), ring.packed_owners.len()), (0, 256 * 7));
    for (owners, packed) in plain.owners.iter().zip(ring.packed_owners.chunks(7)) {
        let places =
            packed[1..].chunks(2).map(|place| u32::from(place[0]) << 8 | u32::from(place[1]));
        assert_eq!((packed[0], places.collect::<Vec<_>>()), (3, owners.members[..3].to_vec()));
    }
    let etag = told.etag;
    let again = v1::GetRingRequest { etag, ..packed };
    assert_eq!(ask(1, again.clone()).await.ring, None, "another node");
    let orders = keyspace("orders", 2, 2);
    cluster.create(orders).await;
    let changed = ask(1, again).await;
    assert_eq!(changed.ring_version, version, "the owners are the same");
    assert_eq!(changed.ring.expect("it has changed").keyspaces.len(), 2);
}
