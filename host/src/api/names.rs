//! The names that clients give their writes: `request_id`.

use bytes::Bytes;
use prost::Message;
use stator_core::version::{FINGERPRINT_BYTES, RequestName};
use stator_proto::v1;
use tonic::Status;

use super::errors;

/// The longest `request_id`, in bytes.
const ID_BYTES_MAX: usize = 64;

/// The name of a put: its id, and a fingerprint of what it asks for. How many must acknowledge,
/// and how the client found the node, may differ in a retry.
///
/// # Errors
/// The id is too long.
pub(super) fn of_put(put: &v1::PutRequest) -> Result<Option<RequestName>, Status> {
    named(&put.request_id, || {
        let asked =
            v1::PutRequest { w: None, quorum: 0, durability: 0, ring_version: 0, ..put.clone() };
        fingerprint("put", &asked)
    })
}

/// The name of a delete, as [`of_put`].
///
/// # Errors
/// The id is too long.
pub(super) fn of_delete(delete: &v1::DeleteRequest) -> Result<Option<RequestName>, Status> {
    named(&delete.request_id, || {
        let asked = v1::DeleteRequest {
            w: None,
            quorum: 0,
            durability: 0,
            ring_version: 0,
            ..delete.clone()
        };
        fingerprint("delete", &asked)
    })
}

fn named(
    id: &Bytes,
    fingerprint: impl FnOnce() -> [u8; FINGERPRINT_BYTES],
) -> Result<Option<RequestName>, Status> {
    if id.len() > ID_BYTES_MAX {
        let message = format!("it has {} bytes; at most {ID_BYTES_MAX} are possible", id.len());
        return Err(errors::bad_field("request_id", "REQUEST_ID_TOO_LARGE", message));
    }
    // Not a slice of the message: the value would stay in memory with it.
    let copy = || RequestName { id: Bytes::copy_from_slice(id), fingerprint: fingerprint() };
    Ok((!id.is_empty()).then(copy))
}

fn fingerprint(kind: &str, asked: &impl Message) -> [u8; FINGERPRINT_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("stator request fingerprint v1");
    hasher.update(kind.as_bytes()).update(&[0]).update(&asked.encode_to_vec());
    let mut fingerprint = [0; FINGERPRINT_BYTES];
    hasher.finalize_xof().fill(&mut fingerprint);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_has_the_same_name_and_another_request_has_not() {
        let put = v1::PutRequest {
            key: "k".into(),
            value: "v".into(),
            request_id: "once".into(),
            ..Default::default()
        };
        let name = |put: &v1::PutRequest| of_put(put).expect("short").expect("a name");
        let retry = v1::PutRequest { w: Some(1), ring_version: 9, durability: 2, ..put.clone() };
        assert_eq!(name(&put), name(&retry));
        for other in [
            v1::PutRequest { value: "w".into(), ..put.clone() },
            v1::PutRequest { schema: 1, ..put.clone() },
            v1::PutRequest { ttl_ms: Some(1), ..put.clone() },
            v1::PutRequest { contexts: vec!["c".into()], ..put.clone() },
            v1::PutRequest { labels: [("a".into(), "b".into())].into(), ..put.clone() },
        ] {
            assert_eq!(name(&other).id, name(&put).id);
            assert_ne!(name(&other).fingerprint, name(&put).fingerprint, "{other:?}");
        }
        assert_eq!(of_put(&v1::PutRequest::default()).expect("short"), None);
    }
}
