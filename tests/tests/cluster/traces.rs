//! Traces of real nodes, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use stator_client::{Client, Coordination, Entry, Options, Traceparent};
use stator_proto::v1;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::metrics::Page;
use crate::support::{
    Authority, Cluster, Identity, Node, eventually, get, keyspace, must, put, stator_with,
};

/// A span as it arrived.
#[derive(Debug, Clone)]
struct Seen {
    name: String,
    trace: String,
    id: String,
    parent: String,
    node: String,
    notes: BTreeMap<String, String>,
}

impl Seen {
    fn note(&self, name: &str) -> &str {
        self.notes.get(name).map_or("", String::as_str)
    }
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

fn notes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    let value = |note: &KeyValue| text(note.value.as_ref().and_then(|value| value.value.as_ref()));
    of.iter().map(|note| (note.key.clone(), value(note))).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let whose = notes(&resource.resource.unwrap_or_default().attributes);
            assert_eq!(whose["service.name"], "stator");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().expect("whole").extend(spans.map(|span| Seen {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                node: whose["service.instance.id"].clone(),
                notes: notes(&span.attributes),
                name: span.name,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Collector {
    /// One that listens, and where.
    async fn start() -> (Collector, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let collector = Collector::default();
        let service = TraceServiceServer::new(collector.clone());
        let incoming = TcpListenerStream::new(listener);
        let served = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(served.serve_with_incoming(incoming));
        (collector, address)
    }

    fn of(&self, trace: &str) -> Vec<Seen> {
        let all = self.0.lock().expect("whole");
        all.iter().filter(|span| span.trace == trace).cloned().collect()
    }

    /// The spans of a trace, once they are as they must be.
    async fn wait(&self, trace: &str, mut is_whole: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        eventually("the spans arrive", async || {
            let spans = self.of(trace);
            must(is_whole(&spans), || format!("{spans:#?}"))?;
            Ok(spans)
        })
        .await
    }
}

fn named<'a>(spans: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    spans.iter().filter(|span| span.name == name).collect()
}

const SPAN: &str = "b7ad6b7169203331";

/// A traceparent of its own trace, and that trace.
fn traced(number: u8) -> (String, String) {
    let trace = format!("{number:032x}");
    (format!("00-{trace}-{SPAN}-01"), trace)
}

fn client(node: &Node, traceparent: &str) -> Client {
    let (mut options, traceparent) = (Options::default(), traceparent.to_owned());
    options.coordination = Coordination::Any;
    options.trace = Some(Traceparent::from(move || Some(traceparent.clone())));
    Client::plain([&node.addresses.client], options).expect("an address")
}

#[tokio::test]
async fn a_request_is_traced_from_its_client_to_the_replicas_and_the_merge() {
    let (collector, address) = Collector::start().await;
    let flags = |_| {
        let words = ["--traces-sample=0", "--log=info,stator::api=debug"];
        let mut flags: Vec<String> = words.map(str::to_owned).to_vec();
        flags.push(format!("--traces-endpoint={address}"));
        flags
    };
    let cluster = Cluster::start_with(3, flags).await;
    let reconcile = cluster.push_cart().await;
    let module = reconcile.module_digest.clone();
    cluster.create(v1::Keyspace { reconcile: Some(reconcile), ..keyspace("carts", 3, 3) }).await;

    let (header, trace) = traced(1);
    let mut entry = Entry::blind("carts", "secret-key-of-alice");
    entry.set(cart_of("tea"));
    client(&cluster[0], &header).put(entry).await.expect("put");
    let spans = collector.wait(&trace, |spans| {
        let count = |name| named(spans, name).len();
        let counts = ["stator.v1.Kv/Put", "quorum of a put", "replica", "store"].map(count);
        counts == [1, 1, 2, 3]
    });
    let spans = spans.await;
    let [request] = named(&spans, "stator.v1.Kv/Put")[..] else { panic!("{spans:#?}") };
    let me = &cluster[0].addresses.node;
    assert_eq!((&request.parent[..], &request.node), (SPAN, me));
    assert_eq!(request.note("stator.keyspace"), "carts");
    assert_eq!(request.note("rpc.grpc.status_code"), "0");
    let [quorum] = named(&spans, "quorum of a put")[..] else { panic!("{spans:#?}") };
    assert_eq!((&quorum.parent, quorum.note("stator.acked")), (&request.id, "3"));
    let replicas = named(&spans, "replica");
    assert!(replicas.iter().all(|replica| replica.parent == quorum.id), "{spans:#?}");
    for store in named(&spans, "store") {
        assert_eq!(store.note("stator.wanted"), "write");
        match store.node == *me {
            true => assert_eq!(store.parent, quorum.id),
            // The other node's, below what it was asked by.
            false => {
                let asked = replicas.iter().find(|replica| replica.id == store.parent);
                assert_eq!(asked.expect("it was asked").note("stator.peer"), store.node);
            }
        }
    }
    // The log names the trace, and the trace the log's id.
    let id = format!("id=\"{}\"", request.note("stator.request_id"));
    let log = cluster[0].log();
    let line = log.lines().find(|line| line.contains("answered") && line.contains(&id));
    assert!(line.is_some_and(|line| line.contains(&trace)), "{id} {trace}\n{log}");

    // A sibling by who is not traced, and a get that merges.
    cluster[1].kv().put(put("carts", "secret-key-of-alice", &cart_of("milk"))).await.expect("put");
    let (header, trace) = traced(2);
    client(&cluster[2], &header).get("carts", "secret-key-of-alice").await.expect("got");
    let spans = collector.wait(&trace, |spans| {
        !named(spans, "merge").is_empty() && !named(spans, "stator.v1.Kv/Get").is_empty()
    });
    let spans = spans.await;
    let (merge, request) = (named(&spans, "merge")[0], named(&spans, "stator.v1.Kv/Get")[0]);
    assert_eq!((&merge.parent, &merge.node), (&request.id, &cluster[2].addresses.node));
    assert_eq!((merge.note("stator.module"), merge.note("stator.siblings")), (&module[..], "2"));
    assert_eq!((merge.note("stator.outcome"), merge.note("stator.remembered")), ("value", "false"));
    assert!(merge.note("stator.fuel").parse::<u64>().is_ok_and(|fuel| fuel > 0), "{merge:?}");
    let (header, trace) = traced(3);
    client(&cluster[2], &header).get("carts", "secret-key-of-alice").await.expect("got");
    let again = collector.wait(&trace, |spans| !named(spans, "merge").is_empty()).await;
    assert_eq!(named(&again, "merge")[0].note("stator.remembered"), "true");

    let all = collector.0.lock().expect("whole").clone();
    let traces: BTreeSet<_> = all.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), 3, "who is not traced by its client is not, with a share of 0");
    assert!(!format!("{all:?}").contains("alice"), "no key is told");
}

/// A cart with one item, as the example's format has it.
fn cart_of(item: &str) -> String {
    format!("{{\"items\":{{\"{item}\":{{\"quantity\":1,\"sku\":\"{item}\"}}}}}}")
}

#[tokio::test]
async fn a_share_is_traced_and_a_client_that_is_not_wants_none() {
    let (collector, address) = Collector::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let endpoint = format!("--traces-endpoint={address}");
    let flags = [endpoint.as_str(), "--traces-sample=1"];
    let node = Node::start(folder.path(), "node", &flags).await;
    let (header, trace) = traced(1);
    let untraced = header.replace("-01", "-00");
    client(&node, &untraced).get("default", "key").await.expect("got");
    node.kv().get(get("default", "key")).await.expect("got");
    eventually("the other one arrives", async || {
        let all = collector.0.lock().expect("whole").clone();
        must(!named(&all, "stator.v1.Kv/Get").is_empty(), || format!("{all:#?}"))
    })
    .await;
    assert!(collector.of(&trace).is_empty());
}

/// What shows this certificate, and passes on to `address` what it hears. Gives where it listens.
async fn encrypted(identity: &Identity, address: String) -> String {
    let chain = CertificateDer::pem_file_iter(&identity.cert).expect("a file");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.expect("TLS").with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.expect("an identity");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listens = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                let mut inside = acceptor.accept(stream).await?;
                let mut behind = TcpStream::connect(address).await?;
                tokio::io::copy_bidirectional(&mut inside, &mut behind).await
            });
        }
    });
    listens
}

#[tokio::test]
async fn a_collector_is_told_through_tls_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ours, theirs) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let (collector, address) = Collector::start().await;
    let address = encrypted(&ours.issue("collector", "127.0.0.1"), address).await;
    let node = async |name, authority: &Authority| {
        let flags = [
            format!("--traces-endpoint={address}"),
            format!("--traces-ca={}", authority.ca()),
            "--traces-sample=0".to_owned(),
        ];
        Node::start(folder.path(), name, &flags.each_ref().map(String::as_str)).await
    };
    let (distrusting, trusting) =
        (node("distrusting", &theirs).await, node("trusting", &ours).await);
    let (header, lost) = traced(1);
    client(&distrusting, &header).get("default", "key").await.expect("got");
    eventually("its collector is not believed", async || {
        let log = distrusting.log();
        must(log.contains("the collector takes no traces"), || log.clone())
    })
    .await;
    let (header, trace) = traced(2);
    client(&trusting, &header).get("default", "key").await.expect("got");
    collector.wait(&trace, |spans| !named(spans, "stator.v1.Kv/Get").is_empty()).await;
    assert!(collector.of(&lost).is_empty());
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nobody_anything() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let endpoint = format!("--traces-endpoint={address}");
    let flags = [endpoint.as_str(), "--traces-sample=1", "--metrics-listen=127.0.0.1:0"];
    let node = Node::start(folder.path(), "node", &flags).await;
    let metrics = node.addresses.metrics.clone().expect("it has a page");
    eventually("spans are lost, and requests served", async || {
        node.kv().put(put("default", "key", "value")).await.expect("put");
        let page = Page::read(&metrics).await;
        let lost = page.find("stator_trace_spans_total{outcome=\"lost\"}");
        must(lost >= 1.0, || format!("{lost}"))
    })
    .await;
    assert!(node.log().contains("the collector takes no traces"), "{}", node.log());
}

/// The collector that `tests/collector/install` brought.
fn rotel() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/collector/rotel");
    path.is_file().then_some(path)
}

#[tokio::test]
async fn a_real_collector_takes_the_traces() {
    let Some(program) = rotel() else {
        use std::io::Write;
        // Not by a macro, whose words the harness keeps of a test that passes.
        let _ =
            writeln!(std::io::stderr(), "skipped: a real collector, see tests/collector/install");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (log, mut addresses) = (folder.path().join("collector"), Vec::new());
    for _ in 0..2 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        addresses.push(free.local_addr().expect("an address").to_string());
    }
    let mut collector = tokio::process::Command::new(program);
    collector.args(["start", "--exporter", "blackhole", "--debug-log", "traces"]);
    collector.args(["--debug-log-verbosity", "detailed", "--otlp-grpc-endpoint", &addresses[0]]);
    collector.args(["--otlp-http-endpoint", &addresses[1]]);
    collector.stdout(std::fs::File::create(&log).expect("a file"));
    let _collector = collector.kill_on_drop(true).spawn().expect("it starts");

    let endpoint = format!("--traces-endpoint={}", addresses[0]);
    let node = Node::start(folder.path(), "node", &[&endpoint]).await;
    let (header, trace) = traced(7);
    let (client, id) = (node.addresses.client.as_str(), format!("Trace ID       : {trace}"));
    // Again until the collector is there: what came before is lost.
    eventually("the collector shows the trace", async || {
        let arguments = ["kv", "put", "key", "value", "--endpoint", client];
        let put = stator_with(&[("TRACEPARENT", header.as_str())], arguments).await;
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
        let shown = std::fs::read_to_string(&log).expect("readable");
        let all = [id.as_str(), "stator.v1.Kv/Put", "quorum of a put"];
        must(all.iter().all(|what| shown.contains(what)), || shown.clone())
    })
    .await;
}
