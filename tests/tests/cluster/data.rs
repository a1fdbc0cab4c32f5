//! Data in and out: lists, counts, exports, imports, batches, deletes by range, backups.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use stator_proto::v1;
use v1::batch_item::Request as Item;
use v1::batch_outcome::Outcome;

use crate::conflicts::{must_run, run};
use crate::support::{Cluster, Node, eventually, get, keyspace, must, put, values};

const KEYS: usize = 600;

/// Writes keys of many sizes; a few are deleted, some are siblings, one is larger than a page.
async fn fill(cluster: &Cluster, name: &str) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::new();
    for number in 0..KEYS {
        let key = format!("key-{number:04}");
        let value = "x".repeat(number * 37 % 4_000) + &key;
        cluster[number % 3].kv().put(put(name, &key, &value)).await.expect("acknowledged");
        expected.insert(key, value);
    }
    let large = "l".repeat(900_000);
    let other = put(name, "large", &(large.clone() + "other"));
    cluster[1].kv().put(put(name, "large", &large)).await.expect("acknowledged");
    cluster[2].kv().put(other).await.expect("acknowledged");
    expected.insert("large".to_owned(), large);
    for number in (0..KEYS).step_by(50) {
        let key = format!("key-{number:04}");
        let delete = v1::DeleteRequest {
            keyspace: name.to_owned(),
            key: key.clone().into(),
            observed: true,
            ..Default::default()
        };
        cluster[0].kv().delete(delete).await.expect("acknowledged");
        expected.remove(&key);
    }
    expected
}

fn keys(listed: &Value) -> Vec<String> {
    let keys = listed["keys"].as_array().expect("keys").iter();
    let mut keys: Vec<_> = keys.map(|key| key["key"].as_str().expect("text").to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn what_was_acknowledged_is_listed_by_every_node_though_an_owner_is_away() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let expected = fill(&cluster, "data").await;
    for node in cluster.nodes() {
        let listed = must_run(node, &["kv", "list", "-k", "data"]).await;
        assert!(keys(&listed).iter().eq(expected.keys()));
        let counted = must_run(node, &["kv", "count", "-k", "data"]).await;
        assert_eq!(counted["keys"], expected.len());
        assert_eq!(counted["divergent"], 1);
    }
    let some = must_run(&cluster[0], &["kv", "list", "-k", "data", "--prefix", "key-00"]).await;
    assert!(keys(&some).iter().eq(expected.keys().filter(|key| key.starts_with("key-00"))));
    let range = ["kv", "list", "-k", "data", "--from", "key-0100", "--until", "key-0110"];
    assert!(
        keys(&must_run(&cluster[0], &range).await)
            .iter()
            .eq(expected.keys().filter(|key| ("key-0100".."key-0110").contains(&key.as_str())))
    );
    let few = must_run(&cluster[1], &["kv", "list", "-k", "data", "--limit", "7"]).await;
    assert_eq!(keys(&few).len(), 7);
    let gone = must_run(&cluster[1], &["kv", "list", "-k", "data", "--deleted"]).await;
    assert!(keys(&gone).len() >= expected.len());

    // An owner of everything is away, and what is written meanwhile is listed all the same.
    cluster.nodes_mut()[2].kill().await;
    cluster[0].kv().put(put("data", "written-meanwhile", "x")).await.expect("two are left");
    eventually("the others have noticed", async || {
        let listed = run(&cluster[0], &["kv", "list", "-k", "data"]).await?.remove(0);
        must(keys(&listed).contains(&"written-meanwhile".to_owned()), || listed.to_string())
    })
    .await;
    let all = run(&cluster[0], &["kv", "list", "-k", "data", "-r", "3"]).await;
    assert!(all.expect_err("three owners are not there").contains("2 of the needed 3"));
}

#[tokio::test]
async fn a_listing_goes_on_where_a_stream_was_left_and_refuses_nonsense() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let expected = fill(&cluster, "data").await;
    let (mut found, mut token, mut streams) = (Vec::new(), String::new(), 0);
    loop {
        // Each time by another node, and one page of it.
        let request = v1::ListRequest {
            keyspace: "data".to_owned(),
            view: v1::View::Siblings.into(),
            page_token: token.clone(),
            limit: 40,
            ..Default::default()
        };
        let answer = cluster[streams % 3].kv().list(request).await.expect("answered");
        let mut pages = answer.into_inner();
        streams += 1;
        while let Some(page) = pages.message().await.expect("whole") {
            found.extend(page.keys);
            token = page.page_token;
        }
        if token.is_empty() {
            break;
        }
    }
    assert!(streams > 10, "{streams} streams");
    let mut names: Vec<_> = found.iter().map(|key| key.key.clone()).collect();
    names.sort();
    assert!(names.iter().eq(expected.keys()), "each key once");
    let large = found.iter().find(|key| key.key == "large").expect("it is listed");
    assert_eq!(large.versions.len(), 2);
    let replaced = v1::PutRequest {
        contexts: large.context.clone().into_iter().collect(),
        ..put("data", "large", "small")
    };
    let written = cluster[0].kv().put(replaced).await.expect("by its context").into_inner();
    assert!(!written.siblings_remain);

    for (case, request, reason) in [
        (
            "no keyspace",
            v1::ListRequest { keyspace: "none".to_owned(), ..Default::default() },
            "UNKNOWN_KEYSPACE",
        ),
        (
            "a token",
            v1::ListRequest {
                keyspace: "data".to_owned(),
                page_token: "9x".to_owned(),
                ..Default::default()
            },
            "BAD_PAGE_TOKEN",
        ),
        (
            "both",
            v1::ListRequest {
                keyspace: "data".to_owned(),
                prefix: "a".into(),
                from: "b".into(),
                ..Default::default()
            },
            "PREFIX_AND_RANGE",
        ),
    ] {
        let refused = match cluster[0].kv().list(request).await {
            Err(status) => status,
            Ok(answer) => answer.into_inner().message().await.expect_err(case),
        };
        let found = stator_client::Error::from(refused);
        assert_eq!(found.reason(), reason, "{case}");
    }
}

#[tokio::test]
async fn a_batch_has_an_outcome_for_each_of_its_items() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let item = |request| v1::BatchItem { request: Some(request) };
    let delete =
        v1::DeleteRequest { keyspace: "data".to_owned(), key: "a".into(), ..Default::default() };
    let items = vec![
        item(Item::Put(put("data", "a", "1"))),
        item(Item::Put(put("data", "", "no key"))),
        item(Item::Put(put("none", "a", "no keyspace"))),
        item(Item::Delete(delete)),
        v1::BatchItem { request: None },
    ];
    let answer = cluster[0].kv().batch(v1::BatchRequest { items }).await.expect("answered");
    let outcomes: Vec<_> = answer.into_inner().outcomes.into_iter().map(|o| o.outcome).collect();
    assert!(matches!(&outcomes[0], Some(Outcome::Put(put)) if put.acked >= 2), "{outcomes:?}");
    let reasons = outcomes[1..].iter().map(|outcome| match outcome {
        Some(Outcome::Failure(failure)) => failure.reason.clone(),
        other => panic!("{other:?}"),
    });
    let expected = ["KEY_EMPTY", "UNKNOWN_KEYSPACE", "CONTEXT_MISSING", "ITEM_EMPTY"];
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
    let items = ["a", "b"].map(|key| item(Item::Get(get("data", key)))).to_vec();
    let answer = cluster[1].kv().batch(v1::BatchRequest { items }).await.expect("answered");
    let found: Vec<_> = answer
        .into_inner()
        .outcomes
        .into_iter()
        .map(|outcome| match outcome.outcome {
            Some(Outcome::Get(get)) => values(&get).into_iter().next(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, [Some("1".to_owned()), None]);
    let many = vec![item(Item::Get(get("data", "a"))); 257];
    let refused = cluster[0].kv().batch(v1::BatchRequest { items: many }).await;
    let refused = stator_client::Error::from(refused.expect_err("too many"));
    assert_eq!(refused.reason(), "BATCH_TOO_LARGE");
}

async fn export(node: &Node, folder: &Path, keyspace: &str, file: &str, format: &str) -> Bytes {
    let path = folder.join(file);
    let to = path.to_str().expect("text");
    run_quietly(node, &["kv", "export", "-k", keyspace, "--to", to, "--format", format]).await;
    std::fs::read(path).expect("written").into()
}

/// Runs a command that prints nothing.
async fn run_quietly(node: &Node, arguments: &[&str]) {
    let output = crate::conflicts::output(node, arguments).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {words}");
}

#[tokio::test]
async fn exports_of_equal_data_are_equal_bytes_also_in_another_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Cluster::start(3).await;
    first.create(keyspace("data", 2, 2)).await;
    let expected = fill(&first, "data").await;
    let second = Cluster::start(4).await;
    second.create(keyspace("data", 2, 2)).await;
    for format in ["jsonl", "binary"] {
        let file = format!("first.{format}");
        let before = export(&first[0], folder.path(), "data", &file, format).await;
        let path = folder.path().join(&file).display().to_string();
        let imported = must_run(&second[3], &["kv", "import", &path, "-k", "data"]).await;
        assert_eq!(imported["taken"], expected.len(), "{format}");
        let after = export(&second[1], folder.path(), "data", "second", format).await;
        assert!(before == after, "{format}: {} and {} bytes", before.len(), after.len());
    }
    let found = second[2].kv().get(get("data", "large")).await.expect("answered").into_inner();
    assert_eq!(found.versions.len(), 2, "siblings are siblings");

    // What people write by hand, and what is no such thing.
    let by_hand = folder.path().join("by-hand.jsonl");
    std::fs::write(&by_hand, "{\"key\":\"hand\",\"value\":{\"a\":1}}\n{\"key_base64\":\"AP8=\",\"value_base64\":\"AAE=\"}\n").expect("written");
    let path = by_hand.display().to_string();
    for taken in [2, 0] {
        let imported = must_run(&second[0], &["kv", "import", &path, "-k", "data"]).await;
        assert_eq!(imported["taken"], taken, "the second time all is there: {imported}");
    }
    let found = must_run(&second[1], &["kv", "get", "hand", "-k", "data"]).await;
    assert_eq!(found["versions"][0]["value"], "{\"a\":1}");
    let found = must_run(&second[1], &["kv", "get", "AP8=", "--key-base64", "-k", "data"]).await;
    assert_eq!(found["versions"][0]["value_base64"], "AAE=");
    for (text, words) in [
        ("{\"key\":\"a\"}\n", "0 values"),
        ("nonsense\n", "line 1"),
        ("stator objects 1\nxx", "record 1"),
    ] {
        std::fs::write(&by_hand, text).expect("written");
        let refused = run(&second[0], &["kv", "import", &path, "-k", "data"]).await;
        assert!(refused.as_ref().expect_err(text).contains(words), "{refused:?}");
    }
}

#[tokio::test]
async fn a_range_is_deleted_as_it_was_seen() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let expected = fill(&cluster, "data").await;
    let range = ["kv", "delete-many", "-k", "data", "--prefix", "key-01"];
    let meant = expected.keys().filter(|key| key.starts_with("key-01")).count();
    let dry: Vec<_> = range.iter().copied().chain(["--dry-run"]).collect();
    assert_eq!(must_run(&cluster[0], &dry).await["deleted"], meant);
    let counted = must_run(&cluster[0], &["kv", "count", "-k", "data"]).await;
    assert_eq!(counted["keys"], expected.len(), "nothing was changed");
    assert_eq!(must_run(&cluster[1], &range).await["deleted"], meant);
    let counted = must_run(&cluster[2], &["kv", "count", "-k", "data"]).await;
    assert_eq!(counted["keys"], expected.len() - meant);
    let refused = run(&cluster[0], &["kv", "delete-many", "-k", "data"]).await;
    assert!(refused.expect_err("of which keys?").contains("which keys"));
}

#[tokio::test]
async fn a_backup_is_incremental_and_comes_back_into_a_cluster_of_another_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("backups").display().to_string();
    let first = Cluster::start(3).await;
    let module = first.push("max-register").await;
    let scores = v1::Keyspace { reconcile: Some(module.clone()), ..keyspace("scores", 2, 2) };
    first.create(scores).await;
    first[0].kv().put(put("scores", "s", "7")).await.expect("acknowledged");
    first.create(keyspace("data", 2, 2)).await;
    let expected = fill(&first, "data").await;

    let made = must_run(&first[0], &["backup", "create", &place, "--id", "one"]).await;
    assert_eq!(made["keys"], expected.len() + 1);
    assert_eq!(made["bytes"], made["new_bytes"]);
    let again = must_run(&first[1], &["backup", "create", &place, "--id", "two"]).await;
    assert_eq!(again["bytes"], made["bytes"]);
    assert!(again["new_bytes"].as_u64() < made["bytes"].as_u64(), "{again}");
    let taken = run(&first[1], &["backup", "create", &place, "--id", "two"]).await;
    assert!(taken.expect_err("the name is taken").contains("already"));
    let listed = must_run(&first[0], &["backup", "list", &place]).await;
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(2));
    must_run(&first[0], &["backup", "verify", &place, "one"]).await;

    // In the cluster that it is of, what was deleted since stays deleted, and what replaced a value
    // stays.
    let seen = first[0].kv().get(get("data", "key-0007")).await.expect("answered").into_inner();
    let newer = v1::PutRequest {
        contexts: seen.context.into_iter().collect(),
        ..put("data", "key-0007", "newer")
    };
    first[0].kv().put(newer).await.expect("acknowledged");
    must_run(&first[0], &["kv", "delete", "key-0008", "-k", "data"]).await;
    must_run(&first[2], &["backup", "restore", &place, "one"]).await;
    let value = async |node: &Node, key: &str| {
        let found = node.kv().get(get("data", key)).await.expect("answered").into_inner();
        values(&found).into_iter().next()
    };
    assert_eq!(value(&first[1], "key-0007").await.as_deref(), Some("newer"));
    assert_eq!(value(&first[1], "key-0008").await, None);
    must_run(&first[2], &["backup", "restore", &place, "one", "--revive"]).await;
    assert_eq!(value(&first[1], "key-0007").await.as_deref(), Some("newer"));
    assert_eq!(value(&first[1], "key-0008").await, expected.get("key-0008").cloned());

    // Another cluster, of five, that has nothing: keyspaces, settings and modules come along.
    let second = Cluster::start(5).await;
    let slowly = ["backup", "restore", &place, "one", "--rate-limit", "20MiB"];
    let restored = must_run(&second[4], &slowly).await;
    let taken = restored["keyspaces"].as_array().expect("keyspaces").iter();
    assert_eq!(
        taken.map(|k| k["taken"].as_u64().expect("a count")).sum::<u64>(),
        expected.len() as u64 + 1
    );
    let scores = must_run(&second[0], &["keyspace", "describe", "scores"]).await;
    assert_eq!(scores["module_digest"], module.module_digest.as_str(), "{scores}");
    for key in ["key-0001", "key-0599", "key-0008"] {
        assert_eq!(value(&second[2], key).await, expected.get(key).cloned(), "{key}");
    }
    assert_eq!(value(&second[3], "key-0050").await, None, "it was deleted before");
    let found = second[1].kv().get(get("data", "large")).await.expect("answered").into_inner();
    assert_eq!(found.versions.len(), 2);

    // A part that is damaged, or missing, is found; a backup that is deleted takes its parts along.
    let chunk = some_chunk(&folder.path().join("backups/chunks"));
    let whole = std::fs::read(&chunk).expect("read");
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    std::fs::write(&chunk, flipped).expect("written");
    let damaged = run(&first[0], &["backup", "verify", &place]).await;
    assert!(damaged.expect_err("damaged").contains("damaged"));
    std::fs::write(&chunk, whole).expect("written");
    must_run(&first[0], &["backup", "create", &place, "--id", "three", "--keep", "2"]).await;
    let listed = must_run(&first[0], &["backup", "list", &place]).await;
    let ids = listed["backups"].as_array().expect("backups").iter().map(|backup| &backup["id"]);
    assert_eq!(ids.collect::<Vec<_>>(), ["two", "three"]);
    must_run(&first[0], &["backup", "verify", &place, "two"]).await;
    for id in ["two", "three"] {
        must_run(&first[0], &["backup", "delete", &place, id]).await;
    }
    assert!(!chunk.exists());
}

/// The largest chunk.
fn some_chunk(folder: &Path) -> std::path::PathBuf {
    let folders = std::fs::read_dir(folder).expect("chunks");
    let files = folders.flat_map(|f| std::fs::read_dir(f.expect("a folder").path()).expect("read"));
    let files = files.map(|file| file.expect("a file"));
    let largest = files.max_by_key(|file| file.metadata().expect("a length").len());
    largest.expect("a chunk").path()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("there"));
    let all = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files(&path),
        path => vec![path],
    });
    all.collect()
}

#[tokio::test]
async fn a_backup_with_a_key_tells_nothing_without_it_and_is_incremental_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (place, key, other) = (path("backups"), path("key"), path("other"));
    std::fs::write(&key, "this is what only the operator has\n").expect("written");
    std::fs::write(&other, "this is what somebody else may have\n").expect("written");
    let cluster = Cluster::start(3).await;
    let module = Some(cluster.push("max-register").await);
    cluster.create(v1::Keyspace { reconcile: module, ..keyspace("scores", 2, 2) }).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let expected = fill(&cluster, "data").await;
    let with_key = |words: &[&str]| {
        let all = words.iter().copied().chain(["--key-file", &key]);
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    let sealed = async |words: &[&str]| {
        let words = with_key(words);
        must_run(&cluster[0], &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let made = sealed(&["backup", "create", &place, "--id", "one", "--rate-limit", "64MiB"]).await;
    assert!(made["new_bytes"].as_u64() > Some(0), "{made}");
    let again = sealed(&["backup", "create", &place, "--id", "two"]).await;
    assert!(again["new_bytes"].as_u64() < made["bytes"].as_u64(), "{again}");
    sealed(&["backup", "verify", &place, "one"]).await;
    for file in files(Path::new(&place)) {
        let bytes = std::fs::read(&file).expect("readable");
        assert!(bytes.starts_with(b"stator sealed 1\n"), "{}", file.display());
    }
    for (more, words) in
        [(&[][..], "name the key with --key-file"), (&["--key-file", &other][..], "another key")]
    {
        for command in [["list", &place], ["verify", &place], ["restore", &place]] {
            let refused = run(&cluster[0], &[&["backup"], &command[..], more].concat()).await;
            assert!(refused.as_ref().is_err_and(|why| why.contains(words)), "{refused:?}");
        }
    }
    let plain = path("plain");
    must_run(&cluster[0], &["backup", "create", &plain, "--id", "one"]).await;
    let mixed = ["backup", "create", &plain, "--id", "two", "--key-file", &key];
    let mixed = run(&cluster[0], &mixed).await;
    assert!(mixed.as_ref().is_err_and(|why| why.contains("it is not encrypted")), "{mixed:?}");

    sealed(&["backup", "restore", &place, "one", "-k", "data", "--as", "copy"]).await;
    for key in ["key-0001", "key-0599"] {
        let found = cluster[1].kv().get(get("copy", key)).await.expect("answered").into_inner();
        assert_eq!(values(&found).first(), expected.get(key), "{key}");
    }
    // A file in the place of another is found out, whatever its bytes.
    let chunks = files(&Path::new(&place).join("chunks"));
    if let [first, second, ..] = &chunks[..] {
        std::fs::copy(first, second).expect("copied");
        let words = with_key(&["backup", "verify", &place]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let refused = run(&cluster[0], &words).await;
        assert!(refused.as_ref().is_err_and(|why| why.contains("damaged")), "{refused:?}");
    }
    for id in ["one", "two"] {
        sealed(&["backup", "delete", &place, id]).await;
    }
    assert!(chunks.iter().all(|chunk| !chunk.exists()));
}

/// The S3 server that `tests/s3/install` brought.
fn s3_server() -> Option<std::path::PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/s3/bin/s3s-fs");
    path.is_file().then_some(path)
}

#[tokio::test]
async fn a_backup_goes_to_an_s3_server_and_comes_back() {
    let Some(program) = s3_server() else {
        use std::io::Write;
        // Not by a macro, whose words the harness keeps of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: backups to S3, see tests/s3/install");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("bucket")).expect("a bucket");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").port()
    };
    let mut server = tokio::process::Command::new(program);
    server.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    server.args(["--access-key", "key", "--secret-key", "secret"]).arg(folder.path());
    let _server = server.kill_on_drop(true).spawn().expect("it starts");
    eventually("the S3 server answers", async || {
        let dialled = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        dialled.map(drop).map_err(|error| error.to_string())
    })
    .await;

    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let expected = fill(&cluster, "data").await;
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
    ];
    let stator = async |more: &[&str]| {
        let (admin, client) = (&cluster[0].addresses.admin, &cluster[0].addresses.client);
        let global = ["--output", "json", "--admin", admin, "--endpoint", client];
        let all = global.into_iter().chain(more.iter().copied());
        let output = crate::support::stator_with(&variables, all).await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{more:?}: {words}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let place = "s3://bucket/stator";
    let made = stator(&["backup", "create", place, "--id", "one"]).await;
    assert_eq!(made["keys"], expected.len());
    let again = stator(&["backup", "create", place, "--id", "two"]).await;
    assert!(again["new_bytes"].as_u64() < made["new_bytes"].as_u64(), "{again}");
    stator(&["backup", "verify", place, "two"]).await;
    let restore = ["backup", "restore", place, "one", "-k", "data", "--as", "copy"];
    let restored = stator(&restore).await;
    assert_eq!(restored["keyspaces"][0]["taken"], expected.len());
    stator(&["backup", "delete", place, "two"]).await;
    let listed = stator(&["backup", "list", place]).await;
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1));
    let found = cluster[1].kv().get(get("copy", "key-0599")).await.expect("answered").into_inner();
    assert_eq!(values(&found).into_iter().next(), expected.get("key-0599").cloned());
}

/// How many objects the node's data store holds.
async fn held(node: &Node) -> Result<u64, String> {
    let status = node.status().await?;
    let data = status.stores.into_iter().find(|store| store.name == "data");
    data.map(|data| data.objects).ok_or_else(|| "no data store".to_owned())
}

#[tokio::test]
async fn a_deleted_keyspace_leaves_every_store() {
    let mut cluster = Cluster::start(3).await;
    for name in ["kept", "gone"] {
        cluster.create(keyspace(name, 2, 2)).await;
        for number in 0..100 {
            let key = format!("key {number}");
            cluster[0].kv().put(put(name, &key, "value")).await.expect("acknowledged");
        }
    }
    for node in cluster.nodes() {
        let all = async || must(held(node).await? == 200, || "not all are here".to_owned());
        eventually("every owner holds what was written", all).await;
    }
    // One hears of it when it comes back.
    cluster[2].kill().await;
    must_run(&cluster[0], &["keyspace", "delete", "gone", "--yes"]).await;
    cluster[2].restart().await;
    for node in cluster.nodes() {
        let left = async || {
            let held = held(node).await?;
            must(held == 100, || format!("{held} are left"))
        };
        eventually("what the keyspace held is gone", left).await;
    }
    let read = cluster[2].kv().get(get("kept", "key 99")).await.expect("answered").into_inner();
    assert!(values(&read).contains("value"), "{read:?}");
}
