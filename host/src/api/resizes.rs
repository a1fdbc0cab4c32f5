//! Changes of a keyspace's n, as they are shown.

use stator_core::catalogue::{Catalogue, Keyspace, Stage};
use stator_proto::v1;

use crate::node::Node;

/// The change of n that is under way, and how far this node is with it.
pub(crate) fn under_way(
    node: &Node,
    catalogue: &Catalogue,
    keyspace: &Keyspace,
) -> Option<v1::Resize> {
    let resize = keyspace.resizes.present.as_ref()?;
    let ring_version = catalogue.ring.version();
    let members = catalogue.members.keys();
    let waiting = members.filter(|member| !resize.is_through(**member, ring_version));
    let figures = node.driver.shared().resizes();
    let own = figures.iter().find(|figures| figures.keyspace == keyspace.id);
    Some(v1::Resize {
        n: resize.to.n,
        r: resize.to.r,
        w: resize.to.w,
        stage: stage(resize.stage).into(),
        cancelled: resize.is_cancelled,
        waiting_node_ids: waiting.map(ToString::to_string).collect(),
        partitions: own.map_or(0, |own| own.partitions as u32),
        partitions_left: own.map_or(0, |own| own.partitions_left as u32),
    })
}

fn stage(stage: Stage) -> v1::ResizeStage {
    match stage {
        Stage::Spread => v1::ResizeStage::Spread,
        Stage::Copy => v1::ResizeStage::Copy,
        Stage::Agree => v1::ResizeStage::Agree,
        Stage::Turn => v1::ResizeStage::Turn,
        Stage::Settle => v1::ResizeStage::Settle,
    }
}
