//! The messages of an upload, of a module or of a page of objects, for any client in Rust.

use prost::bytes::Bytes;

use crate::v1::push_module_request::Part;
use crate::v1::{BringHomeHeader, BringHomeRequest, bring_home_request};
use crate::v1::{ModuleClass, ModuleHeader, PushModuleRequest};

/// Bytes of one message of an upload: well below gRPC's usual limit of 4 MiB.
pub const CHUNK_BYTES: usize = 512 << 10;

/// What `Admin.PushModule` takes to upload `component` under `name`: a header, then the bytes in
/// order. `digest` is what the node must find (64 hexadecimal digits), empty to leave it unchecked.
/// The module is of class small; see [`messages_of`] for another.
pub fn messages(
    name: String,
    digest: String,
    component: Bytes,
    validate_only: bool,
) -> impl Iterator<Item = PushModuleRequest> + Send + 'static {
    messages_of(ModuleClass::Small, name, digest, component, validate_only)
}

/// As [`messages`], for a module of this class of limits.
pub fn messages_of(
    class: ModuleClass,
    name: String,
    digest: String,
    component: Bytes,
    validate_only: bool,
) -> impl Iterator<Item = PushModuleRequest> + Send + 'static {
    let class = class.into();
    let header = ModuleHeader { name, digest, validate_only, class, ..Default::default() };
    messages_with(header, component)
}

/// As [`messages`], with all that a header can say; the size it is given here.
pub fn messages_with(
    header: ModuleHeader,
    component: Bytes,
) -> impl Iterator<Item = PushModuleRequest> + Send + 'static {
    let header = Part::Header(ModuleHeader { size_bytes: component.len() as u64, ..header });
    let chunks = (0..component.len()).step_by(CHUNK_BYTES).map(move |start| {
        Part::Chunk(component.slice(start..component.len().min(start + CHUNK_BYTES)))
    });
    std::iter::once(header).chain(chunks).map(|part| PushModuleRequest { part: Some(part) })
}

/// What `Admin.BringHome` takes: a header, then the bytes of the page in order.
pub fn page(
    page: Bytes,
    proof: Bytes,
    doubtful: bool,
    dry_run: bool,
) -> impl Iterator<Item = BringHomeRequest> + Send + 'static {
    let header = bring_home_request::Part::Header(BringHomeHeader { proof, doubtful, dry_run });
    let chunks = (0..page.len()).step_by(CHUNK_BYTES).map(move |start| {
        let end = page.len().min(start + CHUNK_BYTES);
        bring_home_request::Part::Chunk(page.slice(start..end))
    });
    std::iter::once(header).chain(chunks).map(|part| BringHomeRequest { part: Some(part) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_a_header_and_all_bytes_in_order() {
        let component: Vec<u8> = (0..=255).cycle().take(CHUNK_BYTES * 2 + 1).collect();
        let sent = messages("m".into(), "d".into(), component.clone().into(), false);
        let mut parts = sent.filter_map(|message| message.part);
        let Some(Part::Header(header)) = parts.next() else { panic!("no header") };
        assert_eq!(header.size_bytes, component.len() as u64);
        let mut bytes = Vec::new();
        for part in parts {
            let Part::Chunk(chunk) = part else { panic!("a second header") };
            assert!(chunk.len() <= CHUNK_BYTES);
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes, component);
    }
}
