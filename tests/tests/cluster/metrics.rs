//! The page of metrics, and the ids of requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use stator::telemetry::names::{ALL, Kind};
use stator_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;

use crate::conflicts::{must_run, run};
use crate::support::{Cluster, Node, eventually, get, keyspace, must, put};

/// What a page says: the kind of each metric, and every series with its value.
pub struct Page {
    kinds: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

impl Page {
    pub async fn read(address: &str) -> Page {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let ask = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let mut page = Page { kinds: BTreeMap::new(), series: BTreeMap::new() };
        for line in text.lines() {
            if let Some(words) = line.strip_prefix("# TYPE ") {
                let (name, kind) = words.split_once(' ').expect("a name and a kind");
                page.kinds.insert(name.to_owned(), kind.to_owned());
            } else if let Some((series, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse()
            {
                page.series.insert(series.to_owned(), value);
            }
        }
        page
    }

    fn value(&self, series: &str) -> f64 {
        let found = self.series.get(series);
        *found.unwrap_or_else(|| panic!("no {series} in {:#?}", self.series.keys()))
    }

    /// The same of a series that begins with the first that it counts.
    pub fn find(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }
}

#[tokio::test]
async fn the_page_says_what_happened_in_documented_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &["--metrics-listen=127.0.0.1:0"]).await;
    let address = node.addresses.metrics.clone().expect("it has a page");
    for value in ["tea", "milk"] {
        node.kv().put(put("default", "breakfast", value)).await.expect("put");
    }
    node.kv().get(get("default", "breakfast")).await.expect("got");
    node.kv().get(get("nowhere", "breakfast")).await.expect_err("no such keyspace");

    let page = Page::read(&address).await;
    let kv = |method: &str, code: &str| {
        format!("stator_requests_total{{method=\"stator.v1.Kv/{method}\",code=\"{code}\"}}")
    };
    assert_eq!(page.value(&kv("Put", "Ok")), 2.0);
    assert_eq!(page.value(&kv("Get", "Ok")), 1.0);
    assert_eq!(page.value(&kv("Get", "NotFound")), 1.0);
    assert_eq!(page.value("stator_requests_running"), 0.0);
    assert_eq!(page.value("stator_get_siblings_count{keyspace=\"default\"}"), 1.0);
    assert_eq!(page.value("stator_get_siblings_sum{keyspace=\"default\"}"), 2.0);
    assert_eq!(page.value("stator_store_objects{store=\"data\"}"), 1.0);
    assert!(page.value("stator_store_syncs_total{store=\"data\"}") >= 1.0);
    assert!(page.value("stator_store_sync_seconds_count{store=\"data\"}") >= 1.0);
    for quantile in ["0.5", "0.99", "0.999"] {
        let series = format!(
            "stator_request_seconds{{method=\"stator.v1.Kv/Put\",quantile=\"{quantile}\"}}"
        );
        assert!(page.value(&series) > 0.0);
    }
    let of_keyspace = "keyspace=\"default\"";
    let puts = format!("{{{of_keyspace},operation=\"put\",le=\"+Inf\"}}");
    assert_eq!(page.value(&format!("stator_keyspace_request_seconds_bucket{puts}")), 2.0);
    let all = format!("stator_convergence_seconds_count{{{of_keyspace}}}");
    assert_eq!(page.value(&all), 2.0);
    assert!(page.value("stator_process_resident_bytes") > 1e6);

    for (name, kind) in &page.kinds {
        let metric = ALL.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} has no name in the program"));
        let expected = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
        };
        assert_eq!(kind, expected, "{name}");
    }
}

/// The table of Dynamo's section 6.3, of all nodes, however a get looks at what it meets.
#[tokio::test]
async fn gets_are_counted_by_the_versions_that_they_met() {
    let cluster = Cluster::start_with(2, |_| vec!["--metrics-listen=127.0.0.1:0".into()]).await;
    cluster.create(v1::Keyspace { n: 2, ..keyspace("notes", 1, 2) }).await;
    let kv = |node: usize| cluster[node].kv();
    for (key, value) in [("a", "one"), ("b", "one"), ("b", "two"), ("b", "three")] {
        kv(0).put(put("notes", key, value)).await.expect("put");
    }
    for (node, key) in [(0, "none"), (0, "a"), (1, "a"), (1, "b")] {
        kv(node).get(get("notes", key)).await.expect("got");
    }
    let siblings = v1::GetRequest { view: v1::View::Siblings.into(), ..get("notes", "b") };
    kv(0).get(siblings).await.expect("got");
    let found = must_run(&cluster[0], &["keyspace", "divergence", "notes"]).await;
    let [one] = &found["keyspaces"].as_array().expect("a list")[..] else { panic!("{found}") };
    let versions = serde_json::json!({ "0": 1, "1": 2, "2": 0, "3": 2, "4": 0, "5+": 0 });
    assert_eq!((&one["gets"], &one["versions"]), (&5.into(), &versions));
    let page = Page::read(cluster[1].addresses.metrics.as_deref().expect("it has a page")).await;
    assert_eq!(page.value("stator_gets_total{keyspace=\"notes\",versions=\"3\"}"), 1.0);
    run(&cluster[0], &["keyspace", "divergence", "nowhere"]).await.expect_err("no such keyspace");
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `stator_"));
    let documented: BTreeSet<String> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let labels = cells[3].replace(['`', '–'], "");
            format!("{} {} [{labels}]", cells[1].trim_matches('`'), cells[2])
        })
        .collect();
    let named: BTreeSet<String> = ALL
        .iter()
        .map(|metric| {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            format!("{} {kind} [{}]", metric.name, metric.labels.join(", "))
        })
        .collect();
    assert_eq!(documented, named);
}

#[tokio::test]
async fn a_slow_request_has_a_line_with_its_id_and_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = folder.path().join("stator.toml");
    std::fs::write(&settings, "[timings]\nslow_request_ms = 1\n").expect("settings");
    let settings = format!("--config={}", settings.display());
    let node = Node::start(folder.path(), "node", &[&settings]).await;
    let value = "v".repeat(400_000);
    eventually("the log tells of a put that took a millisecond", async || {
        let mut request = tonic::Request::new(put("default", "large", &value));
        request.metadata_mut().insert("x-request-id", MetadataValue::from_static("slow-1"));
        node.kv().put(request).await.map_err(|status| status.to_string())?;
        let log = node.log();
        let line = log.lines().find(|line| line.contains("a slow request"));
        must(line.is_some_and(|line| line.contains("slow-1") && line.contains("large")), || {
            log.clone()
        })
    })
    .await;
}

#[tokio::test]
async fn a_request_keeps_its_id_from_the_client_to_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &["--log=info,stator::api=debug"]).await;
    let mut request = tonic::Request::new(put("default", "key", "value"));
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("order-4711"));
    let answer = node.kv().put(request).await.expect("put");
    assert_eq!(answer.metadata().get("x-request-id").expect("an id"), "order-4711");
    eventually("the log has the id", async || {
        must(node.log().contains("order-4711"), || node.log_tail())
    })
    .await;

    let mut request = tonic::Request::new(get("nowhere", "key"));
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("no spaces"));
    let refused = node.kv().get(request).await.expect_err("no such keyspace");
    let made_up = refused.metadata().get("x-request-id").expect("an id");
    assert_eq!(made_up.len(), 16, "one that cannot stand in a log is replaced");
}
