//! Bad gets, puts and deletes.

use stator_proto::v1;
use tonic::Code::{
    FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unimplemented,
};
use tonic::codegen::Bytes;

use super::node;
use crate::support::{Node, Refusal, get, keyspace, put, refusal};

const KEY_EMPTY: Refusal = refusal(InvalidArgument, "KEY_EMPTY", &["key", "at least one byte"]);
const KEY_LONG: Refusal =
    refusal(InvalidArgument, "KEY_TOO_LARGE", &["65 bytes", "key_bytes_max is 64"]);
const NO_KEYSPACE: Refusal =
    refusal(NotFound, "UNKNOWN_KEYSPACE", &["\"nowhere\"", "keyspace list"]);
const FORGED: Refusal =
    refusal(InvalidArgument, "CONTEXT_FORGED", &["contexts", "another key", "get the key"]);

fn oversized_key() -> String {
    "k".repeat(65)
}

#[tokio::test]
async fn bad_gets_are_refused() {
    let (node, _folder) = node().await;
    let good = || get("default", "k");
    let zero = refusal(InvalidArgument, "BAD_QUORUM", &["r=0", "1 to n=1"]);
    let above = refusal(InvalidArgument, "BAD_QUORUM", &["r=2", "1 to n=1"]);
    let table = [
        ("an unknown keyspace", get("nowhere", "k"), NO_KEYSPACE),
        ("an empty key", get("default", ""), KEY_EMPTY),
        ("an oversized key", get("default", &oversized_key()), KEY_LONG),
        ("r = 0", v1::GetRequest { r: Some(0), ..good() }, zero),
        ("r above n", v1::GetRequest { r: Some(2), ..good() }, above),
        (
            "an unknown view",
            v1::GetRequest { view: 99, ..good() },
            refusal(Unimplemented, "NOT_OFFERED", &["view 99"]),
        ),
        (
            "an unknown quorum",
            v1::GetRequest { quorum: 99, ..good() },
            refusal(Unimplemented, "NOT_OFFERED", &["quorum 99"]),
        ),
    ];
    for (case, request, expected) in table {
        expected.check(case, node.kv().get(request).await);
        node.serves("default", case).await;
    }
}

#[tokio::test]
async fn bad_puts_are_refused() {
    let (node, _folder) = node().await;
    let good = || put("default", "k", "v");
    let oversized_value = "v".repeat(4097);
    let many = (0..17).map(|n| (n.to_string(), String::new())).collect();
    let table = [
        ("an unknown keyspace", put("nowhere", "k", "v"), NO_KEYSPACE),
        ("an empty key", put("default", "", "v"), KEY_EMPTY),
        ("an oversized key", put("default", &oversized_key(), "v"), KEY_LONG),
        (
            "an oversized value",
            put("default", "k", &oversized_value),
            refusal(InvalidArgument, "VALUE_TOO_LARGE", &["4097", "value_bytes_max is 4096"]),
        ),
        (
            "w = 0",
            v1::PutRequest { w: Some(0), ..good() },
            refusal(InvalidArgument, "BAD_QUORUM", &["w=0", "1 to n=1"]),
        ),
        (
            "w above n",
            v1::PutRequest { w: Some(2), ..good() },
            refusal(InvalidArgument, "BAD_QUORUM", &["w=2", "1 to n=1"]),
        ),
        (
            "a long request id",
            v1::PutRequest { request_id: vec![1; 65].into(), ..good() },
            refusal(InvalidArgument, "REQUEST_ID_TOO_LARGE", &["65 bytes", "at most 64"]),
        ),
        (
            "an unknown durability",
            v1::PutRequest { durability: 99, ..good() },
            refusal(Unimplemented, "NOT_OFFERED", &["durability 99"]),
        ),
        (
            "too many labels",
            v1::PutRequest { labels: many, ..good() },
            refusal(InvalidArgument, "LABELS_TOO_LARGE", &["at most 16 labels"]),
        ),
    ];
    for (case, request, expected) in table {
        expected.check(case, node.kv().put(request).await);
        node.serves("default", case).await;
    }
    let read = node.kv().get(get("default", "k")).await.expect("answered").into_inner();
    assert_eq!(read.versions, [], "what was refused changed nothing");
}

#[tokio::test]
async fn more_siblings_than_the_limit_are_refused_until_some_are_replaced() {
    let (node, _folder) = node().await;
    for n in 0..3 {
        node.kv().put(put("default", "k", &n.to_string())).await.expect("within the limit");
    }
    let expected = refusal(ResourceExhausted, "TOO_MANY_SIBLINGS", &["3"]);
    expected.check("a fourth sibling", node.kv().put(put("default", "k", "3")).await);
    let read = node.kv().get(get("default", "k")).await.expect("answered").into_inner();
    let contexts = vec![read.context.expect("complete")];
    let settled = v1::PutRequest { contexts, ..put("default", "k", "settled") };
    node.kv().put(settled).await.expect("it replaces what was seen");
}

async fn context_of(node: &Node, keyspace: &str, key: &str) -> Bytes {
    let read = node.kv().get(get(keyspace, key)).await.expect("answered").into_inner();
    read.context.expect("complete")
}

/// `context` with the bits of one byte, counted from its end if negative, turned over.
fn altered(context: &Bytes, at: isize) -> Bytes {
    let mut altered = context.to_vec();
    let length = altered.len().cast_signed();
    altered[at.rem_euclid(length).cast_unsigned()] ^= 0xff;
    altered.into()
}

#[tokio::test]
async fn contexts_that_were_not_given_out_for_the_key_are_refused() {
    let (node, _folder) = node().await;
    recreate(&node, false).await;
    node.kv().put(put("default", "k", "v")).await.expect("acknowledged");
    node.kv().put(put("other", "k", "v")).await.expect("acknowledged");
    let own = context_of(&node, "default", "k").await;
    let foreign_keyspace = context_of(&node, "other", "k").await;

    let retired = refusal(FailedPrecondition, "CONTEXT_SECRET_UNKNOWN", &["no longer in use"]);
    let large = refusal(InvalidArgument, "CONTEXT_TOO_LARGE", &["257 bytes", "limit is 256"]);
    let table = [
        ("an altered tag", altered(&own, -1), FORGED),
        ("an altered vector", altered(&own, -20), FORGED),
        ("an altered format", altered(&own, 0), FORGED),
        ("a cut context", own.slice(..own.len() - 1), FORGED),
        ("an empty context", Bytes::new(), FORGED),
        ("random bytes", Bytes::from_static(&[1; 10]), FORGED),
        ("another secret", altered(&own, 2), retired),
        ("another key's", context_of(&node, "default", "another").await, FORGED),
        ("another keyspace's", foreign_keyspace.clone(), FORGED),
        ("an oversized context", vec![1; 257].into(), large),
    ];
    for (case, context, expected) in table {
        // A good one beside it helps nothing.
        let contexts = vec![own.clone(), context];
        let request = v1::PutRequest { contexts: contexts.clone(), ..put("default", "k", "bad") };
        expected.check(case, node.kv().put(request).await);
        let request = v1::DeleteRequest { contexts, ..delete("default", "k") };
        expected.check(case, node.kv().delete(request).await);
        node.serves("default", case).await;
    }

    recreate(&node, true).await;
    let contexts = vec![foreign_keyspace];
    let request = v1::PutRequest { contexts, ..put("other", "k", "bad") };
    FORGED.check("a context of the keyspace's predecessor", node.kv().put(request).await);
    node.serves("other", "the predecessor's context").await;
    let read = node.kv().get(get("default", "k")).await.expect("answered").into_inner();
    assert_eq!(read.versions.len(), 1, "what was refused changed nothing");
}

/// Makes the keyspace `other`, after a delete if it exists.
async fn recreate(node: &Node, exists: bool) {
    if exists {
        let request = v1::DeleteKeyspaceRequest { name: "other".to_owned(), ..Default::default() };
        node.admin().delete_keyspace(request).await.expect("deleted");
    }
    let keyspace = Some(v1::Keyspace { n: 1, ..keyspace("other", 1, 1) });
    let request = v1::CreateKeyspaceRequest { keyspace, validate_only: false };
    let made = node.admin().create_keyspace(request).await.expect("created").into_inner();
    assert_eq!(made.generation, if exists { 2 } else { 1 });
}

fn delete(keyspace: &str, key: &str) -> v1::DeleteRequest {
    v1::DeleteRequest {
        keyspace: keyspace.to_owned(),
        key: key.to_owned().into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn bad_deletes_are_refused() {
    let (node, _folder) = node().await;
    node.kv().put(put("default", "k", "v")).await.expect("acknowledged");
    let contexts = vec![context_of(&node, "default", "k").await];
    let good = || v1::DeleteRequest { observed: true, ..delete("default", "k") };
    let table = [
        (
            "no context",
            delete("default", "k"),
            refusal(InvalidArgument, "CONTEXT_MISSING", &["needs the context", "observed"]),
        ),
        (
            "both contexts and observed",
            v1::DeleteRequest { contexts, ..good() },
            refusal(InvalidArgument, "CONTEXT_AND_OBSERVED", &["not both"]),
        ),
        (
            "a long request id",
            v1::DeleteRequest { request_id: vec![1; 65].into(), ..good() },
            refusal(InvalidArgument, "REQUEST_ID_TOO_LARGE", &["65 bytes", "at most 64"]),
        ),
        (
            "w above n",
            v1::DeleteRequest { w: Some(2), ..good() },
            refusal(InvalidArgument, "BAD_QUORUM", &["w=2", "1 to n=1"]),
        ),
        (
            "an unknown keyspace",
            v1::DeleteRequest { observed: true, ..delete("nowhere", "k") },
            NO_KEYSPACE,
        ),
        ("an empty key", v1::DeleteRequest { observed: true, ..delete("default", "") }, KEY_EMPTY),
    ];
    for (case, request, expected) in table {
        expected.check(case, node.kv().delete(request).await);
        node.serves("default", case).await;
    }
    let read = node.kv().get(get("default", "k")).await.expect("answered").into_inner();
    assert_eq!(read.versions.len(), 1, "what was refused changed nothing");
}
