//! `stator.v1.Kv`: reading and writing keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use stator_core::catalogue::{Catalogue, Durability, Keyspace, Role};
use stator_core::causality::{Context, ContextSecrets, Siblings};
use stator_core::divergence::{DivergentVersion, MergeFailure};
use stator_core::id::ModuleDigest;
use stator_core::reconcile;
use stator_core::request::{
    GetReceipt, GetRequest, PutReceipt, PutRequest, QuorumKind, RequestError,
};
use stator_core::version::Payload;
use stator_core::write::{Draft, SiblingLimits, WriteRefused};
use stator_proto::v1;
use stator_proto::v1::kv_server::Kv;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::guard::{Caller, Pass};
use super::journals::Listed;
use super::limits::{Admission, timeout_ms};
use super::observe::Arrival;
use super::quota::{self, Rates};
use super::timed::Timed;
use super::{conditions, errors, names, versions};
use crate::conflicts::Cause;
use crate::driver::Held;
use crate::node::{Node, Reading};
use crate::telemetry::traces;

/// The most bytes of values in one answer. A key with more is answered without its context.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The most labels of a version, and bytes of each.
const LABELS_MAX: usize = 16;
const LABEL_BYTES_MAX: usize = 256;

/// The service.
pub struct KvService {
    pub(super) node: Arc<Node>,
    pub(super) admission: Admission,
    /// Whether clients are served; watches end where they are not.
    pub(super) is_serving: Option<watch::Receiver<bool>>,
    failed_validations: AtomicU64,
    rates: Rates,
}

/// A key that a request names, checked.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) keyspace: Keyspace,
    pub(super) key: Bytes,
    pub(super) secrets: ContextSecrets,
}

impl Named {
    /// Whether the keyspace may call a module.
    fn is_signed(&self, module: &ModuleDigest, catalogue: Option<&Catalogue>) -> bool {
        self.keyspace.signed_by.value.is_empty()
            || catalogue.is_some_and(|catalogue| catalogue.is_signed_for(&self.keyspace, module))
    }

    /// What the contexts of a request have seen together.
    fn opened(&self, tokens: &[Bytes]) -> Result<Context, Status> {
        let mut context = Context::default();
        for token in tokens {
            let opened = self.secrets.open(self.keyspace.id, &self.key, token);
            context.join(&opened.map_err(|error| errors::context(&error))?);
        }
        Ok(context)
    }

    pub(super) fn sealed(&self, context: &Context) -> Option<Bytes> {
        self.secrets.seal(self.keyspace.id, &self.key, context)
    }
}

impl KvService {
    /// The service of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        let (admission, failed_validations) = (Admission::new(), AtomicU64::new(0));
        let rates = Rates::default();
        KvService { node, admission, is_serving: None, failed_validations, rates }
    }

    /// The same, whose watches end once this is false.
    pub fn while_serving(self, is_serving: watch::Receiver<bool>) -> Self {
        KvService { is_serving: Some(is_serving), ..self }
    }

    pub(super) fn named(&self, keyspace: &str, key: Bytes) -> Result<Named, Status> {
        let max = self.node.config.limits.key_bytes_max;
        if key.is_empty() {
            return Err(errors::bad_field("key", "KEY_EMPTY", "a key has at least one byte"));
        }
        if key.len() > max {
            let message = format!("it has {} bytes; the limit key_bytes_max is {max}", key.len());
            return Err(errors::bad_field("key", "KEY_TOO_LARGE", message));
        }
        let catalogue = self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let found = catalogue.keyspace(keyspace).cloned();
        let keyspace = found.ok_or_else(|| errors::no_keyspace(keyspace))?;
        traces::note(|span| span.set("stator.keyspace", keyspace.name.clone()));
        self.rates.admit(&self.node, &catalogue, &keyspace)?;
        Ok(Named { keyspace, key, secrets: self.node.context_secrets(&catalogue) })
    }

    /// When the client of a request stops waiting.
    pub(super) fn deadline<T>(&self, request: &Request<T>) -> Instant {
        let default_ms = self.node.config.timings.request_timeout_ms;
        let arrived = request.extensions().get::<Arrival>().map(|arrival| arrival.0.into());
        let waits = Duration::from_millis(timeout_ms(request.metadata(), default_ms));
        arrived.unwrap_or_else(Instant::now) + waits
    }

    pub(super) async fn read(
        &self,
        named: &Named,
        (r, quorum): (Option<u32>, QuorumKind),
        deadline: Instant,
        held: &Held,
    ) -> Result<GetReceipt, Status> {
        let request = GetRequest {
            keyspace: named.keyspace.id,
            key: named.key.clone(),
            r,
            quorum,
            // Known when its turn has come.
            timeout_ms: 0,
        };
        let answer = self.node.driver.get(request, deadline.into(), held.clone()).await;
        let answer = answer.map_err(errors::stopped)?;
        answer.map_err(|error| errors::request(&error))
    }

    /// Refuses a value that the keyspace's module does not want stored, in its words. Nothing else
    /// that may be wrong with a module refuses a write: not its failing, not its absence.
    ///
    /// A validator takes its turn among the merges: a put whose client has left does not wait.
    async fn validate(
        &self,
        named: &Named,
        (value, schema): (&Bytes, u32),
        deadline: Instant,
    ) -> Result<(), Status> {
        let Some(module) = named.keyspace.reconcile_of(&named.key).module() else { return Ok(()) };
        if !named.is_signed(&module, self.node.catalogue().as_deref()) {
            return Ok(());
        }
        let candidate = DivergentVersion {
            value: Some(value.clone()),
            schema,
            written_at_ms: self.node.clock.now().wall_ms,
        };
        let name = &named.keyspace.name;
        let span = traces::below(traces::here(), "validate");
        let verdict = self.node.merges.validate(&module, name, &named.key, &candidate);
        let verdict = tokio::time::timeout_at(deadline, verdict).await;
        if let Some(mut span) = span {
            let outcome = if matches!(verdict, Ok(Ok(()))) { "taken" } else { "not taken" };
            span.set("stator.module", module.to_string());
            span.set("stator.value_bytes", value.len() as i64);
            span.set("stator.outcome", outcome);
        }
        match verdict.map_err(|_| errors::request(&RequestError::Expired))? {
            Ok(()) | Err(MergeFailure::NotLoaded(_)) => Ok(()),
            Err(MergeFailure::Refused { reason, message, .. }) => {
                let message = format!(
                    "module {module} refuses it as {reason}: {message}; nothing was stored"
                );
                Err(errors::bad_field("value", "VALUE_REFUSED", message))
            }
            Err(failure) => {
                let count = self.failed_validations.fetch_add(1, Ordering::Relaxed) + 1;
                // Every put of the keyspace may meet it: the log gets the first of each doubling.
                if count.is_power_of_two() {
                    tracing::warn!(keyspace = name, %module, %failure, count,
                        "a validator failed; what it should have checked was taken");
                }
                Ok(())
            }
        }
    }

    async fn write(&self, named: &Named, write: Write, held: &Held) -> Result<PutReceipt, Status> {
        let limits = &self.node.config.limits;
        let request = PutRequest {
            keyspace: named.keyspace.id,
            key: named.key.clone(),
            context: write.context,
            draft: write.draft,
            w: write.w,
            quorum: write.quorum,
            durability: write.durability,
            limits: SiblingLimits {
                // Beside what it has not seen it may not stand.
                siblings_max: if write.only_if_current { 1 } else { limits.siblings_max },
                siblings_bytes_max: limits.siblings_bytes_max,
            },
            // Known when its turn has come.
            timeout_ms: 0,
        };
        let answer = self.node.driver.put(request, write.deadline.into(), held.clone()).await;
        answer.map_err(errors::stopped)?.map_err(|error| match error {
            RequestError::Refused(WriteRefused::TooManySiblings { .. })
                if write.only_if_current =>
            {
                conditions::changed()
            }
            error => {
                if let RequestError::Refused(why) = &error {
                    quota::count_refused(&named.keyspace.name, why);
                }
                errors::request(&error)
            }
        })
    }

    async fn answer(
        &self,
        named: &Named,
        (view, tell_seen): (v1::View, bool),
        receipt: GetReceipt,
        deadline: Instant,
    ) -> v1::GetResponse {
        let siblings = &receipt.siblings;
        let (mut found, merge) = match view {
            v1::View::Siblings | v1::View::Metadata => {
                let met = reconcile::view(siblings, self.node.clock.now().wall_ms).count();
                self.node.count_get(&named.keyspace, met);
                let is_metadata = view == v1::View::Metadata;
                let all = siblings.versions();
                (all.iter().map(|live| versions::version(live, is_metadata)).collect(), None)
            }
            v1::View::Unspecified | v1::View::Merged => {
                let until = (Cause::Read, deadline);
                let reading = self.node.read(&named.keyspace, &named.key, siblings, until).await;
                self.node.count_get(&named.keyspace, reading.versions());
                let count = self.sibling_count(siblings);
                let (found, info) = merged_view(reading, count);
                (found, Some(info))
            }
        };
        let mut context = named.sealed(&Context::of(siblings));
        let is_merge = merge.as_ref().is_some_and(|info| info.merged);
        if !is_merge && versions::value_bytes(&found) > ANSWER_BYTES_MAX {
            cut(&mut found);
            context = None;
        }
        v1::GetResponse {
            versions: found,
            context,
            merge,
            answered: receipt.answered,
            ring_version: receipt.ring_version,
            seen: if tell_seen { versions::seen(siblings.vector()) } else { Vec::new() },
        }
    }

    fn sibling_count(&self, siblings: &Siblings) -> u32 {
        let now_ms = self.node.clock.now().wall_ms;
        reconcile::versions(siblings, now_ms).len() as u32
    }
}

/// Drops versions from the end until the answer can be sent: without them it has no context, so
/// nothing can be replaced by it unseen.
fn cut(found: &mut Vec<v1::Version>) {
    while versions::value_bytes(found) > ANSWER_BYTES_MAX && found.len() > 1 {
        found.pop();
    }
}

pub(super) fn merged_view(
    reading: Reading,
    sibling_count: u32,
) -> (Vec<v1::Version>, v1::MergeInfo) {
    let mut info = v1::MergeInfo { sibling_count, ..Default::default() };
    let all = |inputs: Vec<_>| inputs.iter().map(|live| versions::version(live, false)).collect();
    match reading {
        Reading::Absent => (Vec::new(), info),
        Reading::Sole(live) => (vec![versions::version(&live, false)], info),
        Reading::Siblings(inputs) => (all(inputs), info),
        Reading::Merged { resolution, inputs, by } => {
            info.module_digest = by.module.map(|module| module.to_string()).unwrap_or_default();
            info.merged = true;
            info.note = resolution.note.clone().unwrap_or_default();
            info.failure = by.in_place.map(|failure| failure.to_string()).unwrap_or_default();
            let merged = versions::merged(&resolution, &inputs, &info.module_digest);
            (merged.into_iter().collect(), info)
        }
        Reading::Unmerged { failure, inputs, module } => {
            info.module_digest = module.to_string();
            info.failure = failure.to_string();
            (all(inputs), info)
        }
    }
}

/// A put or delete, checked.
struct Write {
    context: Context,
    draft: Draft,
    w: Option<u32>,
    quorum: QuorumKind,
    durability: Option<Durability>,
    deadline: Instant,
    only_if_current: bool,
}

fn quorum(value: i32) -> Result<QuorumKind, Status> {
    match v1::Quorum::try_from(value) {
        Ok(v1::Quorum::Unspecified | v1::Quorum::Sloppy) => Ok(QuorumKind::Sloppy),
        Ok(v1::Quorum::Strict) => Ok(QuorumKind::Strict),
        Ok(v1::Quorum::Local) => Ok(QuorumKind::Local),
        Err(_) => Err(errors::unimplemented(&format!("quorum {value}"))),
    }
}

fn durability(value: i32) -> Result<Option<Durability>, Status> {
    match v1::Durability::try_from(value) {
        Ok(v1::Durability::Unspecified) => Ok(None),
        Ok(v1::Durability::All) => Ok(Some(Durability::All)),
        Ok(v1::Durability::One) => Ok(Some(Durability::One)),
        Ok(v1::Durability::Buffered) => Ok(Some(Durability::Buffered)),
        Err(_) => Err(errors::unimplemented(&format!("durability {value}"))),
    }
}

fn labels(labels: &std::collections::BTreeMap<String, String>) -> Result<(), Status> {
    let is_long = |(name, value): (&String, &String)| name.len() + value.len() > LABEL_BYTES_MAX;
    if labels.len() > LABELS_MAX || labels.iter().any(is_long) {
        let message =
            format!("at most {LABELS_MAX} labels of {LABEL_BYTES_MAX} bytes each are possible");
        return Err(errors::bad_field("labels", "LABELS_TOO_LARGE", message));
    }
    Ok(())
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        Caller::check(request.extensions(), Role::Reader, Some(&request.get_ref().keyspace))?;
        let held = self.admission.enter(0)?;
        let asked = request.get_ref();
        let _timed = Timed::of(&request, (&asked.keyspace, &asked.key), "get", &self.node);
        let deadline = self.deadline(&request);
        let get = request.into_inner();
        let named = self.named(&get.keyspace, get.key)?;
        let view = v1::View::try_from(get.view)
            .map_err(|_| errors::unimplemented(&format!("view {}", get.view)))?;
        let quorum = quorum(get.quorum)?;
        let receipt = match get.at_least.is_empty() {
            true => self.read(&named, (get.r, quorum), deadline, &held).await?,
            false => {
                self.read_after(&named, (get.r, quorum), &get.at_least, deadline, &held).await?
            }
        };
        let wanted = (view, get.tell_seen);
        Ok(Response::new(self.answer(&named, wanted, receipt, deadline).await))
    }

    async fn get_replica(
        &self,
        request: Request<v1::GetReplicaRequest>,
    ) -> Result<Response<v1::GetReplicaResponse>, Status> {
        Caller::check(request.extensions(), Role::Reader, Some(&request.get_ref().keyspace))?;
        self.replica(request).await.map(Response::new)
    }

    type ListStream = Listed<v1::ListResponse>;

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        Caller::check(request.extensions(), Role::Reader, Some(&request.get_ref().keyspace))?;
        self.list_keys(request).map(Response::new)
    }

    type WatchStream = Listed<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let keyspace = &request.get_ref().keyspace;
        let pass = Pass::of(request.extensions(), Role::Reader, keyspace)?;
        self.watch_keys(request, pass).map(Response::new)
    }

    async fn batch(
        &self,
        request: Request<v1::BatchRequest>,
    ) -> Result<Response<v1::BatchResponse>, Status> {
        self.run_batch(request).await.map(Response::new)
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutResponse>, Status> {
        Caller::check(request.extensions(), Role::Writer, Some(&request.get_ref().keyspace))?;
        let asked = request.get_ref();
        let _timed = Timed::of(&request, (&asked.keyspace, &asked.key), "put", &self.node);
        let deadline = self.deadline(&request);
        let put = request.into_inner();
        let max = self.node.config.limits.value_bytes_max;
        if put.value.len() > max {
            let found = put.value.len();
            let message = format!("it has {found} bytes; the limit value_bytes_max is {max}");
            return Err(errors::bad_field("value", "VALUE_TOO_LARGE", message));
        }
        let held = self.admission.enter(put.encoded_len())?;
        let request = names::of_put(&put)?;
        labels(&put.labels)?;
        let named = self.named(&put.keyspace, put.key)?;
        self.validate(&named, (&put.value, put.schema), deadline).await?;
        let context = named.opened(&put.contexts)?;
        if put.only_if_current {
            self.is_current(&named, (&context, request.as_ref()), deadline, &held).await?;
        }
        let write = Write {
            only_if_current: put.only_if_current,
            context,
            draft: Draft {
                payload: Payload::Value(put.value),
                schema: put.schema,
                ttl_ms: put.ttl_ms,
                labels: put.labels,
                request,
            },
            w: put.w,
            quorum: quorum(put.quorum)?,
            durability: durability(put.durability)?,
            deadline,
        };
        let receipt = self.write(&named, write, &held).await?;
        Ok(Response::new(v1::PutResponse {
            dot: receipt.dot.to_string(),
            context: receipt.context.and_then(|context| named.sealed(&context)),
            siblings_remain: receipt.siblings_remaining > 0,
            acked: receipt.acked,
            hinted: receipt.hinted,
            ring_version: receipt.ring_version,
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        Caller::check(request.extensions(), Role::Writer, Some(&request.get_ref().keyspace))?;
        let asked = request.get_ref();
        let _timed = Timed::of(&request, (&asked.keyspace, &asked.key), "delete", &self.node);
        let deadline = self.deadline(&request);
        let delete = request.into_inner();
        let held = self.admission.enter(delete.encoded_len())?;
        let request = names::of_delete(&delete)?;
        labels(&delete.labels)?;
        let named = self.named(&delete.keyspace, delete.key)?;
        let quorum = quorum(delete.quorum)?;
        let context = match (delete.observed, delete.contexts.is_empty()) {
            (true, true) => {
                Context::of(&self.read(&named, (None, quorum), deadline, &held).await?.siblings)
            }
            (false, false) => named.opened(&delete.contexts)?,
            (true, false) => {
                let message = "give contexts or `observed`, not both";
                return Err(errors::bad_field("observed", "CONTEXT_AND_OBSERVED", message));
            }
            (false, true) => {
                let message = "a delete needs the context of the get whose versions it deletes, \
                               or `observed` to delete what is there now";
                return Err(errors::bad_field("contexts", "CONTEXT_MISSING", message));
            }
        };
        if delete.only_if_current {
            self.is_current(&named, (&context, request.as_ref()), deadline, &held).await?;
        }
        let draft = Draft {
            payload: Payload::Tombstone,
            schema: 0,
            ttl_ms: None,
            labels: delete.labels,
            request,
        };
        let durability = durability(delete.durability)?;
        let only_if_current = delete.only_if_current;
        let write =
            Write { only_if_current, context, draft, w: delete.w, quorum, durability, deadline };
        let receipt = self.write(&named, write, &held).await?;
        Ok(Response::new(v1::DeleteResponse {
            dot: receipt.dot.to_string(),
            context: receipt.context.and_then(|context| named.sealed(&context)),
            siblings_remain: receipt.siblings_remaining > 0,
            acked: receipt.acked,
            hinted: receipt.hinted,
            ring_version: receipt.ring_version,
        }))
    }
}
