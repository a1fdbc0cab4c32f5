//! What a node keeps for others, and when somebody should look at it.

use std::time::Duration;

use stator_core::catalogue::Catalogue;
use stator_proto::v1;

use crate::driver::KeyspaceFigures;
use crate::node::Node;
use crate::storage::HintFigures;

/// Of the room for hints, how much must be taken for an alarm, in percent.
const NEARLY_FULL_PERCENT: u128 = 80;

/// The hints of `node`, and the alarms about them.
pub(super) fn of(node: &Node, catalogue: Option<&Catalogue>) -> (v1::HintsStatus, Vec<v1::Alarm>) {
    let figures = node.stores.hint_figures();
    let now_ms = node.clock.now().wall_ms;
    let keyspaces = catalogue.into_iter().flat_map(Catalogue::live_keyspaces);
    let counted: Vec<KeyspaceFigures> =
        keyspaces.map(|keyspace| node.driver.shared().keyspace_figures(keyspace.id)).collect();
    let sum = |fact: fn(&KeyspaceFigures) -> u64| counted.iter().map(fact).sum();
    let status = v1::HintsStatus {
        bytes: figures.bytes as u64,
        bytes_max: figures.bytes_max as u64,
        targets: targets(&figures, now_ms),
        stored: sum(|figures| figures.hints_stored),
        delivered: sum(|figures| figures.hints_delivered),
        refused: figures.refused,
        lost: sum(|figures| figures.hints_lost),
    };
    let alarms = alarms(&status, node.config.timings.hint_age_alarm_ms);
    (status, alarms)
}

fn targets(figures: &HintFigures, now_ms: u64) -> Vec<v1::HintTarget> {
    let target = |(id, objects): (&stator_core::id::NodeId, &usize)| v1::HintTarget {
        node_id: id.to_string(),
        objects: *objects as u64,
        bytes: figures.waiting_bytes.get(id).copied().unwrap_or_default() as u64,
        oldest_age_ms: figures.oldest_ms.get(id).map_or(0, |since| now_ms.saturating_sub(*since)),
    };
    figures.waiting.iter().map(target).collect()
}

fn alarms(status: &v1::HintsStatus, age_max_ms: u64) -> Vec<v1::Alarm> {
    let old = status.targets.iter().filter(|target| target.oldest_age_ms > age_max_ms);
    let mut alarms: Vec<v1::Alarm> = old
        .map(|target| v1::Alarm {
            reason: "HINTS_OLD".to_owned(),
            node_id: target.node_id.clone(),
            message: format!(
                "{} writes for node {id} wait since {:?}, longer than timings.hint_age_alarm_ms = \
                 {age_max_ms}; they stay until it has them: bring it back, or take its seat away \
                 by `stator cluster leave {id} --lost`",
                target.objects,
                Duration::from_secs(target.oldest_age_ms / 1_000),
                id = target.node_id,
            ),
        })
        .collect();
    let v1::HintsStatus { bytes, bytes_max, .. } = *status;
    if bytes > 0 && u128::from(bytes) * 100 >= u128::from(bytes_max) * NEARLY_FULL_PERCENT {
        alarms.push(v1::Alarm {
            reason: "HINTS_NEARLY_FULL".to_owned(),
            node_id: String::new(),
            message: format!(
                "hints take {bytes} bytes of limits.hints_bytes_max = {bytes_max}: when they take \
                 all, puts whose owners are away are refused; bring those back, or raise the limit"
            ),
        });
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_hints_and_a_full_budget_raise_alarms() {
        let status = |oldest_age_ms, bytes| v1::HintsStatus {
            bytes,
            bytes_max: 1_000,
            targets: vec![v1::HintTarget {
                node_id: "0000000000000002".to_owned(),
                objects: 7,
                bytes,
                oldest_age_ms,
            }],
            ..Default::default()
        };
        let reasons = |status: &v1::HintsStatus| -> Vec<String> {
            alarms(status, 60_000).into_iter().map(|alarm| alarm.reason).collect()
        };
        assert!(reasons(&status(60_000, 799)).is_empty());
        assert_eq!(reasons(&status(60_001, 799)), ["HINTS_OLD"]);
        assert_eq!(reasons(&status(0, 800)), ["HINTS_NEARLY_FULL"]);
        let words = &alarms(&status(61_000, 10), 60_000)[0].message;
        for part in ["7 writes", "0000000000000002", "61s", "hint_age_alarm_ms = 60000"] {
            assert!(words.contains(part), "{part} is not in: {words}");
        }
        assert!(alarms(&v1::HintsStatus::default(), 1).is_empty(), "no room, and no hint");
    }
}
