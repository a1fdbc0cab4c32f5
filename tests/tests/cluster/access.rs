//! Who may do what: every method by every role, tokens that are withdrawn, certificates, the audit log.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::conflicts::{must_run, run};
use crate::support::{Cluster, Node, eventually, get, keyspace, must, put};

/// A request that bears a token.
fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("ascii");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Gives somebody roles and a token.
async fn introduce(node: &Node, token: Option<&str>, name: &str, role: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, token.unwrap_or_default()).expect("written");
    let file = file.to_str().expect("text");
    let made: Value = must_run(node, &["--token-file", file, "access", "token", name]).await;
    let grant = ["--token-file", file, "access", "grant", name];
    must_run(node, &[&grant[..], role].concat()).await;
    made["token"].as_str().expect("it is shown once").to_owned()
}

/// What each method of a listener answers to a message without fields, by its path.
async fn codes(channel: &Channel, service: &str, token: Option<&str>) -> BTreeMap<String, Code> {
    use prost::Message;
    let described = stator_proto::FILE_DESCRIPTOR_SET;
    let set = prost_types::FileDescriptorSet::decode(described).expect("as it was made");
    let services = set.file.iter().flat_map(|file| &file.service);
    let service_of = services.into_iter().find(|found| found.name() == service).expect("there");
    let mut codes = BTreeMap::new();
    for method in &service_of.method {
        let path = format!("/stator.v1.{service}/{}", method.name());
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("connected");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let mut message = match token {
            Some(token) => bearing((), token),
            None => Request::new(()),
        };
        // The conflict feed has no end by itself.
        message.set_timeout(std::time::Duration::from_secs(2));
        let path_of = PathAndQuery::try_from(path.as_str()).expect("a path");
        let answered = grpc.server_streaming(message, path_of, codec).await;
        let code = match answered {
            Err(status) => status.code(),
            Ok(answer) => match answer.into_inner().message().await {
                Err(status) => status.code(),
                Ok(_) => Code::Ok,
            },
        };
        codes.insert(method.name().to_owned(), code);
    }
    codes
}

/// The methods that did not end with a refusal of the caller.
fn passed(codes: &BTreeMap<String, Code>) -> Vec<&str> {
    let refused = [Code::PermissionDenied, Code::Unauthenticated];
    codes
        .iter()
        .filter(|(_, code)| !refused.contains(code))
        .map(|(name, _)| name.as_str())
        .collect()
}

#[tokio::test]
async fn every_method_asks_who_calls_and_lets_pass_who_may() {
    let cluster = Cluster::start(1).await;
    let node = &cluster[0];
    let open = codes(&node.client_channel(), "Kv", None).await;
    assert_eq!(passed(&open).len(), open.len(), "a cluster without roles is open: {open:?}");
    let refused = run(node, &["access", "grant", "shop", "reader"]).await;
    assert!(refused.expect_err("nobody could act").contains("token"));

    let refused = run(node, &["access", "grant", "root", "operator"]).await;
    assert!(refused.expect_err("nobody could act as root").contains("token"));
    let root = introduce(node, None, "root", &["operator"]).await;
    let mut tokens = BTreeMap::new();
    for role in ["reader", "writer", "publisher"] {
        tokens.insert(role, introduce(node, Some(&root), role, &[role]).await);
    }
    tokens.insert("operator", root.clone());

    for (service, channel) in [
        ("Kv", node.client_channel()),
        ("Routing", node.client_channel()),
        ("Admin", node.admin_channel()),
    ] {
        let nobody = codes(&channel, service, None).await;
        assert!(nobody.values().all(|code| *code == Code::Unauthenticated), "{nobody:?}");
        let wrong = codes(&channel, service, Some("stator_00")).await;
        assert!(wrong.values().all(|code| *code == Code::Unauthenticated), "{wrong:?}");
        let all = codes(&channel, service, Some(&root)).await;
        assert_eq!(passed(&all).len(), all.len(), "an operator may everything: {all:?}");
    }
    let kv = |codes: &BTreeMap<String, Code>| passed(codes).join(" ");
    let channel = node.client_channel();
    let reader = codes(&channel, "Kv", Some(&tokens["reader"])).await;
    assert_eq!(kv(&reader), "Batch Get GetReplica List Watch");
    let writer = codes(&channel, "Kv", Some(&tokens["writer"])).await;
    assert_eq!(kv(&writer), "Batch Delete Get GetReplica List Put Watch");
    let publisher = codes(&channel, "Kv", Some(&tokens["publisher"])).await;
    assert_eq!(kv(&publisher), "Batch Get GetReplica List Watch");
    let channel = node.admin_channel();
    let reads = "GetKeyspace GetModule GetStatus ListDeadLetters ListKeyspaces ListModules \
                 ListRecordings ListSuperseded TailConflicts";
    for role in ["reader", "writer"] {
        let found = codes(&channel, "Admin", Some(&tokens[role])).await;
        assert_eq!(passed(&found).join(" "), reads, "{role}");
    }
    let found = codes(&channel, "Admin", Some(&tokens["publisher"])).await;
    let may = passed(&found);
    for method in ["PushModule", "BeginTrial", "DeleteModule", "PullModule"] {
        assert!(may.contains(&method), "{method}: {may:?}");
    }
    for method in ["CreateKeyspace", "ChangeAccess", "ListAudit", "ExportObjects", "UpdateKeyspace"]
    {
        assert!(!may.contains(&method), "{method}: {may:?}");
    }
}

/// What a get of a key and a put of it come to.
async fn tries(node: &Node, name: &str, token: &str) -> (Code, Code) {
    let code = |failed: Option<tonic::Status>| failed.map_or(Code::Ok, |status| status.code());
    let got = node.kv().get(bearing(get(name, "k"), token)).await;
    let written = node.kv().put(bearing(put(name, "k", "v"), token)).await;
    (code(got.err()), code(written.err()))
}

#[tokio::test]
async fn roles_hold_by_keyspace_on_all_nodes_and_a_stolen_token_is_withdrawn_everywhere() {
    let mut cluster = Cluster::start(3).await;
    for name in ["carts", "users"] {
        cluster.create(keyspace(name, 2, 2)).await;
    }
    let root = introduce(&cluster[0], None, "root", &["operator"]).await;
    let shop = introduce(&cluster[0], Some(&root), "shop", &["writer", "-k", "carts"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let by_root = folder.path().join("root");
    std::fs::write(&by_root, &root).expect("written");
    let by_root = ["--token-file", by_root.to_str().expect("text")];
    let grant = [&by_root[..], &["access", "grant", "shop", "reader", "-k", "users"]].concat();
    must_run(&cluster[1], &grant).await;
    for node in cluster.nodes() {
        eventually("the node knows", async || {
            let (carts, users) =
                (tries(node, "carts", &shop).await, tries(node, "users", &shop).await);
            let holds =
                carts == (Code::Ok, Code::Ok) && users == (Code::Ok, Code::PermissionDenied);
            must(holds, || format!("{carts:?} {users:?}"))
        })
        .await;
    }
    let batch = v1::BatchRequest {
        items: vec![
            v1::BatchItem { request: Some(v1::batch_item::Request::Put(put("carts", "b", "1"))) },
            v1::BatchItem { request: Some(v1::batch_item::Request::Put(put("users", "b", "1"))) },
        ],
    };
    let answer = cluster[0].kv().batch(bearing(batch, &shop)).await.expect("answered").into_inner();
    let reasons: Vec<_> = answer
        .outcomes
        .iter()
        .map(|outcome| match &outcome.outcome {
            Some(v1::batch_outcome::Outcome::Failure(failure)) => failure.reason.as_str(),
            _ => "done",
        })
        .collect();
    assert_eq!(reasons, ["done", "NOT_ALLOWED"], "each item is asked for");
    let unknown = [&by_root[..], &["access", "grant", "shop", "reader", "-k", "cart"]].concat();
    assert!(run(&cluster[0], &unknown).await.expect_err("no such keyspace").contains("cart"));

    // Stolen: by the time the command has ended the node that was asked refuses it, and soon all do.
    let drop = [&by_root[..], &["access", "drop-token", "shop", "--all"]].concat();
    must_run(&cluster[2], &drop).await;
    for node in cluster.nodes() {
        eventually("it is worthless", async || {
            let found = tries(node, "carts", &shop).await;
            must(found == (Code::Unauthenticated, Code::Unauthenticated), || format!("{found:?}"))
        })
        .await;
    }
    // It outlives a restart, and is nowhere on the disk.
    cluster.nodes_mut()[2].kill().await;
    cluster.nodes_mut()[2].restart().await;
    assert_eq!(tries(&cluster[2], "carts", &shop).await.0, Code::Unauthenticated);
    assert_eq!(tries(&cluster[2], "carts", &root).await.0, Code::Ok);
    assert!(!is_on_disk(&cluster[2].data_dir, root.trim_start_matches("stator_")));

    let log = must_run(&cluster[0], &[&by_root[..], &["access", "log"]].concat()).await;
    let calls = log["entries"].as_array().expect("entries").iter();
    let told: Vec<_> = calls
        .map(|call| {
            (
                call["principal"].as_str(),
                call["method"].as_str().expect("text"),
                call["code"].as_str().expect("text"),
            )
        })
        .collect();
    for expected in [
        (None, "CreateKeyspace", "Ok"),
        (None, "ChangeAccess", "Ok"),
        (Some("root"), "ChangeAccess", "Ok"),
        (Some("root"), "ChangeAccess", "NotFound"),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    let last = [&by_root[..], &["access", "withdraw", "root"]].concat();
    let refused = run(&cluster[0], &last).await.expect_err("the last operator");
    assert!(refused.contains("nobody would be left"), "{refused}");
}

fn is_on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => is_on_disk(&path, text),
            false => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                bytes.windows(text.len()).any(|window| window == text.as_bytes())
            }
        }
    })
}

#[tokio::test]
async fn certificates_that_the_program_made_carry_roles() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = folder.path().join("certs").display().to_string();
    let init = [
        "tls",
        "init",
        "--to",
        &certs,
        "--node",
        "node,127.0.0.1",
        "--client",
        "root",
        "--client",
        "shop",
    ];
    let made = crate::support::stator(init).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = crate::support::stator(init).await;
    assert!(!again.status.success(), "nothing is overwritten");
    let section = |name: &str| {
        format!(
            "[tls.{name}]\ncert = '{certs}/node.pem'\nkey = '{certs}/node.key'\nclient_ca = '{certs}/ca.pem'\n"
        )
    };
    let config = folder.path().join("stator.toml");
    std::fs::write(&config, section("client") + &section("admin")).expect("written");
    let node =
        Node::start(folder.path(), "node", &["--config", config.to_str().expect("text")]).await;
    let channel = async |address: &str, who: &str| -> Channel {
        let path = |file: String| folder.path().join("certs").join(file);
        let (cert, key) = (path(format!("{who}.pem")), path(format!("{who}.key")));
        let tls =
            stator::tls::ClientTls::load(&path("ca.pem".to_owned()), Some((&cert, &key)), None);
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        stator::tls::connect(&endpoint, Some(&tls.expect("files"))).await.expect("connected")
    };
    let grant = |name: &str, role: v1::Role| v1::ChangeAccessRequest {
        principal: name.to_owned(),
        change: Some(v1::change_access_request::Change::Grant(v1::Grant {
            role: role.into(),
            keyspace: None,
        })),
    };
    let mut root = AdminClient::new(channel(&node.addresses.admin, "root").await);
    root.change_access(grant("root", v1::Role::Operator)).await.expect("the first");
    let mut shop = KvClient::new(channel(&node.addresses.client, "shop").await);
    let refused = shop.get(get("default", "k")).await.expect_err("no role yet");
    assert_eq!(refused.code(), Code::Unauthenticated);
    root.change_access(grant("shop", v1::Role::Reader)).await.expect("by its certificate");
    shop.get(get("default", "k")).await.expect("a reader");
    let refused = shop.put(put("default", "k", "v")).await.expect_err("no writer");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_watch_is_a_readers_and_ends_with_the_role() {
    let cluster = Cluster::start(1).await;
    let node = &cluster[0];
    for name in ["carts", "users"] {
        cluster.create(keyspace(name, 1, 1)).await;
    }
    let of =
        |name: &str| v1::WatchRequest { keyspace: name.to_owned(), ..v1::WatchRequest::default() };
    let mut open = node.kv().watch(of("users")).await.expect("nobody has a role").into_inner();
    open.message().await.expect("it has begun");
    let root = introduce(node, None, "root", &["operator"]).await;
    let ended = async |mut watch: tonic::Streaming<v1::WatchResponse>| loop {
        if let Err(status) = watch.message().await {
            return status.code();
        }
    };
    assert_eq!(ended(open).await, Code::Unauthenticated, "the cluster is not open any more");
    let shop = introduce(node, Some(&root), "shop", &["reader", "-k", "carts"]).await;
    let refused = node.kv().watch(bearing(of("users"), &shop)).await;
    assert_eq!(refused.expect_err("a reader of others").code(), Code::PermissionDenied);
    let begin = async |token: &str| {
        let watch = node.kv().watch(bearing(of("carts"), token)).await;
        let mut watch = watch.expect("a reader").into_inner();
        watch.message().await.expect("it has begun");
        watch
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("root");
    std::fs::write(&file, &root).expect("written");
    let by_root = ["--token-file", file.to_str().expect("text"), "access"];
    let watch = begin(&shop).await;
    must_run(node, &[&by_root[..], &["withdraw", "shop", "reader", "-k", "carts"]].concat()).await;
    assert_eq!(ended(watch).await, Code::PermissionDenied);
    must_run(node, &[&by_root[..], &["grant", "shop", "reader"]].concat()).await;
    let watch = begin(&shop).await;
    must_run(node, &[&by_root[..], &["drop-token", "shop", "--all"]].concat()).await;
    assert_eq!(ended(watch).await, Code::Unauthenticated);
}

/// A request of plain HTTP, as `curl` makes it.
async fn http(address: &str, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let context = head.lines().find_map(|line| line.strip_prefix("x-stator-context: "));
    (code, context.unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_gateway_reads_and_writes_by_plain_http_for_who_may() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address").to_string();
    drop(port);
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path(), "node", &["--http-listen", &address]).await;
    let (code, ..) = http(&address, "GET /v1/default/k", "", "").await;
    assert_eq!(code, 404);
    let (code, _, written) = http(&address, "PUT /v1/default/a/b", "", "one").await;
    assert_eq!(code, 200, "{written}");
    let (code, context, value) = http(&address, "GET /v1/default/a/b", "", "").await;
    assert_eq!((code, value.as_str()), (200, "one"));
    http(&address, "PUT /v1/default/a/b", "", "two").await;
    let (code, both, siblings) = http(&address, "GET /v1/default/a/b", "", "").await;
    assert!(code == 300 && siblings.contains("one") && siblings.contains("two"), "{siblings}");
    // By the first context one of them is replaced, by the second what is left.
    let old = format!("x-stator-context: {context}\r\n");
    http(&address, "PUT /v1/default/a/b", &old, "three").await;
    assert_eq!(http(&address, "GET /v1/default/a/b", "", "").await.0, 300);
    let (code, ..) = http(&address, "PUT /v1/default/a/b?replace", "", "last").await;
    assert_eq!(code, 200);
    assert_eq!(http(&address, "GET /v1/default/a/b", "", "").await.2, "last");
    assert!(!both.is_empty());
    let (code, _, keys) = http(&address, "GET /v1/default?prefix=a", "", "").await;
    assert!(code == 200 && keys.contains("a/b"), "{keys}");
    assert_eq!(http(&address, "DELETE /v1/default/a/b", "", "").await.0, 200);
    assert_eq!(http(&address, "GET /v1/default/a/b", "", "").await.0, 404);
    assert_eq!(http(&address, "GET /v1/none/k", "", "").await.0, 404);
    let wrong = http(&address, "PUT /v1/default/k", "x-stator-context: !\r\n", "x").await;
    assert!(wrong.0 == 400 && wrong.2.contains("CONTEXT_FORGED"), "{wrong:?}");
    let script = "sec-fetch-site: same-origin\r\n";
    assert_eq!(http(&address, "GET /v1/default/k", script, "").await.0, 403, "a page's script");

    let root = introduce(&node, None, "root", &["operator"]).await;
    assert_eq!(http(&address, "GET /v1/default/k", "", "").await.0, 401);
    let bearer = format!("authorization: Bearer {root}\r\n");
    assert_eq!(http(&address, "PUT /v1/default/k", &bearer, "x").await.0, 200);
}
