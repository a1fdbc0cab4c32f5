//! Every method of the interface, called wrongly in every way that fits all: whatever is refused
//! says why, to programs too.

use std::time::Duration;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::messages::send;
use super::node;
use crate::support::Node;

/// The methods of `stator.v1` as paths.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(stator_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "stator.v1") {
        for service in &file.service {
            let path = |method: &str| format!("/stator.v1.{}/{method}", service.name());
            paths.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    assert!(paths.len() >= 20, "{paths:?}");
    paths
}

/// What every error must carry, by its code.
fn check(case: &str, status: &Status) {
    let details = status.get_error_details();
    let info = details.error_info();
    let info = info.unwrap_or_else(|| panic!("{case}: no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "stator", "{case}");
    let is_reason = |c: char| c.is_ascii_uppercase() || c == '_';
    assert!(!info.reason.is_empty() && info.reason.chars().all(is_reason), "{case}: {info:?}");
    assert!(!status.message().is_empty(), "{case}: no words");
    let documented = include_str!("../../../../docs/api.md");
    let entry = format!("`{}`", info.reason);
    assert!(documented.contains(&entry), "{case}: docs/api.md does not list {entry}");
    let has_more = match status.code() {
        Code::InvalidArgument => details.bad_request().is_some(),
        Code::FailedPrecondition => details.precondition_failure().is_some(),
        Code::ResourceExhausted => {
            details.quota_failure().is_some() || details.retry_info().is_some()
        }
        Code::Unavailable | Code::DeadlineExceeded => info.metadata.contains_key("effect"),
        Code::NotFound | Code::AlreadyExists | Code::Aborted => !info.metadata.is_empty(),
        Code::Unimplemented => true,
        other => panic!("{case}: no error should be {other:?}: {}", status.message()),
    };
    assert!(has_more, "{case}: {:?} without its details: {}", status.code(), status.message());
}

/// How long a refusal may take: a stream of what is yet to happen gives no answer at all.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// Calls `path` with `body`; the refusal, if it is one.
async fn refused(node: &Node, path: &str, body: &'static [u8]) -> Option<Status> {
    let is_admin = path.contains("Admin");
    let channel = if is_admin { node.admin_channel() } else { node.client_channel() };
    let answer = tokio::time::timeout(REFUSAL_TIME, send(channel, path, body)).await;
    answer.ok()?.err()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn every_method_says_why_it_refuses() {
    let (node, folder) = node().await;
    let waiting = Node::start(folder.path(), "waiting", &["--bootstrap", "wait"]).await;
    let mut refusals = 0;
    for path in methods() {
        // A field of a wrong wire type in every message that has a field; unknown in others.
        let malformed = refused(&node, &path, &[0x0a, 0x7f]).await;
        let malformed = malformed.unwrap_or_else(|| panic!("{path}: nonsense was taken"));
        assert_eq!(reason(&malformed), "MESSAGE_MALFORMED", "{path}");
        check(&format!("{path}, malformed"), &malformed);

        for (case, node) in [("empty", &node), ("empty, no cluster", &waiting)] {
            // An empty InitCluster is a good one where there is no cluster.
            if path.ends_with("InitCluster") && case != "empty" {
                continue;
            }
            if let Some(status) = refused(node, &path, &[]).await {
                refusals += 1;
                check(&format!("{path}, {case}"), &status);
            }
        }
    }
    assert!(refusals >= 20, "most methods need something: {refusals}");
    for path in ["/stator.v1.Kv/Frobnicate", "/stator.v1.Admin/Frobnicate"] {
        let status = refused(&node, path, &[]).await.expect("there is no such method");
        assert_eq!(reason(&status), "UNKNOWN_METHOD", "{path}");
        check(path, &status);
    }
    node.serves("default", "all of these").await;
}

/// The reasons that stand in the program's source, so that none is without its line in the docs.
#[test]
fn every_reason_is_documented() {
    let documented = include_str!("../../../../docs/api.md");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src/api");
    let mut reasons = 0;
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in code.split('"').skip(1).step_by(2) {
            let is_reason = |c: char| c.is_ascii_uppercase() || c == '_';
            if !word.starts_with("CARGO_") && word.contains('_') && word.chars().all(is_reason) {
                reasons += 1;
                let entry = format!("`{word}`");
                assert!(documented.contains(&entry), "docs/api.md lacks {entry} of {path:?}");
            }
        }
    }
    assert!(reasons >= 30, "{reasons} reasons");
}
