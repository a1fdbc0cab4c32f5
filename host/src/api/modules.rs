//! Merge modules as resources.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, KeptVerdict, Laws, Module, ModuleClass, WHY_CHARS_MAX,
};
use stator_core::id::ModuleDigest;
use stator_proto::v1;
use stator_proto::v1::push_module_request::Part;
use tonic::{Code, Status, Streaming};

use super::{errors, keyspaces, signing};
use crate::merge::ModuleRefused;
use crate::merge::laws::{Law, LawsUnchecked, Report, Verdict};
use crate::node::Node;

/// The longest name of a module.
const NAME_CHARS_MAX: usize = 64;
/// Bytes of a counterexample in an answer.
const DETAIL_BYTES_MAX: usize = 4096;
/// The shortest prefix of a digest that is looked up.
const PREFIX_MIN: usize = 8;

/// The longest that a node is waited for to load a module.
const READY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How much of a module is sent at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// How long an upload may pause.
const PART_WAIT: Duration = Duration::from_secs(30);

pub(super) async fn push(
    node: &Arc<Node>,
    mut parts: Streaming<v1::PushModuleRequest>,
) -> Result<v1::Module, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let header = match parts.message().await?.and_then(|first| first.part) {
        Some(Part::Header(header)) => header,
        _ => return Err(errors::bad_field("header", "HEADER_MISSING", "it comes first")),
    };
    if header.name.is_empty() || header.name.chars().count() > NAME_CHARS_MAX {
        let message = format!("1 to {NAME_CHARS_MAX} characters are possible");
        return Err(errors::bad_field("header.name", "BAD_NAME", message));
    }
    let class = class_of(&header)?;
    // Held until the module is kept or refused, and by what still runs for one who hung up: its
    // bytes are in memory so long.
    let place = node.merges.place_to_check().map_err(|refusal| refused(&refusal))?;
    let component = receive(node, &header, class, &mut parts).await?;
    let digest = ModuleDigest::of(&component);
    if !header.digest.is_empty() && header.digest != digest.to_string() {
        let message = format!("the bytes that arrived have the digest {digest}");
        return Err(errors::bad_field("header.digest", "DIGEST_MISMATCH", message));
    }
    let signatures = signing::verified(&digest, &header.signatures)?;
    let module = Module {
        pushed_at_ms: node.clock.now().wall_ms,
        name: header.name,
        size_bytes: component.len() as u64,
        class,
        generation: 0,
        is_deleted: false,
        laws: None,
        signatures,
    };
    if header.validate_only {
        let tried = node.merges.dry_run(class, component, &place).await;
        let (_, laws) = tried.map_err(|refusal| refused(&refusal))?;
        let laws = verdicts(&digest, laws.as_ref());
        return Ok(v1::Module { laws, ..message(&catalogue, &digest, &module) });
    }
    let admitted = node.merges.admit_as(class, component.clone()).await;
    admitted.map_err(|refusal| refused(&refusal))?;
    let laws = node.merges.laws_in(&digest, Some(&place)).await;
    let module = Module { laws: laws.as_deref().ok().map(|laws| kept(&digest, laws)), ..module };
    let laws = verdicts(&digest, laws.as_deref());
    let kept = node.modules.keep(&digest, component).await;
    let facts = [("effect", "NONE".to_owned())];
    kept.map_err(|why| errors::status(Code::Unavailable, "NOT_KEPT", why, &facts))?;
    let change = CatalogueChange::AddModule { digest, module };
    let catalogue = keyspaces::make(node, &catalogue, change, false).await?;
    let (digest, module) = find(&catalogue, &digest.to_string())?;
    Ok(v1::Module { laws, ..message(&catalogue, digest, module) })
}

/// How the module stands to the merge laws. A view may break any of them, so that they could not be
/// checked is no reason to refuse the module.
fn verdicts(digest: &ModuleDigest, report: Result<&Report, &LawsUnchecked>) -> Vec<v1::LawVerdict> {
    match report {
        Ok(report) => report.verdicts().map(|(law, found)| verdict(law, found)).collect(),
        Err(error) => {
            tracing::warn!(module = %digest, %error, "the merge laws were not checked");
            Vec::new()
        }
    }
}

/// What the catalogue keeps of a report.
fn kept(digest: &ModuleDigest, report: &Report) -> Laws {
    let verdict = |(law, found): (Law, &Verdict)| {
        let kept = match found {
            Verdict::Holds { cases } => KeptVerdict::Holds(*cases),
            Verdict::Violated(_) => KeptVerdict::Violated,
            Verdict::NotCheckable { .. } => KeptVerdict::NotCheckable,
        };
        (law.name().to_owned(), kept)
    };
    let why = report.why_no_fold(digest).map(|why| why.to_string()).unwrap_or_default();
    // Behind the first line comes the counterexample.
    let why = why.lines().next().unwrap_or_default();
    Laws {
        verdicts: report.verdicts().map(verdict).collect(),
        why_no_fold: why.chars().take(WHY_CHARS_MAX).collect(),
    }
}

fn kept_verdict((law, kept): &(String, KeptVerdict)) -> v1::LawVerdict {
    use v1::law_verdict::Answer;
    let (answer, cases) = match kept {
        KeptVerdict::Holds(cases) => (Answer::Holds, *cases),
        KeptVerdict::Violated => (Answer::Violated, 0),
        KeptVerdict::NotCheckable => (Answer::NotCheckable, 0),
    };
    v1::LawVerdict { law: law.clone(), answer: answer.into(), cases, detail: String::new() }
}

fn verdict(law: Law, found: &Verdict) -> v1::LawVerdict {
    use v1::law_verdict::Answer;
    let (answer, cases, detail) = match found {
        Verdict::Holds { cases } => (Answer::Holds, *cases, String::new()),
        Verdict::Violated(found) => (Answer::Violated, 0, brief(found.to_string())),
        Verdict::NotCheckable { why } => (Answer::NotCheckable, 0, why.clone()),
    };
    v1::LawVerdict { law: law.name().to_owned(), answer: answer.into(), cases, detail }
}

/// A counterexample of large values would not fit into an answer.
fn brief(mut text: String) -> String {
    let end = text.floor_char_boundary(DETAIL_BYTES_MAX);
    if end < text.len() {
        text.truncate(end);
        text.push_str("… (`stator module test` shows all of it)");
    }
    text
}

fn class_of(header: &v1::ModuleHeader) -> Result<ModuleClass, Status> {
    match v1::ModuleClass::try_from(header.class) {
        Ok(v1::ModuleClass::Unspecified | v1::ModuleClass::Small) => Ok(ModuleClass::Small),
        Ok(v1::ModuleClass::Large) => Ok(ModuleClass::Large),
        Err(_) => Err(errors::unimplemented(&format!("class {}", header.class))),
    }
}

async fn receive(
    node: &Node,
    header: &v1::ModuleHeader,
    class: ModuleClass,
    parts: &mut Streaming<v1::PushModuleRequest>,
) -> Result<Bytes, Status> {
    let max = node.merges.limits_of(class).component_bytes_max;
    let larger = class.larger().map(|class| node.merges.limits_of(class).component_bytes_max);
    let too_large = |found: u64| {
        let mut message =
            format!("the module has {found} bytes; the limit is {max} in class {class}");
        if larger.is_some_and(|larger| found <= larger as u64) {
            message.push_str("; its size fits class large: push it with `--class large`");
        }
        errors::bad_field("header.size_bytes", "MODULE_TOO_LARGE", message)
    };
    if header.size_bytes > max as u64 {
        return Err(too_large(header.size_bytes));
    }
    let mut component = BytesMut::with_capacity(header.size_bytes as usize);
    while let Some(next) = next(parts).await? {
        let Some(Part::Chunk(chunk)) = next.part else {
            return Err(errors::bad_field("part", "CHUNK_MISSING", "chunks follow the header"));
        };
        if component.len() + chunk.len() > max {
            return Err(too_large((component.len() + chunk.len()) as u64));
        }
        component.extend_from_slice(&chunk);
    }
    if component.len() as u64 != header.size_bytes {
        let message =
            format!("{} bytes arrived, {} were announced", component.len(), header.size_bytes);
        return Err(errors::bad_field("header.size_bytes", "SIZE_MISMATCH", message));
    }
    Ok(component.freeze())
}

/// The next part of an upload. Who sends none for a while gives its place to others.
async fn next(
    parts: &mut Streaming<v1::PushModuleRequest>,
) -> Result<Option<v1::PushModuleRequest>, Status> {
    match tokio::time::timeout(PART_WAIT, parts.message()).await {
        Ok(part) => part,
        Err(_) => {
            let seconds = PART_WAIT.as_secs();
            let message = format!("no part of the module came for {seconds} s; nothing was kept");
            Err(errors::status(Code::DeadlineExceeded, "UPLOAD_STALLED", message, &[]))
        }
    }
}

fn refused(refusal: &ModuleRefused) -> Status {
    let message = format!("the module is refused: {refusal}; nothing was changed");
    match refusal.stage() {
        Some(stage) => {
            let facts = [("stage", stage.to_string())];
            errors::bad_field_with("chunk", "MODULE_REFUSED", message, &facts)
        }
        None if matches!(refusal, ModuleRefused::Busy { .. }) => {
            errors::status(Code::ResourceExhausted, "OVERLOADED", message, &[])
        }
        // Not the module's fault.
        None => {
            let facts = [("effect", "NONE".to_owned())];
            errors::status(Code::Unavailable, "MODULE_NOT_CHECKED", message, &facts)
        }
    }
}

/// The module of this digest, or of the one digest that starts so.
fn find<'a>(
    catalogue: &'a Catalogue,
    digest: &str,
) -> Result<(&'a ModuleDigest, &'a Module), Status> {
    let is_hex = digest.chars().all(|c| c.is_ascii_hexdigit());
    if digest.len() < PREFIX_MIN || !is_hex {
        let message = format!("at least {PREFIX_MIN} hexadecimal digits are needed");
        return Err(errors::bad_field("digest", "BAD_DIGEST", message));
    }
    let wanted = digest.to_ascii_lowercase();
    let mut found = catalogue.live_modules().filter(|(d, _)| d.to_string().starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => {
            let message = "several modules start so; give more digits";
            Err(errors::bad_field("digest", "DIGEST_AMBIGUOUS", message))
        }
        (None, _) => {
            let message = format!("there is no module {digest}");
            let facts = [("digest", digest.to_owned())];
            Err(errors::status(Code::NotFound, "UNKNOWN_MODULE", message, &facts))
        }
    }
}

/// A module, and whether this node can call it, which is waited for a while if that is asked for.
pub(super) async fn look_up(
    node: &Node,
    request: &v1::GetModuleRequest,
) -> Result<v1::Module, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let (digest, module) = find(&catalogue, &request.digest)?;
    let wait = Duration::from_millis(u64::from(request.wait_ready_ms)).min(READY_WAIT_MAX);
    if wait > Duration::ZERO {
        let _ = tokio::time::timeout(wait, node.modules.wait_for(digest)).await;
    }
    let ready = node.merges.is_loaded(digest);
    let paused = node.conflicts.paused().into_iter().filter(|(_, module, _)| module == digest);
    let paused_in =
        paused.filter_map(|(id, _, _)| Some(catalogue.keyspace_by_id(id)?.name.clone()));
    let paused_in = paused_in.collect();
    Ok(v1::Module { ready, paused_in, ..message(&catalogue, digest, module) })
}

/// The last lines of a module on this node.
pub(super) fn log(node: &Node, digest: &str) -> Result<v1::GetModuleLogResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let (digest, _) = find(&catalogue, digest)?;
    let line = |line: crate::merge::Line| v1::ModuleLine {
        at_ms: line.at_ms,
        level: line.level.to_owned(),
        line: line.text,
    };
    let lines = node.merges.lines(digest).into_iter().map(line).collect();
    Ok(v1::GetModuleLogResponse { lines })
}

pub(super) async fn delete(
    node: &Arc<Node>,
    request: v1::DeleteModuleRequest,
) -> Result<v1::Module, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let (digest, module) = find(&catalogue, &request.digest)?;
    let change = CatalogueChange::DeleteModule(*digest);
    keyspaces::make(node, &catalogue, change, request.validate_only).await?;
    Ok(message(&catalogue, digest, module))
}

pub(super) type Chunks =
    std::pin::Pin<Box<dyn Stream<Item = Result<v1::PullModuleResponse, Status>> + Send>>;

/// The bytes of a module, a chunk at a time.
pub(super) async fn pull(node: &Node, digest: &str) -> Result<Chunks, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let (digest, _) = find(&catalogue, digest)?;
    let component = node.modules.read(digest).await.ok_or_else(|| {
        let message = format!("module {digest} is not on this node yet: ask another, or later");
        errors::status(Code::Unavailable, "MODULE_NOT_HERE", message, &[])
    })?;
    let chunks = (0..component.len()).step_by(CHUNK_BYTES).map(move |at| {
        let end = component.len().min(at + CHUNK_BYTES);
        Ok(v1::PullModuleResponse { chunk: component.slice(at..end) })
    });
    Ok(Box::pin(futures::stream::iter(chunks)))
}

pub(super) fn list(
    catalogue: &Catalogue,
    request: &v1::ListModulesRequest,
) -> Result<v1::ListModulesResponse, Status> {
    let all =
        catalogue.live_modules().map(|(d, module)| (d.to_string(), message(catalogue, d, module)));
    let (modules, next_page_token) = keyspaces::page(all, request.page_size, &request.page_token)?;
    Ok(v1::ListModulesResponse { modules, next_page_token })
}

fn message(catalogue: &Catalogue, digest: &ModuleDigest, module: &Module) -> v1::Module {
    let keyspaces = catalogue.keyspaces_with(digest);
    let laws = module.laws.as_ref();
    v1::Module {
        digest: digest.to_string(),
        name: module.name.clone(),
        size_bytes: module.size_bytes,
        pushed_at_ms: module.pushed_at_ms,
        class: match module.class {
            ModuleClass::Small => v1::ModuleClass::Small.into(),
            ModuleClass::Large => v1::ModuleClass::Large.into(),
        },
        keyspaces: keyspaces.map(|keyspace| keyspace.name.clone()).collect(),
        laws: laws.map(|laws| laws.verdicts.iter().map(kept_verdict).collect()).unwrap_or_default(),
        ready: false,
        why_no_fold: laws.map(|laws| laws.why_no_fold.clone()).unwrap_or_default(),
        paused_in: Vec::new(),
        signatures: signing::messages(&module.signatures),
    }
}
