//! A change of n that is under way, in words and as JSON.

use serde_json::{Value, json};
use stator_proto::v1;

/// In words; empty if there is none.
pub(super) fn words(keyspace: &v1::Keyspace) -> String {
    let Some(resize) = &keyspace.resize else { return String::new() };
    let v1::Resize { n, r, w, .. } = resize;
    let aim = match resize.cancelled {
        true => format!("the change to n={n} is taken back"),
        false => format!("to n={n} r={r} w={w}"),
    };
    let stage = match resize.stage() {
        v1::ResizeStage::Unspecified => "under way",
        v1::ResizeStage::Spread => "puts come to reach the old and the new replicas",
        v1::ResizeStage::Copy => "new replicas copy what the old ones hold",
        v1::ResizeStage::Agree => "all have copied",
        v1::ResizeStage::Turn => "gets come to ask the new replicas",
        v1::ResizeStage::Settle => "puts come to reach the new replicas only",
    };
    let copied = match resize.partitions {
        0 => String::new(),
        all => {
            let done = all.saturating_sub(resize.partitions_left);
            format!("; this node has copied {done} of {all} partitions")
        }
    };
    let waiting = match &resize.waiting_node_ids[..] {
        [] => String::new(),
        nodes => format!("; waiting for {}", nodes.join(", ")),
    };
    format!("{aim}: {stage}{copied}{waiting}")
}

/// n, and what it is to be.
pub(super) fn cell(keyspace: &v1::Keyspace) -> String {
    match keyspace.resize.as_ref().filter(|resize| !resize.cancelled) {
        Some(resize) => format!("{} to {}", keyspace.n, resize.n),
        None => keyspace.n.to_string(),
    }
}

pub(super) fn json(resize: &v1::Resize) -> Value {
    let stage = resize.stage().as_str_name().trim_start_matches("RESIZE_STAGE_").to_lowercase();
    json!({
        "n": resize.n,
        "r": resize.r,
        "w": resize.w,
        "stage": stage,
        "cancelled": resize.cancelled,
        "waiting_node_ids": resize.waiting_node_ids,
        "partitions": resize.partitions,
        "partitions_left": resize.partitions_left,
    })
}
