//! Quotas on real nodes: a keyspace that is full takes what does not grow, and the next one everything.

use serde_json::Value;
use stator_proto::v1;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::conflicts::must_run;
use crate::support::{Cluster, Node, Refusal, eventually, get, keyspace, must, put, refusal};

const OVER_KEYS: Refusal =
    refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED", &["its quota is 5", "--quota-keys"]);
const OVER_BYTES: Refusal =
    refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED", &["its quota is 102400", "--quota-bytes"]);

type Put = Result<Response<v1::PutResponse>, Status>;

/// A put that all owners have when it is answered.
async fn put_to_all(node: &Node, keyspace: &str, key: &str, value: &str) -> Put {
    node.kv().put(v1::PutRequest { w: Some(3), ..put(keyspace, key, value) }).await
}

async fn delete(node: &Node, keyspace: &str, key: &str) {
    let (keyspace, key) = (keyspace.to_owned(), key.to_owned().into());
    let request = v1::DeleteRequest { keyspace, key, observed: true, ..Default::default() };
    node.kv().delete(request).await.expect("a delete is never refused for a quota");
}

/// Waits until every node tells that there are so many keys, and that all three hold the same.
async fn holds(cluster: &Cluster, name: &str, keys: u64) -> Vec<Value> {
    let mut usages = Vec::new();
    for node in cluster.nodes() {
        let usage = eventually("all have told what they hold", async || {
            let told = must_run(node, &["keyspace", "describe", name]).await["usage"].clone();
            let [one, all] = ["bytes", "stored_bytes"].map(|name| told[name].as_u64());
            let is_known = told["members_unknown"] == 0 && told["keys"] == keys;
            must(is_known && one.map(|one| 3 * one) == all, || told.to_string()).map(|()| told)
        });
        usages.push(usage.await);
    }
    usages
}

#[tokio::test]
async fn a_full_keyspace_refuses_what_grows_until_there_is_room_or_a_larger_quota() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("free", 2, 2)).await;
    let few = v1::Quota { keys: 5, ..Default::default() };
    cluster.create(v1::Keyspace { quota: Some(few), ..keyspace("few", 2, 2) }).await;
    let create = ["keyspace", "create", "small", "-n", "3", "--quota-bytes", "100KiB"];
    let small = must_run(&cluster[0], &create).await;
    assert_eq!(small["quota"]["bytes"], 102_400, "{small}");
    holds(&cluster, "few", 0).await;

    for number in 0..5 {
        let node = &cluster[number % 3];
        put_to_all(node, "few", &format!("key {number}"), "x").await.expect("there is room");
    }
    for node in cluster.nodes() {
        let refused = put_to_all(node, "few", "one more", "x").await;
        let details = refused.as_ref().expect_err("it is full").get_error_details();
        assert!(details.retry_info().is_none(), "it does not pass by itself: {details:?}");
        OVER_KEYS.check("a sixth key", refused);
    }
    put_to_all(&cluster[1], "few", "key 0", "another").await.expect("there is no key more");
    put_to_all(&cluster[1], "free", "one more", "x").await.expect("of another keyspace");
    holds(&cluster, "few", 5).await;
    delete(&cluster[2], "few", "key 1").await;
    eventually("the room of what is deleted is there for others", async || {
        let taken = put_to_all(&cluster[0], "few", "one more", "x").await;
        taken.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let raise = ["keyspace", "update", "few", "--quota-keys", "6"];
    assert_eq!(must_run(&cluster[2], &raise).await["quota"]["keys"], 6);
    for node in [0, 1] {
        eventually("a larger quota holds everywhere", async || {
            let taken = put_to_all(&cluster[node], "few", "the sixth", "x").await;
            taken.map(drop).map_err(|status| status.to_string())
        })
        .await;
    }
    holds(&cluster, "few", 6).await;

    let value = "y".repeat(20 << 10);
    for number in 0..4 {
        let key = format!("key {number}");
        put_to_all(&cluster[number % 3], "small", &key, &value).await.expect("there is room");
    }
    OVER_BYTES.check("a fifth value", put_to_all(&cluster[0], "small", "key 4", &value).await);
    let found = cluster[0].kv().get(get("small", "key 0")).await.expect("answered").into_inner();
    let contexts: Vec<_> = found.context.into_iter().collect();
    let replace = |value: &str| v1::PutRequest {
        contexts: contexts.clone(),
        w: Some(3),
        ..put("small", "key 0", value)
    };
    OVER_BYTES.check("a larger one", cluster[1].kv().put(replace(&value.repeat(2))).await);
    cluster[1].kv().put(replace("short")).await.expect("what makes a key smaller is taken");

    // After a kill it is counted anew.
    let before = holds(&cluster, "small", 4).await;
    cluster.nodes_mut()[2].kill().await;
    cluster.nodes_mut()[2].restart().await;
    assert_eq!(holds(&cluster, "small", 4).await, before);
    assert_eq!(holds(&cluster, "few", 6).await.len(), 3);
}

#[tokio::test]
async fn a_quota_on_requests_limits_its_keyspace_alone() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("free", 2, 2)).await;
    let quota = Some(v1::Quota { requests_per_second: 3, ..Default::default() });
    cluster.create(v1::Keyspace { quota, ..keyspace("slow", 2, 2) }).await;
    let refused = eventually("more than its share is refused", async || {
        match cluster[0].kv().get(get("slow", "k")).await {
            Ok(_) => Err("taken".to_owned()),
            Err(status) => Ok(status),
        }
    })
    .await;
    let details = refused.get_error_details();
    let wait = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(wait.is_some_and(|wait| !wait.is_zero()), "{details:?}");
    let says = &["3 requests a second", "--quota-requests"];
    let expected = refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED", says);
    expected.check("a request too many", Err::<Response<()>, _>(refused));
    for _ in 0..50 {
        cluster[0].kv().get(get("free", "k")).await.expect("of another keyspace");
    }
    // The client of the command line comes back when it is told to.
    for _ in 0..3 {
        must_run(&cluster[0], &["kv", "put", "k", "v", "-k", "slow"]).await;
    }
    must_run(&cluster[1], &["keyspace", "update", "slow", "--quota-requests", "0"]).await;
    eventually("without a quota all are taken", async || {
        for _ in 0..50 {
            let taken = cluster[0].kv().get(get("slow", "k")).await;
            taken.map_err(|status| status.to_string())?;
        }
        Ok(())
    })
    .await;
}
