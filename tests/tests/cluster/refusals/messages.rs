//! Bytes that are no message, and messages that are too large to be read.

use stator_proto::v1;
use tonic::Code::{InvalidArgument, Unimplemented};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Bytes, tokio_stream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::node;
use crate::support::{Raw, get, put, refusal};

pub(super) async fn send(
    channel: Channel,
    path: &str,
    body: &'static [u8],
) -> Result<Response<Bytes>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("connected");
    let body = tokio_stream::once(Bytes::from_static(body));
    let path = path.parse::<PathAndQuery>().expect("a path");
    grpc.client_streaming(Request::new(body), path, Raw).await
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_clients_mistake() {
    let (node, _folder) = node().await;
    let table: [(&str, &'static str, &'static [u8]); 5] = [
        ("a cut length", "/stator.v1.Kv/Put", &[0x0a]),
        ("a length beyond the end", "/stator.v1.Kv/Get", &[0x0a, 0x7f, b'k']),
        ("text that is no UTF-8", "/stator.v1.Kv/Delete", &[0x0a, 0x01, 0xff]),
        ("a wrong wire type", "/stator.v1.Admin/GetKeyspace", &[0x08, 0x01]),
        ("nonsense in a stream", "/stator.v1.Admin/PushModule", &[0xff; 20]),
    ];
    for (case, path, body) in table {
        let is_admin = path.contains("Admin");
        let channel = if is_admin { node.admin_channel() } else { node.client_channel() };
        let says = &["not a message of this method", "nothing was changed"];
        let expected = refusal(InvalidArgument, "MESSAGE_MALFORMED", says);
        expected.check(case, send(channel, path, body).await);
        node.serves("default", case).await;
    }
}

#[tokio::test]
async fn what_a_request_asks_beyond_this_version_is_never_ignored() {
    let (node, _folder) = node().await;
    let table: [(&str, &str, &'static [u8]); 6] = [
        ("field 14 of", "/stator.v1.Kv/Put", b"\x0a\x07default\x12\x01k\x1a\x01v\x72\x02\x08\x01"),
        ("field 9 of", "/stator.v1.Kv/Get", b"\x0a\x07default\x12\x01k\x48\x00"),
        ("field 200 of", "/stator.v1.Kv/Delete", b"\x0a\x07default\x12\x01k\x20\x01\xc0\x0c\x01"),
        ("quorum 9", "/stator.v1.Kv/Put", b"\x0a\x07default\x12\x01k\x1a\x01v\x48\x09"),
        (
            "keyspace.field 31 of",
            "/stator.v1.Admin/CreateKeyspace",
            b"\x0a\x06\x0a\x01x\xf8\x01\x01",
        ),
        ("header.field 30 of", "/stator.v1.Admin/PushModule", b"\x0a\x06\x0a\x01x\xf0\x01\x01"),
    ];
    for (what, path, body) in table {
        let is_admin = path.contains("Admin");
        let channel = if is_admin { node.admin_channel() } else { node.client_channel() };
        let answer = send(channel, path, body).await;
        let words =
            answer.as_ref().map_or_else(|status| status.message().to_owned(), |_| String::new());
        refusal(Unimplemented, "NOT_OFFERED", &["nothing was changed"]).check(what, answer);
        assert!(words.contains(what), "{what} is not in: {words}");
        node.serves("default", what).await;
    }
    let read = node.kv().get(get("default", "k")).await.expect("read").into_inner();
    assert!(read.versions.is_empty(), "nothing was written");
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let (node, _folder) = node().await;
    node.kv().put(put("default", "empty", "")).await.expect("taken");
    let read = node.kv().get(get("default", "empty")).await.expect("read").into_inner();
    let [version] = &read.versions[..] else { panic!("{read:?}") };
    assert!(!version.tombstone && version.value.as_deref() == Some(b""), "{version:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_unread() {
    let (node, _folder) = node().await;
    let large = "v".repeat(3 << 20);
    let expected = refusal(InvalidArgument, "MESSAGE_TOO_LARGE", &["3145", "the limit is"]);
    expected.check("a put of 3 MiB", node.kv().put(put("default", "k", &large)).await);
    node.serves("default", "a put of 3 MiB").await;

    let name = "n".repeat(5 << 20);
    let request = v1::GetKeyspaceRequest { name };
    expected_at_admin().check("a name of 5 MiB", node.admin().get_keyspace(request).await);
    node.serves("default", "a name of 5 MiB").await;
}

fn expected_at_admin() -> crate::support::Refusal {
    refusal(InvalidArgument, "MESSAGE_TOO_LARGE", &["5242", "the limit is: 4194304"])
}
