//! Messages: random bytes, and messages that are valid and weird, for every method there is.
//!
//! The methods and the fields of their requests come from the descriptors that the node itself
//! serves by reflection, so that a new method or field is attacked from its first day.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use stator_proto::FILE_DESCRIPTOR_SET;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Bytes, tokio_stream};
use tonic::transport::Channel;

use super::raw::Outcomes;
use crate::support::Raw;

/// How deep messages nest in what is made here.
const DEPTH_MAX: usize = 3;
/// A call must be answered by then; what waits for others (a cluster's making) may not be.
const DEADLINE: Duration = Duration::from_secs(2);
/// A stream ends by then, whatever it still waits for.
const STREAM_DEADLINE: Duration = Duration::from_millis(20);

/// A message, encoded.
type Encoded = Vec<u8>;

/// A method and the type of its request.
pub struct Method {
    pub path: String,
    request: String,
    /// Whether it may wait for what is yet to happen.
    is_stream: bool,
}

/// All methods of `stator.v1`, and what their requests are made of.
pub struct Interface {
    pub methods: Vec<Method>,
    types: HashMap<String, DescriptorProto>,
}

impl Interface {
    pub fn read() -> Interface {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
        let (mut methods, mut types) = (Vec::new(), HashMap::new());
        for file in set.file {
            let package = format!(".{}", file.package());
            for message in &file.message_type {
                collect(&package, message, &mut types);
            }
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    request: method.input_type().to_owned(),
                    is_stream: method.server_streaming(),
                }));
            }
        }
        Interface { methods, types }
    }

    /// Requests of this method that can be decoded, whatever they say.
    fn requests(&self, method: &Method) -> BoxedStrategy<Encoded> {
        self.message(&method.request, 0)
    }

    fn message(&self, name: &str, depth: usize) -> BoxedStrategy<Encoded> {
        let Some(message) = self.types.get(name).filter(|_| depth < DEPTH_MAX) else {
            return Just(Vec::new()).boxed();
        };
        let fields: Vec<_> = message.field.iter().map(|field| self.field(field, depth)).collect();
        fields.prop_map(|fields| fields.concat()).boxed()
    }

    fn field(&self, field: &FieldDescriptorProto, depth: usize) -> BoxedStrategy<Encoded> {
        let number = field.number().cast_unsigned();
        let tagged = move |wire: u32, content: Encoded| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut bytes);
            bytes.extend(content);
            bytes
        };
        let delimited = |content: BoxedStrategy<Encoded>| {
            content.prop_map(|content| {
                let mut bytes = Vec::new();
                prost::encoding::encode_varint(content.len() as u64, &mut bytes);
                bytes.extend(content);
                bytes
            })
        };
        let value = match field.r#type() {
            Type::String => delimited(strings()).prop_map(move |v| tagged(2, v)).boxed(),
            Type::Bytes => delimited(blobs()).prop_map(move |v| tagged(2, v)).boxed(),
            Type::Message => {
                let content = self.message(field.type_name(), depth + 1);
                delimited(content).prop_map(move |v| tagged(2, v)).boxed()
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                any::<[u8; 8]>().prop_map(move |v| tagged(1, v.to_vec())).boxed()
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                any::<[u8; 4]>().prop_map(move |v| tagged(5, v.to_vec())).boxed()
            }
            _ => numbers().prop_map(move |v| tagged(0, v)).boxed(),
        };
        let most = if field.label() == Label::Repeated { 5 } else { 1 };
        prop::collection::vec(value, 0..=most).prop_map(|values| values.concat()).boxed()
    }
}

fn collect(prefix: &str, message: &DescriptorProto, types: &mut HashMap<String, DescriptorProto>) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, types);
    }
    types.insert(name, message.clone());
}

fn strings() -> BoxedStrategy<Encoded> {
    const KNOWN: [&str; 7] =
        ["default", "", "*", "keyspaces/default", "\u{0}", "../../etc/passwd", "🛒"];
    prop_oneof![
        4 => prop::sample::select(&KNOWN[..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => "\\PC{0,40}".prop_map(String::into_bytes),
        1 => (0usize..5_000).prop_map(|length| vec![b'n'; length]),
    ]
    .boxed()
}

fn blobs() -> BoxedStrategy<Encoded> {
    prop_oneof![
        2 => Just(b"k".to_vec()),
        1 => Just(Vec::new()),
        3 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0usize..100_000).prop_map(|length| vec![0xff; length]),
    ]
    .boxed()
}

fn numbers() -> BoxedStrategy<Encoded> {
    const EDGES: [u64; 9] = [0, 1, 2, 3, 127, 1 << 31, (1 << 32) - 1, 1 << 63, u64::MAX];
    prop_oneof![4 => prop::sample::select(&EDGES[..]), 1 => any::<u64>()]
        .prop_map(|number| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(number, &mut bytes);
            bytes
        })
        .boxed()
}

/// Sends `cases` bodies of `strategy` to each method, methods at the same time; counts the codes
/// of the answers.
async fn everywhere(
    (client, admin): (&Channel, &Channel),
    interface: &Interface,
    cases: usize,
    strategy: impl Fn(&Method) -> BoxedStrategy<Vec<Encoded>>,
) -> Outcomes {
    let one = |method: &Method| {
        let strategy = strategy(method);
        let channel = if method.path.contains("Admin") { admin } else { client };
        let (channel, path) = (channel.clone(), method.path.clone());
        let deadline = if method.is_stream { STREAM_DEADLINE } else { DEADLINE };
        let path = PathAndQuery::try_from(path).expect("a path");
        async move {
            // The same bytes in every run: a failure comes back.
            let mut runner = TestRunner::deterministic();
            let mut outcomes = Outcomes::default();
            for _ in 0..cases {
                let messages = strategy.new_tree(&mut runner).expect("a case").current();
                let (code, words) = call(&channel, &path, messages.clone(), deadline).await;
                let is_fault = ["Internal", "Unknown", "DataLoss"].contains(&code.as_str());
                let sent: Vec<_> = messages.iter().map(|m| &m[..m.len().min(60)]).collect();
                assert!(!is_fault, "{path}: {words} for messages that begin with {sent:?}");
                outcomes.add(code);
            }
            outcomes
        }
    };
    let mut outcomes = Outcomes::default();
    for outcome in join_all(interface.methods.iter().map(one)).await {
        outcomes.join(outcome);
    }
    outcomes
}

async fn call(
    channel: &Channel,
    path: &PathAndQuery,
    messages: Vec<Encoded>,
    deadline: Duration,
) -> (String, String) {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    let mut request = Request::new(tokio_stream::iter(messages.into_iter().map(Bytes::from)));
    request.set_timeout(deadline);
    let answer = grpc.client_streaming::<_, Bytes, Bytes, _>(request, path.clone(), Raw).await;
    match answer {
        Ok(_) => ("Ok".to_owned(), String::new()),
        // A stream without a message is well, though it is none of one message.
        Err(status) if status.message() == "Missing response message." => {
            ("Ok".to_owned(), String::new())
        }
        Err(status) => (format!("{:?}", status.code()), status.to_string()),
    }
}

/// Bytes that are mostly no message.
pub async fn random_bytes(
    channels: (&Channel, &Channel),
    interface: &Interface,
    cases: usize,
) -> Outcomes {
    everywhere(channels, interface, cases, |_| {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3).boxed()
    })
    .await
}

/// Messages that can be decoded and make no sense.
pub async fn weird_messages(
    channels: (&Channel, &Channel),
    interface: &Interface,
    cases: usize,
) -> Outcomes {
    everywhere(channels, interface, cases, |method| {
        prop::collection::vec(interface.requests(method), 1..=2).boxed()
    })
    .await
}
