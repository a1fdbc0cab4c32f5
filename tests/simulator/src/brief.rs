//! Messages as a line of the trace.

use stator_core::agreement::{Answer, Ask};
use stator_core::collect::{Candidate, CollectAsk};
use stator_core::listing::Slice;
use stator_core::message::Message;
use stator_core::tree::{TreeAnswer, TreeQuery, TreeRead};

use super::clients;
use super::world::index;

/// A step of collection on one line.
fn collect_brief(ask: &CollectAsk) -> String {
    let keys = |candidates: &[Candidate]| {
        candidates.iter().map(|candidate| candidate.key.clone()).collect::<Vec<_>>()
    };
    match ask {
        CollectAsk::Mark(candidates) => format!("mark {:?}", keys(candidates)),
        CollectAsk::Clean => "clean".to_owned(),
        CollectAsk::Fence => "fence".to_owned(),
        CollectAsk::Seal { candidates, .. } => format!("seal {:?}", keys(candidates)),
        CollectAsk::Drop { candidates, .. } => format!("drop {:?}", keys(candidates)),
    }
}

/// A message on one line.
pub(super) fn brief(message: &Message) -> String {
    let error = |error: &stator_core::message::ReplicaError| format!("failed: {error}");
    match message {
        Message::Read { request, key, .. } => format!("read {request} {key:?}"),
        Message::ReadReply { request, result } => {
            let held = |held: &Option<std::sync::Arc<_>>| match held {
                Some(siblings) => format!("{:?}", clients::writes(siblings)),
                None => "nothing".to_owned(),
            };
            format!("read {request} {}", result.as_ref().map_or_else(error, held))
        }
        Message::Write(write) => {
            let hint_for: Vec<usize> = write.hint_for.iter().map(|n| index(*n)).collect();
            let writes = clients::writes(&write.siblings);
            format!("write {} {:?} {writes:?} hint for {hint_for:?}", write.request, write.key)
        }
        Message::WriteReply { request, result } => {
            let done = |()| "done".to_owned();
            format!("write {request} {}", result.as_ref().map_or_else(error, |&r| done(r)))
        }
        Message::Forward { request, put } => {
            format!("forward {request} {:?} {:?}", put.key, put.draft.labels)
        }
        Message::ForwardReply { request, result } => match result {
            Ok((dot, siblings)) => {
                format!("forward {request} lent {dot} {:?}", clients::writes(siblings))
            }
            Err(error) => format!("forward {request} {error}"),
        },
        Message::List { request, range, .. } => {
            format!("list {request} of {:?} from {:?}", range.partition, range.from)
        }
        Message::ListReply { request, result } => {
            let told = |slice: &Slice| format!("{} objects", slice.objects.len());
            format!("list {request} {}", result.as_ref().map_or_else(error, told))
        }
        Message::TreeRead { request, read, .. } => {
            let TreeRead { partition, query } = read;
            let what = match query {
                TreeQuery::Roots => "roots".to_owned(),
                TreeQuery::Sums(_, nodes) => format!("{} sums", nodes.len()),
                TreeQuery::Keys(part) => format!("keys of {} buckets", part.buckets.len()),
                TreeQuery::Objects(_, keys) => format!("objects {keys:?}"),
            };
            format!("tree {request} of partition {partition}: {what}")
        }
        Message::TreeReply { request, result } => {
            let answer = |answer: &TreeAnswer| match answer {
                TreeAnswer::Sums(sums) => format!("{} sums", sums.len()),
                answer => format!("{answer:?}"),
            };
            format!("tree {request} {}", result.as_ref().map_or_else(error, answer))
        }
        Message::Collect { request, partition, ask, .. } => {
            format!("collect {request} in partition {partition}: {}", collect_brief(ask))
        }
        Message::CollectReply { request, result } => format!("collect {request} {result:?}"),
        Message::TransferAsk { request, partition, step, .. } => {
            format!("transfer {request} of partition {partition}: {step:?}")
        }
        Message::TransferAnswer { request, result } => format!("transfer {request} {result:?}"),
        Message::Moved(made) => format!("{made:?}"),
        Message::Compare { request, partition, peer, .. } => {
            format!("compare {request} of partition {partition} with {peer}")
        }
        Message::CompareReply { request, .. } => format!("compare {request}"),
        Message::CatalogueDigest { .. } => "catalogue digest".to_owned(),
        Message::Usage(report) => format!("usage {report:?}"),
        Message::Clocks(told) => format!("clocks {told:?}"),
        Message::Catalogue { is_reply_wanted, .. } => {
            format!("catalogue, reply wanted: {is_reply_wanted}")
        }
        Message::RingAsk { ring_version, ask } => match &**ask {
            Ask::Prepare(ballot) => format!("prepare ring {ring_version} {ballot:?}"),
            Ask::Accept(ballot, decision) => {
                let nonce = decision.committed.nonce;
                format!("accept ring {ring_version} {ballot:?} {nonce:x}")
            }
        },
        Message::RingAnswer { ring_version, answer } => match &**answer {
            Answer::Promised { ballot, accepted } => {
                let accepted = accepted.as_ref().map(|(under, _)| under);
                format!("ring {ring_version} promised {ballot:?}, accepted {accepted:?}")
            }
            Answer::Accepted { ballot } => format!("ring {ring_version} accepted {ballot:?}"),
            Answer::Refused { ballot, promised } => {
                format!("ring {ring_version} refused {ballot:?}, promised {promised:?}")
            }
        },
    }
}
