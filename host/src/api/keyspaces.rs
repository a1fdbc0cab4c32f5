//! Keyspaces as resources.

use std::sync::Arc;
use std::time::Duration;

use stator_core::catalogue::{
    Catalogue, CatalogueChange, Durability, Keyspace, KeyspaceSpec, KeyspaceUpdate, Merging,
    PAUSE_AFTER, QUOTAS_LEVEL, Quorums, Quota, READ_REPAIR_PERCENT, REASON_CHARS_MAX,
    RESIZES_LEVEL, Reconcile, Role, SIGNATURES_LEVEL,
};
use stator_core::usage::{Estimate, Usage};
use stator_proto::v1;
use tonic::{Code, Status};

use super::{errors, resizes, signing, trials};
use crate::node::Node;

/// How long a keyspace that is to fold waits for its module.
const MODULE_WAIT: Duration = Duration::from_secs(2);

/// How many resources a page has at most.
pub(super) const PAGE_MAX: usize = 1_000;

/// What a page token begins with, before the last name of its page.
const TOKEN: &str = "after:";
/// The longest name in a page token: a digest, or a keyspace's name.
const TOKEN_BYTES_MAX: usize = 64;

/// A page of `items`, which are in the order of their names: those after `token`.
///
/// # Errors
/// The token is none that a page gave.
pub(super) fn page<T>(
    items: impl Iterator<Item = (String, T)>,
    size: u32,
    token: &str,
) -> Result<(Vec<T>, String), Status> {
    let after = match (token, token.strip_prefix(TOKEN)) {
        ("", _) => "",
        (_, Some(name)) if !name.is_empty() && name.len() <= TOKEN_BYTES_MAX => name,
        _ => {
            let message = "give the next_page_token of the answer before, as it was, or none";
            return Err(errors::bad_field("page_token", "BAD_PAGE_TOKEN", message));
        }
    };
    let size = match size as usize {
        0 => PAGE_MAX,
        size => size.min(PAGE_MAX),
    };
    let mut names = Vec::new();
    let mut values = Vec::new();
    let mut rest = items.filter(|(name, _)| name.as_str() > after);
    for (name, value) in rest.by_ref().take(size) {
        names.push(name);
        values.push(value);
    }
    let next = if rest.next().is_some() { names.pop() } else { None };
    Ok((values, next.map(|name| format!("{TOKEN}{name}")).unwrap_or_default()))
}

pub(super) async fn create(
    node: &Arc<Node>,
    request: v1::CreateKeyspaceRequest,
) -> Result<v1::Keyspace, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let asked = request.keyspace.unwrap_or_default();
    let spec = spec(&catalogue, &asked)?;
    let begun = [
        (!spec.signed_by.is_empty(), SIGNATURES_LEVEL, "signatures"),
        (spec.quota != Quota::default(), QUOTAS_LEVEL, "quotas"),
        (spec.merging.memory_bytes > 0, QUOTAS_LEVEL, "budgets of memory"),
    ];
    may_begin(node, &begun)?;
    may_fold(node, &catalogue, spec.reconcile).await?;
    let change = CatalogueChange::CreateKeyspace(spec);
    let catalogue = make(node, &catalogue, change, request.validate_only).await?;
    found(&catalogue, &asked.name)
}

pub(super) async fn update(
    node: &Arc<Node>,
    request: v1::UpdateKeyspaceRequest,
) -> Result<v1::Keyspace, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let asked = request.keyspace.unwrap_or_default();
    let now = catalogue.keyspace(&asked.name).ok_or_else(|| errors::no_keyspace(&asked.name))?;
    let paths = request.update_mask.unwrap_or_default().paths;
    let update = KeyspaceUpdate {
        at_ms: node.clock.now().wall_ms,
        reason: reason(request.reason)?,
        ..masked(now, &asked, &paths)?
    };
    let signs = update.signed_by.iter().flatten().next().is_some();
    let has_quota = update.quota.is_some_and(|quota| quota != Quota::default());
    let has_memory = update.merging.as_ref().is_some_and(|merging| merging.memory_bytes > 0);
    let resizes = update.n.is_some_and(|n| n != now.quorums.value.n);
    let begun = [
        (signs && now.signed_by.value.is_empty(), SIGNATURES_LEVEL, "signatures"),
        (has_quota && now.quota.version == 0, QUOTAS_LEVEL, "quotas"),
        (has_memory, QUOTAS_LEVEL, "budgets of memory"),
        (resizes, RESIZES_LEVEL, "changes of n"),
    ];
    may_begin(node, &begun)?;
    may_fold(node, &catalogue, update.reconcile.unwrap_or_default()).await?;
    let etag = (!asked.etag.is_empty()).then(|| asked.etag.clone());
    let change =
        CatalogueChange::UpdateKeyspace { name: asked.name.clone(), etag, update: update.clone() };
    let catalogue = make(node, &catalogue, change, request.validate_only).await?;
    let made = catalogue.keyspace(&asked.name).ok_or_else(|| errors::no_keyspace(&asked.name))?;
    if stands(&update, made) {
        Ok(live(node, &catalogue, message(&catalogue, made)))
    } else {
        Err(errors::overruled(&asked.name))
    }
}

/// Whether a keyspace may begin to have what connected nodes below a level would not look at.
fn may_begin(node: &Node, begun: &[(bool, u32, &str)]) -> Result<(), Status> {
    for (_, level, what) in begun.iter().filter(|(begins, ..)| *begins) {
        let old = node.transport.below_level(*level);
        let Some(first) = old.first() else { continue };
        let message = format!(
            "of the connected nodes {} run a program that does not look at {what}, {first} among \
             them: upgrade them first; nothing was changed",
            old.len()
        );
        let facts = [("node_id", first.to_string())];
        return Err(errors::status(Code::FailedPrecondition, "NODES_TOO_OLD", message, &facts));
    }
    Ok(())
}

/// Who may make this update: what concerns merges is the publishers' matter.
pub(super) fn role_to_update(request: &v1::UpdateKeyspaceRequest) -> Role {
    let paths = request.update_mask.iter().flat_map(|mask| &mask.paths);
    let is_merging = |path: &String| path == "reconcile" || path.starts_with("merging.");
    match paths.clone().count() > 0 && paths.clone().all(is_merging) {
        true => Role::Publisher,
        false => Role::Operator,
    }
}

/// A reason that the chronicle can hold.
pub(super) fn reason(reason: String) -> Result<String, Status> {
    if reason.chars().count() > REASON_CHARS_MAX {
        let message = format!("at most {REASON_CHARS_MAX} characters are possible");
        return Err(errors::bad_field("reason", "REASON_TOO_LONG", message));
    }
    Ok(reason)
}

/// What an update asks for. A mask names fields that are taken over, those only.
fn masked(
    now: &Keyspace,
    asked: &v1::Keyspace,
    paths: &[String],
) -> Result<KeyspaceUpdate, Status> {
    if paths.is_empty() {
        let message = "name the fields to take over, of n, r, w, durability, reconcile, read_repair_percent, \
                       signed_by and those of merging and quota";
        return Err(errors::bad_field("update_mask", "MASK_EMPTY", message));
    }
    let mut update = KeyspaceUpdate::default();
    for path in paths {
        match path.as_str() {
            "n" => update.n = Some(asked.n),
            "r" => update.r = Some(asked.r),
            "w" => update.w = Some(asked.w),
            "durability" => update.durability = Some(durability_of(asked.durability)?),
            "reconcile" => update.reconcile = Some(reconcile(asked.reconcile.as_ref())?),
            "read_repair_percent" => update.read_repair_percent = Some(read_repair_of(asked)),
            "signed_by" => update.signed_by = Some(signing::keys(&asked.signed_by)?),
            path if path.strip_prefix("merging.").is_some_and(|field| {
                let merging = update.merging.get_or_insert(now.merging.value);
                take_merging(merging, field, &self::merging(asked.merging.unwrap_or_default()))
            }) => {}
            path if path.strip_prefix("quota.").is_some_and(|field| {
                let quota = update.quota.get_or_insert(now.quota.value);
                take_quota(quota, field, &self::quota(asked.quota.unwrap_or_default()))
            }) => {}
            path => {
                let message = format!(
                    "{path:?} cannot be updated; n, r, w, durability, reconcile, read_repair_percent and \
                     signed_by can, each as a whole, and fields of merging and quota, such as \
                     merging.history_ms"
                );
                return Err(errors::bad_field("update_mask", "MASK_UNKNOWN_FIELD", message));
            }
        }
    }
    Ok(update)
}

/// Whether a keyspace is as an update wanted it, and not as another operator did.
fn stands(update: &KeyspaceUpdate, made: &Keyspace) -> bool {
    let to = made.resizes.present.as_ref().filter(|resize| update.n == Some(resize.to.n));
    let Quorums { n, r, w } = to.map_or(made.quorums.value, |resize| resize.to);
    update.n.is_none_or(|asked| asked == n)
        && update.r.is_none_or(|asked| asked == r)
        && update.w.is_none_or(|asked| asked == w)
        && update.durability.is_none_or(|asked| asked == made.durability.value)
        && update.reconcile.is_none_or(|asked| asked == made.reconcile.value)
        && update.merging.is_none_or(|asked| asked == made.merging.value)
        && update.quota.is_none_or(|asked| asked == made.quota.value)
        && update.signed_by.as_ref().is_none_or(|asked| *asked == made.signed_by.value)
        && update.read_repair_percent.is_none_or(|asked| asked == made.read_repair_percent.value)
}

pub(super) async fn delete(
    node: &Arc<Node>,
    request: v1::DeleteKeyspaceRequest,
) -> Result<v1::DeleteKeyspaceResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = found(&catalogue, &request.name)?;
    let etag = (!request.etag.is_empty()).then_some(request.etag);
    let change = CatalogueChange::DeleteKeyspace { name: request.name, etag };
    make(node, &catalogue, change, request.validate_only).await?;
    Ok(v1::DeleteKeyspaceResponse { keyspace: Some(keyspace) })
}

pub(super) fn get(node: &Node, name: &str) -> Result<v1::Keyspace, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = found(&catalogue, name)?;
    Ok(live(node, &catalogue, keyspace))
}

pub(super) fn list(
    node: &Node,
    request: &v1::ListKeyspacesRequest,
) -> Result<v1::ListKeyspacesResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let all = catalogue.live_keyspaces().map(|k| (k.name.clone(), message(&catalogue, k)));
    let (keyspaces, next_page_token) = page(all, request.page_size, &request.page_token)?;
    let keyspaces = keyspaces.into_iter().map(|shown| live(node, &catalogue, shown)).collect();
    Ok(v1::ListKeyspacesResponse { keyspaces, next_page_token })
}

/// Makes a change, or only checks it.
pub(super) async fn make(
    node: &Arc<Node>,
    catalogue: &Arc<Catalogue>,
    change: CatalogueChange,
    is_check_only: bool,
) -> Result<Arc<Catalogue>, Status> {
    if is_check_only {
        let mut changed = Catalogue::clone(catalogue);
        return match change.apply(&mut changed) {
            Ok(()) => Ok(Arc::new(changed)),
            Err(error) => Err(errors::change(&error.into())),
        };
    }
    let made = node.driver.change(change).await.map_err(errors::stopped)?;
    made.map_err(|failure| errors::change(&failure))
}

pub(super) fn found(catalogue: &Catalogue, name: &str) -> Result<v1::Keyspace, Status> {
    let keyspace = catalogue.keyspace(name).ok_or_else(|| errors::no_keyspace(name))?;
    Ok(message(catalogue, keyspace))
}

/// Whether the module may fold: whether its laws hold, as this node finds. Of a module that was
/// never pushed the change itself says so.
pub(super) async fn may_fold(
    node: &Node,
    catalogue: &Catalogue,
    reconcile: Reconcile,
) -> Result<(), Status> {
    let Reconcile::Fold(digest) = reconcile else { return Ok(()) };
    if catalogue.module(&digest).is_none() {
        return Ok(());
    }
    // It may just be on its way here. If it does not come, the check says so.
    let _ = tokio::time::timeout(MODULE_WAIT, node.modules.wait_for(&digest)).await;
    node.merges.may_fold(&digest).await.map(drop).map_err(|why| errors::may_not_fold(&why))
}

/// What is asked for, with the defaults in place of what is not.
fn spec(catalogue: &Catalogue, asked: &v1::Keyspace) -> Result<KeyspaceSpec, Status> {
    let n = match asked.n {
        0 => catalogue.ring.replicas() as u32,
        n => n,
    };
    let majority = n / 2 + 1;
    let or_majority = |count: u32| if count == 0 { majority } else { count };
    let quorums = Quorums { n, r: or_majority(asked.r), w: or_majority(asked.w) };
    let durability = durability_of(asked.durability)?;
    let reconcile = reconcile(asked.reconcile.as_ref())?;
    let read_repair_percent = read_repair_of(asked);
    Ok(KeyspaceSpec {
        name: asked.name.clone(),
        quorums,
        durability,
        reconcile,
        read_repair_percent,
        merging: asked.merging.map(merging).unwrap_or_default(),
        signed_by: signing::keys(&asked.signed_by)?,
        quota: asked.quota.map(quota).unwrap_or_default(),
    })
}

fn merging(asked: v1::Merging) -> Merging {
    Merging {
        history_ms: asked.history_ms,
        previous: asked.previous,
        last_write: asked.last_write,
        pause_after: asked.pause_after.unwrap_or(PAUSE_AFTER),
        merges_per_second: asked.merges_per_second,
        fuel_per_second: asked.fuel_per_second,
        memory_bytes: asked.memory_bytes,
        paused: asked.paused,
    }
}

/// Takes over the field of `asked` that a mask names; false if there is none of that name.
fn take_merging(update: &mut Merging, field: &str, asked: &Merging) -> bool {
    match field {
        "history_ms" => update.history_ms = asked.history_ms,
        "previous" => update.previous = asked.previous,
        "last_write" => update.last_write = asked.last_write,
        "pause_after" => update.pause_after = asked.pause_after,
        "merges_per_second" => update.merges_per_second = asked.merges_per_second,
        "paused" => update.paused = asked.paused,
        "fuel_per_second" => update.fuel_per_second = asked.fuel_per_second,
        "memory_bytes" => update.memory_bytes = asked.memory_bytes,
        _ => return false,
    }
    true
}

fn quota(asked: v1::Quota) -> Quota {
    let v1::Quota { keys, bytes, requests_per_second } = asked;
    Quota { keys, bytes, requests_per_second }
}

/// As [`take_merging`].
fn take_quota(update: &mut Quota, field: &str, asked: &Quota) -> bool {
    match field {
        "keys" => update.keys = asked.keys,
        "bytes" => update.bytes = asked.bytes,
        "requests_per_second" => update.requests_per_second = asked.requests_per_second,
        _ => return false,
    }
    true
}

fn read_repair_of(asked: &v1::Keyspace) -> u32 {
    asked.read_repair_percent.unwrap_or(READ_REPAIR_PERCENT)
}

fn durability_of(asked: i32) -> Result<Durability, Status> {
    match v1::Durability::try_from(asked) {
        Ok(v1::Durability::Unspecified | v1::Durability::All) => Ok(Durability::All),
        Ok(v1::Durability::One) => Ok(Durability::One),
        Ok(v1::Durability::Buffered) => Ok(Durability::Buffered),
        Err(_) => Err(errors::unimplemented(&format!("durability {asked}"))),
    }
}

fn reconcile(asked: Option<&v1::Reconcile>) -> Result<Reconcile, Status> {
    let Some(asked) = asked else { return Ok(Reconcile::Siblings) };
    let field = "keyspace.reconcile.module_digest";
    let policy = v1::ReconcilePolicy::try_from(asked.policy)
        .map_err(|_| errors::unimplemented("this reconcile policy"))?;
    match policy {
        v1::ReconcilePolicy::Module if asked.fold && asked.ancestor => {
            let message = "what a fold makes has no ancestor to be told: leave out one of the two";
            let field = "keyspace.reconcile.ancestor";
            Err(errors::bad_field(field, "ANCESTOR_WITH_FOLD", message))
        }
        v1::ReconcilePolicy::Module => {
            errors::digest(field, &asked.module_digest).map(match (asked.fold, asked.ancestor) {
                (true, _) => Reconcile::Fold,
                (false, true) => Reconcile::ThreeWay,
                (false, false) => Reconcile::Module,
            })
        }
        _ if asked.fold => {
            let message = "only the policy `module` folds what its module makes";
            Err(errors::bad_field("keyspace.reconcile.fold", "FOLD_WITHOUT_MODULE", message))
        }
        _ if asked.ancestor => {
            let message = "only the policy `module` tells its module an ancestor";
            let field = "keyspace.reconcile.ancestor";
            Err(errors::bad_field(field, "ANCESTOR_WITHOUT_MODULE", message))
        }
        _ if !asked.module_digest.is_empty() => {
            let message = "only the policy `module` takes a module";
            Err(errors::bad_field(field, "BAD_DIGEST", message))
        }
        v1::ReconcilePolicy::LastWriteWins => Ok(Reconcile::LastWriteWins),
        v1::ReconcilePolicy::Unspecified | v1::ReconcilePolicy::Siblings => Ok(Reconcile::Siblings),
    }
}

fn merging_message(merging: &Merging) -> v1::Merging {
    v1::Merging {
        history_ms: merging.history_ms,
        previous: merging.previous,
        last_write: merging.last_write,
        pause_after: Some(merging.pause_after),
        merges_per_second: merging.merges_per_second,
        fuel_per_second: merging.fuel_per_second,
        memory_bytes: merging.memory_bytes,
        paused: merging.paused,
    }
}

pub(super) fn message(catalogue: &Catalogue, keyspace: &Keyspace) -> v1::Keyspace {
    let unsigned = catalogue.unsigned_in(keyspace);
    let quorums = keyspace.quorums.value;
    v1::Keyspace {
        name: keyspace.name.clone(),
        generation: keyspace.generation,
        id: keyspace.id.to_string(),
        n: quorums.n,
        r: quorums.r,
        w: quorums.w,
        durability: durability(keyspace.durability.value).into(),
        reconcile: Some(reconcile_message(keyspace.reconcile.value)),
        etag: keyspace.etag(),
        read_repair_percent: Some(keyspace.read_repair_percent.value),
        trial: keyspace.trial.value.as_ref().map(trials::message),
        chronicle: keyspace.chronicle.entries().map(trials::entry).collect(),
        merging: Some(merging_message(&keyspace.merging.value)),
        signed_by: keyspace.signed_by.value.iter().map(ToString::to_string).collect(),
        unsigned_modules: unsigned.iter().map(ToString::to_string).collect(),
        quota: Some(quota_message(keyspace.quota.value)),
        usage: None,
        resize: None,
    }
}

fn quota_message(quota: Quota) -> v1::Quota {
    let Quota { keys, bytes, requests_per_second } = quota;
    v1::Quota { keys, bytes, requests_per_second }
}

/// With what is not in the catalogue: how much there is of it, and how far a change of n is.
fn live(node: &Node, catalogue: &Catalogue, shown: v1::Keyspace) -> v1::Keyspace {
    let Some(keyspace) = catalogue.keyspace(&shown.name) else { return shown };
    let Estimate { one_copy, stored_bytes, unknown } = node.driver.shared().usage(keyspace.id);
    let Usage { keys, bytes } = one_copy;
    let usage = v1::KeyspaceUsage { keys, bytes, stored_bytes, members_unknown: unknown };
    let resize = resizes::under_way(node, catalogue, keyspace);
    v1::Keyspace { usage: Some(usage), resize, ..shown }
}

pub(super) fn durability(durability: Durability) -> v1::Durability {
    match durability {
        Durability::All => v1::Durability::All,
        Durability::One => v1::Durability::One,
        Durability::Buffered => v1::Durability::Buffered,
    }
}

pub(super) fn reconcile_message(reconcile: Reconcile) -> v1::Reconcile {
    let policy = match reconcile {
        Reconcile::Siblings => v1::ReconcilePolicy::Siblings,
        Reconcile::LastWriteWins => v1::ReconcilePolicy::LastWriteWins,
        Reconcile::Module(_) | Reconcile::Fold(_) | Reconcile::ThreeWay(_) => {
            v1::ReconcilePolicy::Module
        }
    };
    v1::Reconcile {
        policy: policy.into(),
        module_digest: reconcile.module().map(|digest| digest.to_string()).unwrap_or_default(),
        fold: matches!(reconcile, Reconcile::Fold(_)),
        ancestor: matches!(reconcile, Reconcile::ThreeWay(_)),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn publishers_say_what_merges_and_operators_whose_signatures_it_needs() {
        let role = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            let update_mask = Some(prost_types::FieldMask { paths });
            role_to_update(&v1::UpdateKeyspaceRequest { update_mask, ..Default::default() })
        };
        assert_eq!(role(&["reconcile", "merging.paused"]), Role::Publisher);
        for paths in [&["signed_by"][..], &["reconcile", "signed_by"], &["w"], &[]] {
            assert_eq!(role(paths), Role::Operator, "{paths:?}");
        }
    }

    #[test]
    fn pages_follow_one_another_without_gaps() {
        let names = || ["a", "b", "c", "d", "e"].into_iter().map(|n| (n.to_owned(), n));
        let (first, token) = page(names(), 2, "").expect("no token");
        assert_eq!((first, token.as_str()), (vec!["a", "b"], "after:b"));
        let (second, token) = page(names(), 2, &token).expect("its token");
        assert_eq!((second, token.as_str()), (vec!["c", "d"], "after:d"));
        let (last, token) = page(names(), 2, &token).expect("its token");
        assert_eq!((last, token.as_str()), (vec!["e"], ""));
        assert_eq!(page(names(), 0, "").expect("no token").0.len(), 5);
        for wrong in ["b", "after:", "AFTER:b"] {
            let status = page(names(), 0, wrong).expect_err(wrong);
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong}");
        }
    }
}
