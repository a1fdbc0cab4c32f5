//! Requests are read strictly: what this program does not know of is refused, not ignored.
//!
//! Protobuf skips fields and keeps enum values that it has no name for, which is right for
//! answers: a newer server tells more. In a request they are what a newer client *wants*: "only if
//! absent", answered OK by a server that did not look, is a lock given away twice. So the messages
//! that methods of `stator.v1` take are walked beside their decoding, nested ones too, with the
//! descriptors that reflection serves. Answers are not.

use std::collections::{BTreeSet, HashMap};
use std::marker::PhantomData;
use std::sync::OnceLock;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::FILE_DESCRIPTOR_SET;

/// The codec of the generated code: protobuf, with requests read strictly. What a request has that
/// this program does not know is told by a status UNIMPLEMENTED whose message names it.
#[derive(Debug, Clone, Copy)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        StrictCodec(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> StrictDecoder<U> {
        StrictDecoder(PhantomData)
    }
}

/// See [`StrictCodec`].
#[derive(Debug, Clone, Copy)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = buf.copy_to_bytes(buf.remaining());
        let decoded = U::decode(message.clone());
        let decoded = decoded.map_err(|error| Status::internal(error.to_string()))?;
        if U::PACKAGE == "stator.v1"
            && let Some(what) = unknown(U::NAME, &message)
        {
            return Err(Status::unimplemented(what));
        }
        Ok(Some(decoded))
    }
}

/// What a request has that this program does not know; `None` of a message that is no request.
/// `name` is without its package.
fn unknown(name: &str, message: &[u8]) -> Option<String> {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    let schema = SCHEMA.get_or_init(Schema::read);
    let name = format!(".stator.v1.{name}");
    if !schema.requests.contains(&name) {
        return None;
    }
    // What is no message was refused by its decoding.
    schema.walk(&name, message, "").unwrap_or_default()
}

/// What is known of all messages.
struct Schema {
    requests: BTreeSet<String>,
    messages: HashMap<String, HashMap<u32, Field>>,
    enums: HashMap<String, BTreeSet<i32>>,
}

struct Field {
    name: String,
    kind: Kind,
}

/// What of a field's content is looked at.
enum Kind {
    Message(String),
    Enum(String),
    Other,
}

/// The bytes are no message.
struct Malformed;

impl From<prost::DecodeError> for Malformed {
    fn from(_: prost::DecodeError) -> Self {
        Malformed
    }
}

impl Schema {
    fn read() -> Schema {
        let mut schema =
            Schema { requests: BTreeSet::new(), messages: HashMap::new(), enums: HashMap::new() };
        // Made by the build of this very program; a test reads it.
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        for file in &set.file {
            let package = format!(".{}", file.package());
            schema.add(&package, &file.message_type, &file.enum_type);
            let methods = file.service.iter().flat_map(|service| &service.method);
            schema.requests.extend(methods.map(|method| method.input_type().to_owned()));
        }
        schema
    }

    fn add(&mut self, scope: &str, messages: &[DescriptorProto], enums: &[EnumDescriptorProto]) {
        for kind in enums {
            let values = kind.value.iter().map(|value| value.number()).collect();
            self.enums.insert(format!("{scope}.{}", kind.name()), values);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            let fields = message.field.iter().map(|field| {
                let kind = match field.r#type() {
                    Type::Message => Kind::Message(field.type_name().to_owned()),
                    Type::Enum => Kind::Enum(field.type_name().to_owned()),
                    _ => Kind::Other,
                };
                (field.number().cast_unsigned(), Field { name: field.name().to_owned(), kind })
            });
            let fields = fields.collect();
            self.messages.insert(name, fields);
        }
    }

    /// The first thing in `bytes` that this message has no name for, with where it is.
    fn walk(&self, name: &str, mut bytes: &[u8], path: &str) -> Result<Option<String>, Malformed> {
        let known = self.messages.get(name);
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes)?;
            let Some(field) = known.and_then(|fields| fields.get(&number)) else {
                let of = name.trim_start_matches('.');
                return Ok(Some(format!("{path}field {number} of {of}")));
            };
            let (number, content) = match wire {
                WireType::Varint => (Some(decode_varint(&mut bytes)?), &[][..]),
                WireType::SixtyFourBit => (None, part(&mut bytes, 8)?),
                WireType::ThirtyTwoBit => (None, part(&mut bytes, 4)?),
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut bytes)?;
                    (None, part(&mut bytes, length)?)
                }
                WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
            };
            let found = match &field.kind {
                Kind::Message(inner) if wire == WireType::LengthDelimited => {
                    self.walk(inner, content, &format!("{path}{}.", field.name))?
                }
                Kind::Enum(kind) => {
                    let unknown = self.unknown_value(kind, number, content)?;
                    unknown.map(|value| format!("{path}{} {value}", field.name))
                }
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first value that an enum does not have: of a lone number, or of several packed.
    fn unknown_value(
        &self,
        kind: &str,
        number: Option<u64>,
        mut packed: &[u8],
    ) -> Result<Option<i32>, Malformed> {
        let known = self.enums.get(kind);
        let is_unknown = |value: &i32| !known.is_some_and(|known| known.contains(value));
        let mut next = number;
        loop {
            if let Some(value) = next.map(|number| number as i32).filter(is_unknown) {
                return Ok(Some(value));
            }
            if packed.is_empty() {
                return Ok(None);
            }
            next = Some(decode_varint(&mut packed)?);
        }
    }
}

/// The next `length` bytes.
fn part<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (part, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_key, encode_varint};

    use super::*;
    use crate::v1;

    /// A field of any number.
    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut bytes);
        encode_varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
        bytes
    }

    fn told<M: Message + Name>(message: &M, more: &[u8]) -> Option<String> {
        let bytes = [message.encode_to_vec().as_slice(), more].concat();
        unknown(M::NAME, &bytes)
    }

    #[test]
    fn every_request_is_known_and_refuses_what_it_does_not_have() {
        let schema = Schema::read();
        assert!(schema.requests.len() > 20, "{:?}", schema.requests);
        for request in &schema.requests {
            let fields = &schema.messages[request];
            let name = request.rsplit('.').next().expect("a name");
            for number in (1..64).chain([1_000, 536_870_911]) {
                let expected = format!("field {number} of {}", &request[1..]);
                let found = unknown(name, &field(number, b""));
                let is_known = fields.contains_key(&number);
                assert_eq!(found, (!is_known).then_some(expected), "{request} {number}");
            }
            for (number, inner) in fields {
                if let Kind::Message(_) = inner.kind {
                    let found = unknown(name, &field(*number, &field(31, b"")));
                    let path = format!("{}.field 31 of", inner.name);
                    assert!(found.is_some_and(|found| found.starts_with(&path)), "{request}");
                }
            }
        }
    }

    #[test]
    fn what_is_known_passes_and_values_without_a_name_do_not() {
        let put = v1::PutRequest {
            keyspace: "k".into(),
            key: "key".into(),
            value: "v".into(),
            contexts: vec!["c".into(), "".into()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ttl_ms: Some(1),
            quorum: v1::Quorum::Strict.into(),
            durability: v1::Durability::One.into(),
            ..Default::default()
        };
        assert_eq!(told(&put, b""), None);
        let strange = v1::PutRequest { durability: 99, ..put.clone() };
        assert_eq!(told(&strange, b"").as_deref(), Some("durability 99"));
        let strange = v1::PutRequest { quorum: -1, ..put.clone() };
        assert_eq!(told(&strange, b"").as_deref(), Some("quorum -1"));
        let keyspace = v1::Keyspace {
            reconcile: Some(v1::Reconcile { policy: 77, ..Default::default() }),
            ..Default::default()
        };
        let create = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
        assert_eq!(told(&create, b"").as_deref(), Some("keyspace.reconcile.policy 77"));
        // No message, and no request: neither is looked at.
        assert_eq!(told(&put, &[0x0a, 0xff]), None);
        assert_eq!(told(&v1::GetResponse::default(), &field(99, b"")), None);
    }
}
