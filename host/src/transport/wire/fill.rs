//! Pages of a partition fill as protobuf and back.

use std::sync::Arc;

use bytes::Bytes;
use stator_core::causality::Siblings;
use stator_core::id::KeyspaceId;
use stator_core::message::FillPage;
use stator_proto::peer::v1 as proto;

use super::WireError;
use super::message::{PLAIN_BYTES, decode, encode};

/// About how many bytes the page takes.
pub(super) fn weight_bytes(page: &FillPage) -> usize {
    let objects = page.objects.iter();
    objects.map(|(_, key, siblings)| key.len() + siblings.weight_bytes() + PLAIN_BYTES).sum()
}

pub(super) fn cursor_to_wire((keyspace, key): (KeyspaceId, Bytes)) -> proto::Cursor {
    proto::Cursor { keyspace: keyspace.0, key }
}

pub(super) fn cursor_from_wire(cursor: proto::Cursor) -> (KeyspaceId, Bytes) {
    (KeyspaceId(cursor.keyspace), cursor.key)
}

pub(super) fn page_to_wire(page: FillPage) -> proto::FillPage {
    let object = |(keyspace, key, siblings): (KeyspaceId, Bytes, Arc<Siblings>)| {
        proto::FillObject { keyspace: keyspace.0, key, siblings: encode(&siblings) }
    };
    proto::FillPage {
        objects: page.objects.into_iter().map(object).collect(),
        next: page.next.map(cursor_to_wire),
        is_whole: page.is_whole,
    }
}

pub(super) fn page_from_wire(page: proto::FillPage) -> Result<FillPage, WireError> {
    let object = |object: proto::FillObject| {
        Ok((KeyspaceId(object.keyspace), object.key, decode(object.siblings)?))
    };
    Ok(FillPage {
        objects: page.objects.into_iter().map(object).collect::<Result<_, WireError>>()?,
        next: page.next.map(cursor_from_wire),
        is_whole: page.is_whole,
    })
}
