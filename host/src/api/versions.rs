//! Versions as messages.

use bytes::Bytes;
use stator_core::causality::{LiveVersion, VersionVector};
use stator_core::divergence::{Outcome, Resolution};
use stator_core::id::Dot;
use stator_core::version::{Origin, Payload};
use stator_proto::v1;

/// One version, as it is stored; without the value for `is_metadata`.
pub(super) fn version(live: &LiveVersion, is_metadata: bool) -> v1::Version {
    let version = &live.version;
    let value = version.payload.value();
    v1::Version {
        value: value.filter(|_| !is_metadata).cloned(),
        tombstone: version.payload == Payload::Tombstone,
        value_bytes: value.map_or(0, |value| value.len() as u64),
        dots: dots(&live.dots),
        written_at_ms: version.written_at_ms,
        expires_at_ms: version.expires_at_ms,
        schema: version.schema,
        labels: version.labels.clone(),
        origin: Some(origin(&version.origin)),
    }
}

/// The one version that was made of `inputs`, by the module with this digest, or as the last write
/// if that is empty; `None` if the key counts as deleted.
pub(super) fn merged(
    resolution: &Resolution,
    inputs: &[LiveVersion],
    module: &str,
) -> Option<v1::Version> {
    let Outcome::Value(value) = &resolution.outcome else { return None };
    let mut all: Vec<Dot> = inputs.iter().flat_map(|input| input.dots.iter().copied()).collect();
    all.sort_unstable();
    let latest = inputs.iter().map(|input| input.version.written_at_ms).max();
    let maker = v1::origin::Maker::Merge(v1::MergeOrigin {
        module_digest: module.to_owned(),
        input_dots: dots(&all),
    });
    Some(v1::Version {
        value: Some(value.clone()),
        tombstone: false,
        value_bytes: value.len() as u64,
        dots: dots(&all),
        written_at_ms: latest.unwrap_or_default(),
        expires_at_ms: None,
        schema: inputs.iter().map(|input| input.version.schema).max().unwrap_or_default(),
        labels: Default::default(),
        origin: Some(v1::Origin { maker: Some(maker) }),
    })
}

fn dots(dots: &[Dot]) -> Vec<String> {
    dots.iter().map(Dot::to_string).collect()
}

fn origin(origin: &Origin) -> v1::Origin {
    let maker = match origin {
        Origin::Client(_) => v1::origin::Maker::Client(v1::ClientOrigin {}),
        Origin::Fold { module, inputs } => v1::origin::Maker::Merge(v1::MergeOrigin {
            module_digest: module.to_string(),
            input_dots: dots(inputs),
        }),
    };
    v1::Origin { maker: Some(maker) }
}

/// What an object has seen, as dots.
pub(super) fn seen(vector: &VersionVector) -> Vec<String> {
    vector.iter().map(|dot| dot.to_string()).collect()
}

/// Bytes of the values in an answer, for its size limit.
pub(super) fn value_bytes(versions: &[v1::Version]) -> usize {
    versions.iter().filter_map(|version| version.value.as_ref()).map(Bytes::len).sum()
}
