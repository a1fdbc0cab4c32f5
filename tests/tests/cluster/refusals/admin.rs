//! Bad keyspaces and clusters.

use stator_proto::v1;
use tonic::Code::{
    Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unimplemented,
};

use super::node;
use crate::support::refusal;

fn named(name: &str) -> v1::Keyspace {
    v1::Keyspace { name: name.to_owned(), ..Default::default() }
}

fn of_module(digest: &str) -> v1::Keyspace {
    let policy = v1::ReconcilePolicy::Module.into();
    let reconcile =
        Some(v1::Reconcile { policy, module_digest: digest.to_owned(), ..Default::default() });
    v1::Keyspace { reconcile, ..named("bad") }
}

#[tokio::test]
async fn bad_keyspaces_are_refused() {
    let (node, _folder) = node().await;
    let bad_name = refusal(InvalidArgument, "BAD_NAME", &["1 to 64 characters of a-z"]);
    let bad_digest = refusal(InvalidArgument, "BAD_DIGEST", &["module_digest"]);
    let bad_quorum = |says| refusal(InvalidArgument, "BAD_QUORUM", says);
    let nowhere = "0".repeat(64);
    let unknown = v1::Reconcile { policy: 99, ..Default::default() };
    let table = [
        ("no name", named(""), bad_name),
        ("capitals", named("Carts"), bad_name),
        ("a leading dot", named(".carts"), bad_name),
        ("a long name", named(&"k".repeat(65)), bad_name),
        (
            "r above n",
            v1::Keyspace { n: 1, r: 2, ..named("bad") },
            bad_quorum(&["n=1, r=2", "from 1 to n"]),
        ),
        (
            "w above n",
            v1::Keyspace { n: 1, w: 2, ..named("bad") },
            bad_quorum(&["w=2", "from 1 to n"]),
        ),
        (
            "n above the ring's",
            v1::Keyspace { n: 4, ..named("bad") },
            refusal(FailedPrecondition, "TOO_MANY_REPLICAS", &["n=4", "3 owners"]),
        ),
        (
            "a name that is taken",
            named("default"),
            refusal(AlreadyExists, "KEYSPACE_EXISTS", &["\"default\" exists"]),
        ),
        (
            "an unknown module",
            of_module(&nowhere),
            refusal(NotFound, "UNKNOWN_MODULE", &["000000", "push it first"]),
        ),
        ("no module", of_module(""), bad_digest),
        ("no digest", of_module("cart"), bad_digest),
        (
            "a fold without a module",
            v1::Keyspace {
                reconcile: Some(v1::Reconcile { fold: true, ..Default::default() }),
                ..named("bad")
            },
            refusal(InvalidArgument, "FOLD_WITHOUT_MODULE", &["only the policy `module` folds"]),
        ),
        (
            "an unknown policy",
            v1::Keyspace { reconcile: Some(unknown), ..named("bad") },
            refusal(Unimplemented, "NOT_OFFERED", &["keyspace.reconcile.policy"]),
        ),
    ];
    for (case, keyspace, expected) in table {
        for validate_only in [true, false] {
            let keyspace = Some(keyspace.clone());
            let request = v1::CreateKeyspaceRequest { keyspace, validate_only };
            expected.check(case, node.admin().create_keyspace(request).await);
        }
        node.serves("default", case).await;
    }
    let listed = node.admin().list_keyspaces(v1::ListKeyspacesRequest::default()).await;
    assert_eq!(listed.expect("answered").into_inner().keyspaces.len(), 1, "none was made");
}

#[tokio::test]
async fn what_an_operator_must_not_do_is_refused() {
    let (node, _folder) = node().await;
    let delete = |name: &str, etag: &str| v1::DeleteKeyspaceRequest {
        name: name.to_owned(),
        etag: etag.to_owned(),
        validate_only: false,
    };
    refusal(NotFound, "UNKNOWN_KEYSPACE", &["nowhere"])
        .check("no such keyspace", node.admin().delete_keyspace(delete("nowhere", "")).await);
    refusal(Aborted, "ETAG_MISMATCH", &["default", "stale"])
        .check("a stale etag", node.admin().delete_keyspace(delete("default", "stale")).await);
    refusal(FailedPrecondition, "FAULTS_DISABLED", &["--enable-faults"]).check(
        "a fault on a node without faults",
        node.admin().set_fault(v1::SetFaultRequest { isolated: true }).await,
    );
    refusal(FailedPrecondition, "CLUSTER_EXISTS", &["already", "nothing was changed"]).check(
        "a second cluster",
        node.admin()
            .init_cluster(v1::InitClusterRequest { partitions: 512, ..Default::default() })
            .await,
    );
    for digest in ["", "1234567", "not-hexadecimal"] {
        let request = v1::GetModuleRequest { digest: digest.to_owned(), wait_ready_ms: 0 };
        refusal(InvalidArgument, "BAD_DIGEST", &["at least 8 hexadecimal digits"])
            .check(digest, node.admin().get_module(request).await);
    }
    node.serves("default", "all of these").await;
}

#[tokio::test]
async fn bad_updates_are_refused() {
    let (node, _folder) = node().await;
    let n2 = v1::Keyspace { n: 2, ..named("default") };
    let n2r2w2 = v1::Keyspace { r: 2, w: 2, ..n2.clone() };
    let w9 = v1::Keyspace { w: 9, ..named("default") };
    let stale = v1::Keyspace { w: 1, etag: "stale".to_owned(), ..named("default") };
    let table = [
        (
            "no keyspace",
            (named("nowhere"), vec!["w"]),
            refusal(NotFound, "UNKNOWN_KEYSPACE", &["nowhere"]),
        ),
        (
            "no mask",
            (named("default"), vec![]),
            refusal(InvalidArgument, "MASK_EMPTY", &["update_mask", "durability"]),
        ),
        (
            "its name",
            (named("default"), vec!["name"]),
            refusal(InvalidArgument, "MASK_UNKNOWN_FIELD", &["\"name\" cannot be updated"]),
        ),
        (
            "an n whose r and w do not meet",
            (n2, vec!["n"]),
            refusal(InvalidArgument, "BAD_QUORUM", &["r + w > n", "nothing was changed"]),
        ),
        (
            "more replicas than nodes",
            (n2r2w2, vec!["n", "r", "w"]),
            refusal(FailedPrecondition, "TOO_FEW_NODES", &["n=2", "the ring has 1"]),
        ),
        ("w above n", (w9, vec!["w"]), refusal(InvalidArgument, "BAD_QUORUM", &["w=9"])),
        ("r = 0", (named("default"), vec!["r"]), refusal(InvalidArgument, "BAD_QUORUM", &["r=0"])),
        (
            "an unknown module",
            (
                v1::Keyspace { name: "default".to_owned(), ..of_module(&"0".repeat(64)) },
                vec!["reconcile"],
            ),
            refusal(NotFound, "UNKNOWN_MODULE", &["push it first"]),
        ),
        (
            "a stale etag",
            (stale, vec!["w"]),
            refusal(Aborted, "ETAG_MISMATCH", &["stale", "changed meanwhile"]),
        ),
    ];
    let request = v1::GetKeyspaceRequest { name: "default".to_owned() };
    // What it holds is no setting.
    let settings = async || {
        let found = node.admin().get_keyspace(request.clone()).await.expect("it exists");
        v1::Keyspace { usage: None, ..found.into_inner() }
    };
    let before = settings().await;
    for (case, (keyspace, paths), expected) in table {
        for validate_only in [true, false] {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            let request = v1::UpdateKeyspaceRequest {
                keyspace: Some(keyspace.clone()),
                update_mask: Some(prost_types::FieldMask { paths }),
                validate_only,
                reason: String::new(),
            };
            expected.check(case, node.admin().update_keyspace(request).await);
        }
    }
    let after = settings().await;
    assert_eq!(after, before, "what was refused changed nothing");
    for token in ["default", "after:"] {
        let expected = refusal(InvalidArgument, "BAD_PAGE_TOKEN", &["next_page_token"]);
        let request =
            v1::ListKeyspacesRequest { page_token: token.to_owned(), ..Default::default() };
        expected.check(token, node.admin().list_keyspaces(request).await);
        let request = v1::ListModulesRequest { page_token: token.to_owned(), ..Default::default() };
        expected.check(token, node.admin().list_modules(request).await);
    }
    node.serves("default", "all of these").await;
}
