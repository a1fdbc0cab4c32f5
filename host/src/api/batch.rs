//! `Batch`: several gets, puts and deletes in one call, each as if it had been sent alone.

use futures::StreamExt;
use stator_proto::v1;
use stator_proto::v1::batch_item::Request as Item;
use stator_proto::v1::batch_outcome::Outcome;
use stator_proto::v1::kv_server::Kv;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::kv::KvService;
use super::{errors, versions};

/// The most items of a batch.
const ITEMS_MAX: usize = 256;
/// Items that run side by side.
const SIDE_BY_SIDE: usize = 32;
/// The most bytes of values in the answer; gets beyond it fail.
const ANSWER_BYTES_MAX: usize = 32 << 20;

impl KvService {
    pub(super) async fn run_batch(
        &self,
        request: Request<v1::BatchRequest>,
    ) -> Result<v1::BatchResponse, Status> {
        let (metadata, extensions, batch) = request.into_parts();
        if batch.items.len() > ITEMS_MAX {
            let found = batch.items.len();
            let message = format!("it has {found} items; the limit is {ITEMS_MAX}");
            return Err(errors::bad_field("items", "BATCH_TOO_LARGE", message));
        }
        let outcome = |item: v1::BatchItem| {
            let (metadata, extensions) = (metadata.clone(), extensions.clone());
            async move {
                let with = (metadata, extensions);
                self.run_item(with, item).await.unwrap_or_else(|status| failed(&status))
            }
        };
        // One that fails outright for all is told once, before anything is done.
        self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let items = batch.items.into_iter().map(outcome);
        let mut outcomes = futures::stream::iter(items).buffered(SIDE_BY_SIDE);
        let (mut answer, mut bytes) = (v1::BatchResponse::default(), 0);
        while let Some(outcome) = outcomes.next().await {
            bytes += value_bytes(&outcome);
            let outcome = if bytes > ANSWER_BYTES_MAX && value_bytes(&outcome) > 0 {
                let message = format!(
                    "the values of the answer would have more than {ANSWER_BYTES_MAX} bytes: get \
                     this key by itself"
                );
                failed(&errors::exhausted(message, ANSWER_BYTES_MAX))
            } else {
                outcome
            };
            answer.outcomes.push(v1::BatchOutcome { outcome: Some(outcome) });
        }
        Ok(answer)
    }

    async fn run_item(
        &self,
        (metadata, extensions): (tonic::metadata::MetadataMap, tonic::Extensions),
        item: v1::BatchItem,
    ) -> Result<Outcome, Status> {
        match item.request {
            Some(Item::Get(get)) => {
                let request = Request::from_parts(metadata, extensions, get);
                Ok(Outcome::Get(self.get(request).await?.into_inner()))
            }
            Some(Item::Put(put)) => {
                let request = Request::from_parts(metadata, extensions, put);
                Ok(Outcome::Put(self.put(request).await?.into_inner()))
            }
            Some(Item::Delete(delete)) => {
                let request = Request::from_parts(metadata, extensions, delete);
                Ok(Outcome::Delete(self.delete(request).await?.into_inner()))
            }
            None => {
                Err(errors::bad_field("items", "ITEM_EMPTY", "an item is a get, put or delete"))
            }
        }
    }
}

fn value_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Get(get) => versions::value_bytes(&get.versions),
        _ => 0,
    }
}

fn failed(status: &Status) -> Outcome {
    let info = status.get_details_error_info();
    let (reason, metadata) =
        info.map(|info| (info.reason, info.metadata.into_iter().collect())).unwrap_or_default();
    let code = status.code();
    debug_assert_ne!(code, Code::Ok);
    let message = status.message().to_owned();
    Outcome::Failure(v1::BatchFailure { code: code as u32, message, reason, metadata })
}
