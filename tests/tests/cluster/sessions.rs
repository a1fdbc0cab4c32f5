//! Sessions and conditions: reading one's own writes, and writing only what was not changed.

use stator_proto::v1;

use crate::support::{Cluster, get, keyspace, put, values};

fn reason<T>(answer: Result<T, tonic::Status>) -> Option<String> {
    answer.err().map(|status| stator_client::Error::from(status).reason().to_owned())
}

#[tokio::test]
async fn a_get_waits_for_what_its_session_has_seen_though_one_owner_answers() {
    let cluster = Cluster::start(3).await;
    // One owner takes a put, and one answers a get: without a session they may be two.
    cluster.create(keyspace("data", 1, 1)).await;
    for round in 0..40 {
        let key = format!("key-{round}");
        let written = cluster[round % 3].kv().put(put("data", &key, "mine")).await;
        let dot = written.expect("acknowledged").into_inner().dot;
        let session = v1::GetRequest { at_least: vec![dot], ..get("data", &key) };
        let found = cluster[(round + 1) % 3].kv().get(session).await.expect("it is there");
        assert!(values(found.get_ref()).contains("mine"), "round {round}: {found:?}");
    }
    let unknown = "0123456789abcdef.0123456789abcdef.1:7".to_owned();
    let ahead = v1::GetRequest { at_least: vec![unknown.clone()], ..get("data", "key-1") };
    assert_eq!(reason(cluster[0].kv().get(ahead).await).as_deref(), Some("SESSION_BEHIND"));
    let forgotten = v1::GetRequest { at_least: vec![unknown], ..get("data", "never-written") };
    cluster[0].kv().get(forgotten).await.expect("what all have forgotten was deleted");
    let nonsense = v1::GetRequest { at_least: vec!["x".to_owned()], ..get("data", "key-1") };
    assert_eq!(reason(cluster[0].kv().get(nonsense).await).as_deref(), Some("BAD_DOT"));
}

#[tokio::test]
async fn a_put_is_made_only_of_what_is_there() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let only = |value: &str, context: Option<bytes::Bytes>| v1::PutRequest {
        only_if_current: true,
        contexts: context.into_iter().collect(),
        ..put("data", "k", value)
    };
    let first = cluster[0].kv().put(only("1", None)).await.expect("there is nothing").into_inner();
    let again = cluster[1].kv().put(only("2", None)).await;
    assert_eq!(reason(again).as_deref(), Some("CHANGED"), "there is something");
    let second =
        cluster[2].kv().put(only("2", first.context.clone())).await.expect("it is current");
    let late = cluster[0].kv().put(only("3", first.context.clone())).await;
    assert_eq!(reason(late).as_deref(), Some("CHANGED"), "another was first");
    let delete = |context: Option<bytes::Bytes>| v1::DeleteRequest {
        keyspace: "data".to_owned(),
        key: "k".into(),
        contexts: context.into_iter().collect(),
        only_if_current: true,
        ..Default::default()
    };
    assert_eq!(
        reason(cluster[1].kv().delete(delete(first.context)).await).as_deref(),
        Some("CHANGED")
    );
    let found = cluster[1].kv().get(get("data", "k")).await.expect("answered").into_inner();
    assert_eq!(values(&found), ["2".to_owned()].into(), "nothing was written by those");
    cluster[1].kv().delete(delete(second.into_inner().context)).await.expect("it is current");

    // Of those who all have seen the same, few get through; none replaces another's.
    let seen = cluster[0].kv().get(get("data", "k")).await.expect("answered").into_inner().context;
    let tries = (0..12).map(|number| {
        let request = only(&number.to_string(), seen.clone());
        let mut kv = cluster[number % 3].kv();
        async move { kv.put(request).await.is_ok().then(|| number.to_string()) }
    });
    let made: std::collections::BTreeSet<String> =
        futures::future::join_all(tries).await.into_iter().flatten().collect();
    let found = cluster[2].kv().get(get("data", "k")).await.expect("answered").into_inner();
    assert!(!made.is_empty() && made.is_subset(&values(&found)), "{made:?} of {found:?}");

    // A retry of a named one is the same write.
    let named = v1::PutRequest { request_id: "one".into(), key: "n".into(), ..only("1", None) };
    let dots = [
        cluster[0].kv().put(named.clone()).await.expect("made").into_inner().dot,
        cluster[0].kv().put(named).await.expect("recognised").into_inner().dot,
    ];
    assert_eq!(dots[0], dots[1]);
}
