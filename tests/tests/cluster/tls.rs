//! TLS on every listener, between real processes, with certificates of authorities made here.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use stator::tls::{self, ClientTls};
use stator_client::{Client, Coordination, Entry, Options};
use stator_proto::v1;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::support::{
    Authority, Cluster, Identity, Node, eventually, get, keyspace, must, put, stator, values,
};

const LOOPBACK: &str = "127.0.0.1";

/// A connection through TLS.
async fn dial(address: &str, tls: &ClientTls) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    let endpoint = endpoint.timeout(Duration::from_secs(10));
    tls::connect(&endpoint, Some(tls)).await.map_err(|error| words(&error))
}

fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn trusting(authority: &Authority, own: Option<&Identity>) -> ClientTls {
    let ca = authority.ca();
    let own = own.map(|own| (Path::new(&own.cert), Path::new(&own.key)));
    ClientTls::load(Path::new(&ca), own, None).expect("files")
}

async fn puts(channel: Channel, key: &str) -> Result<(), String> {
    let written = KvClient::new(channel).put(put("default", key, "value")).await;
    written.map(drop).map_err(|status| words(&status))
}

async fn lists(channel: Channel) -> Result<(), String> {
    let mut admin = AdminClient::new(channel);
    let listed = admin.list_keyspaces(v1::ListKeyspacesRequest::default()).await;
    listed.map(drop).map_err(|status| words(&status))
}

/// Starts a node with this configuration.
async fn node(folder: &Path, config: &str) -> Node {
    let file = folder.join("stator.toml").display().to_string();
    std::fs::write(&file, config).expect("written");
    Node::start(folder, "node", &["--config", &file]).await
}

#[tokio::test]
async fn clients_and_operators_speak_tls_and_a_stranger_gets_nowhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ours, theirs) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let server = ours.issue("server", LOOPBACK);
    let sections = [server.section("client", None), server.section("admin", Some(&ours))];
    let node = node(folder.path(), &sections.concat()).await;
    let (client, admin) = (&node.addresses.client, &node.addresses.admin);

    puts(dial(client, &trusting(&ours, None)).await.expect("trusted"), "a").await.expect("served");
    let wrong = dial(client, &trusting(&theirs, None)).await.expect_err("another authority");
    assert!(wrong.contains("UnknownIssuer"), "{wrong}");
    let elsewhere = client.replace(LOOPBACK, "localhost");
    let wrong = dial(&elsewhere, &trusting(&ours, None)).await.expect_err("another name");
    assert!(wrong.contains("not valid for name"), "{wrong}");

    let operator = ours.issue("operator", "operator");
    let known = dial(admin, &trusting(&ours, Some(&operator))).await.expect("trusted");
    lists(known).await.expect("served");
    let stranger = theirs.issue("stranger", "operator");
    for (case, tls) in [
        ("no certificate", trusting(&ours, None)),
        ("a stranger's certificate", trusting(&ours, Some(&stranger))),
    ] {
        // In TLS 1.3 a client hears only after its handshake that it is not wanted.
        let refused = match dial(admin, &tls).await {
            Ok(channel) => lists(channel).await.expect_err(case),
            Err(refused) => refused,
        };
        let says = ["CertificateRequired", "UnknownCA", "BadCertificate", "DecryptError"];
        assert!(says.iter().any(|word| refused.contains(word)), "{case}: {refused}");
    }
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_the_ring_dials_all_nodes_by_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = Authority::new(folder.path(), "ours");
    let file = folder.path().join("stator.toml").display().to_string();
    let section = ours.issue("server", LOOPBACK).section("client", None);
    std::fs::write(&file, section).expect("written");
    let mut nodes = Cluster::start_with(3, |_| vec!["--config".to_owned(), file.clone()]).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let tls = trusting(&ours, None);
    let mut options = Options::default();
    options.coordination = Coordination::Client;
    let dial = move |address: &str| {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
        Ok(tls::connect_lazy(&endpoint, Some(&tls)))
    };
    let first = &nodes[0].addresses.client;
    let client = Client::connect_with([first], options, dial).expect("an address");
    client.fetch_ring().await.expect("a ring");
    // From now on only nodes answer that it has dialled by itself.
    nodes[0].kill().await;
    for number in 0..30 {
        let mut entry = Entry::blind("carts", format!("key {number}"));
        entry.set("value").request_id("only");
        client.put(entry).await.expect("acknowledged");
        let read = client.get("carts", format!("key {number}")).await.expect("answered");
        assert_eq!(read.value().map(|value| &value[..]), Some(&b"value"[..]));
    }
}

/// Runs the program against the node with TLS options.
async fn cli(node: &Node, command: &[&str], options: &[&str]) -> Output {
    let (client, admin) = (&node.addresses.client, &node.addresses.admin);
    let addresses = ["--endpoint", client, "--admin", admin];
    let all = command.iter().chain(&addresses).chain(options);
    stator(all.copied().collect::<Vec<_>>()).await
}

#[tokio::test]
async fn the_command_line_speaks_tls_and_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = Authority::new(folder.path(), "ours");
    let server = ours.issue("server", "stator.test");
    let sections = [server.section("client", None), server.section("admin", Some(&ours))];
    let node = node(folder.path(), &sections.concat()).await;
    let operator = ours.issue("operator", "operator");
    let ca = ours.ca();
    let trust = ["--tls-ca", &ca, "--tls-domain", "stator.test"];
    let known = [&trust[..], &["--tls-cert", &operator.cert, "--tls-key", &operator.key]].concat();

    let table: [(&[&str], &[&str], i32, &str); 6] = [
        (&["kv", "put", "greeting", "hello"], &trust, 0, "acknowledged"),
        (&["kv", "get", "greeting"], &trust, 0, "hello"),
        (&["keyspace", "list"], &known, 0, "default"),
        (&["kv", "get", "greeting"], &trust[..2], 4, "not valid for name"),
        // Which of the node's words it still hears depends on who is faster.
        (&["kv", "get", "greeting"], &[], 4, "error"),
        (&["keyspace", "list"], &trust, 4, "CertificateRequired"),
    ];
    for (command, options, code, says) in table {
        let output = cli(&node, command, options).await;
        let both = [output.stdout, output.stderr].concat();
        let both = String::from_utf8_lossy(&both);
        assert_eq!(output.status.code(), Some(code), "{command:?} {options:?}: {both}");
        assert!(both.contains(says), "{command:?} {options:?}: {says:?} is not in: {both}");
    }
}

/// What a server says before it ends a connection that begins with `bytes`.
async fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
    read.await.expect("the server ends it").expect("no reset");
    answer
}

#[tokio::test]
async fn who_speaks_something_else_is_told_what_is_spoken() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = Authority::new(folder.path(), "ours");
    let server = ours.issue("server", LOOPBACK);
    let node = node(folder.path(), &server.section("client", None)).await;
    let (with_tls, plain) = (&node.addresses.client, &node.addresses.admin);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let http1 = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let table: [(&str, &[u8], &[u8]); 4] = [
        (with_tls, preface, b"this listener speaks TLS: use https://"),
        (with_tls, http1, b"this listener speaks TLS: use https://"),
        (plain, http1, b"this listener speaks gRPC"),
        (plain, b"\x16\x03\x01\0\x05hello", b"\x15\x03\x03\0\x02\x02\x28"),
    ];
    for (address, bytes, says) in table {
        let answer = answer_to(address, bytes).await;
        let found = answer.windows(says.len()).any(|part| part == says);
        assert!(found, "{}", String::from_utf8_lossy(&answer));
    }
    eventually("a gRPC client that forgot about TLS reads it in its error", async || {
        let channel = Endpoint::from_shared(format!("http://{with_tls}")).expect("an address");
        let told = match channel.connect().await {
            Ok(channel) => puts(channel, "a").await.expect_err("no TLS"),
            Err(error) => words(&error),
        };
        // Now and then the end of the connection overtakes the request.
        must(told.contains("use https://"), || told)
    })
    .await;
    let refused = dial(plain, &trusting(&ours, None)).await.expect_err("no TLS there");
    assert!(refused.contains("HandshakeFailure"), "{refused}");
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (before, after) =
        (Authority::new(folder.path(), "before"), Authority::new(folder.path(), "after"));
    let server = before.issue("server", LOOPBACK);
    let node = node(folder.path(), &server.section("client", None)).await;
    let client = &node.addresses.client;
    let open = dial(client, &trusting(&before, None)).await.expect("trusted");
    puts(open.clone(), "a").await.expect("served");

    // What cannot be used changes nothing.
    let good = std::fs::read(&server.key).expect("a key");
    std::fs::write(&server.key, "no key").expect("written");
    node.signal(libc::SIGHUP);
    eventually("the node says what is wrong", async || {
        let log = node.log();
        must(log.contains("tls.client.key") && log.contains("stay in use"), || log)
    })
    .await;
    dial(client, &trusting(&before, None)).await.expect("still served");
    std::fs::write(&server.key, good).expect("written");

    after.issue("server", LOOPBACK);
    node.signal(libc::SIGHUP);
    eventually("new connections see the new certificate", async || {
        dial(client, &trusting(&after, None)).await.map(drop)
    })
    .await;
    dial(client, &trusting(&before, None)).await.expect_err("replaced");
    puts(open, "b").await.expect("a connection stays as it began");
}

#[tokio::test]
async fn nodes_that_verify_each_other_replicate_and_refuse_another_authority() {
    let certificates = tempfile::tempdir().expect("a temporary folder");
    let ours = Authority::new(certificates.path(), "ours");
    let theirs = Authority::new(certificates.path(), "theirs");
    let config = |number: usize| {
        let own = ours.issue(&format!("node-{number}"), LOOPBACK);
        let text = own.section("peer", Some(&ours));
        let file = certificates.path().join(format!("node-{number}.toml"));
        std::fs::write(&file, text).expect("written");
        vec!["--config".to_owned(), file.display().to_string()]
    };
    let cluster = Cluster::start_with(3, config).await;
    cluster.create(keyspace("carts", 1, 3)).await;
    cluster[0].kv().put(put("carts", "k", "v")).await.expect("all three have it");
    for node in cluster.nodes() {
        let read = node.kv().get(get("carts", "k")).await.expect("read");
        assert_eq!(values(read.get_ref()), ["v".to_owned()].into());
    }
    // Its stream is TLS on the wire.
    let plain = answer_to(&cluster[0].addresses.peer, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&plain).contains("use https://"));

    let stranger = theirs.issue("stranger", LOOPBACK).section("peer", Some(&theirs));
    let file = certificates.path().join("stranger.toml");
    std::fs::write(&file, stranger).expect("written");
    let flags = ["--bootstrap", "wait", "--config", &file.display().to_string()];
    let stranger = Node::start(certificates.path(), "stranger", &flags).await;
    let peer_addresses = vec![cluster[0].addresses.peer.clone()];
    let request = v1::InitClusterRequest { peer_addresses, ..Default::default() };
    let refused = stranger.admin().init_cluster(request).await.expect_err("another authority");
    assert!(refused.message().contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_start_with_a_bad_certificate_names_file_and_fault() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = Authority::new(folder.path(), "ours");
    let server = ours.issue("server", LOOPBACK);
    let other = ours.issue("other", LOOPBACK);
    let expired = ours.issue_with("expired", LOOPBACK, |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let early = ours.issue_with("early", LOOPBACK, |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        params.not_after = rcgen::date_time_ymd(3000, 1, 1);
    });
    let nonsense = folder.path().join("nonsense.pem").display().to_string();
    std::fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    let missing = folder.path().join("missing.pem").display().to_string();
    let of = |cert: &str, key: &str| Identity { cert: cert.to_owned(), key: key.to_owned() };
    let table = [
        ("missing", of(&missing, &server.key), vec![&missing, "cannot be read"]),
        ("a key instead", of(&server.key, &server.key), vec!["tls.client.cert", "no certificate"]),
        ("nonsense", of(&nonsense, &server.key), vec![&nonsense, "cannot be read"]),
        ("no key", of(&server.cert, &server.cert), vec!["tls.client.key", "no private key"]),
        ("another key", of(&server.cert, &other.key), vec![&other.key, &server.cert, "Mismatch"]),
        ("expired", expired.clone(), vec![&expired.cert, "expired"]),
        ("too early", early.clone(), vec![&early.cert, "becomes valid"]),
    ];
    let (data, file) = (folder.path().join("data"), folder.path().join("stator.toml"));
    for (case, identity, says) in table {
        std::fs::write(&file, identity.section("client", None)).expect("written");
        let (data, file) = (data.display().to_string(), file.display().to_string());
        let free = ["client", "admin", "peer"].map(|whom| format!("--{whom}-listen=127.0.0.1:0"));
        let flags = ["serve", "--data-dir", &data, "--config", &file];
        let output = stator(flags.into_iter().chain(free.iter().map(String::as_str))).await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{case}: {words}");
        for word in says {
            assert!(words.contains(word), "{case}: {word:?} is not in: {words}");
        }
    }
    assert!(!data.exists(), "nothing was made");
}
