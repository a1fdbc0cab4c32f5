//! Requests with the usual fields, and what is read of answers.

use std::collections::BTreeSet;

use stator_proto::v1;

pub fn put(keyspace: &str, key: &str, value: &str) -> v1::PutRequest {
    v1::PutRequest {
        keyspace: keyspace.to_owned(),
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub fn get(keyspace: &str, key: &str) -> v1::GetRequest {
    v1::GetRequest {
        keyspace: keyspace.to_owned(),
        key: key.to_owned().into(),
        ..Default::default()
    }
}

/// A keyspace of three replicas that keeps siblings.
pub fn keyspace(name: &str, r: u32, w: u32) -> v1::Keyspace {
    v1::Keyspace { name: name.to_owned(), n: 3, r, w, ..Default::default() }
}

/// The values of an answer, as text.
pub fn values(answer: &v1::GetResponse) -> BTreeSet<String> {
    let text = |version: &v1::Version| {
        version.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    answer.versions.iter().filter_map(text).collect()
}
