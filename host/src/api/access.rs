//! Who may do what, as messages.

use std::sync::Arc;

use stator_core::catalogue::{
    Access, AccessChange, Catalogue, CatalogueChange, Grant, Principal, Role, TokenDigest,
};
use stator_proto::v1;
use stator_proto::v1::change_access_request::Change;
use tonic::{Code, Request, Status};

use super::{errors, keyspaces};
use crate::listen::Peer;
use crate::node::Node;

/// Bytes of a token's randomness.
const TOKEN_BYTES: usize = 32;

pub(super) async fn change(
    node: &Arc<Node>,
    request: Request<v1::ChangeAccessRequest>,
) -> Result<v1::ChangeAccessResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let peer = request.extensions().get::<Peer>();
    let names = peer.map_or_else(Arc::default, |peer| peer.names.clone());
    let request = request.into_inner();
    let name = request.principal;
    if matches!(request.change, Some(Change::Grant(_))) && !catalogue.access.is_on() {
        can_act(&catalogue, &name, &names)?;
    }
    let mut token = String::new();
    let change = match request.change {
        Some(Change::Grant(grant)) => AccessChange::Grant(known(&catalogue, &grant)?),
        Some(Change::Withdraw(grant)) => AccessChange::Withdraw(Some(self::grant(&grant)?)),
        Some(Change::WithdrawAll(true)) => AccessChange::Withdraw(None),
        Some(Change::AddToken(true)) => {
            token = new_token(&name)?;
            let at_ms = node.clock.now().wall_ms;
            AccessChange::AddToken { digest: TokenDigest::of(&token), at_ms }
        }
        Some(Change::DropToken(id)) => AccessChange::DropToken(id),
        Some(Change::DropAllTokens(true)) => AccessChange::DropToken(String::new()),
        _ => return Err(errors::bad_field("change", "CHANGE_MISSING", "say what is to change")),
    };
    let change = CatalogueChange::Access { name: name.clone(), change };
    let catalogue = keyspaces::make(node, &catalogue, change, false).await?;
    let principal = catalogue.access.named(&name).cloned().unwrap_or_default();
    let principal = Some(message(&name, &principal));
    Ok(v1::ChangeAccessResponse { principal, token, is_open: !catalogue.access.is_on() })
}

pub(super) fn list(catalogue: &Catalogue) -> v1::ListAccessResponse {
    let access: &Access = &catalogue.access;
    let principals = access.principals().map(|(name, principal)| message(name, principal));
    v1::ListAccessResponse { principals: principals.collect(), is_open: !access.is_on() }
}

/// With the first role the cluster closes: who has it must be somebody who can show it.
fn can_act(catalogue: &Catalogue, name: &str, names: &[String]) -> Result<(), Status> {
    let has_token = catalogue.access.named(name).is_some_and(|p| !p.tokens.is_empty());
    if has_token || names.iter().any(|shown| shown == name) {
        return Ok(());
    }
    let message = format!(
        "nobody could act as {name} afterwards, and so nobody change anything: make them a token \
         first (stator access token {name}), or call with a client certificate of that name; \
         nothing was changed"
    );
    Err(errors::status(Code::FailedPrecondition, "NO_OPERATOR", message, &[]))
}

fn message(name: &str, principal: &Principal) -> v1::Principal {
    let grants = principal.grants.iter().map(|grant| v1::Grant {
        role: role_number(grant.role).into(),
        keyspace: grant.keyspace.clone(),
    });
    let tokens = principal
        .tokens
        .iter()
        .map(|(digest, at_ms)| v1::AccessToken { id: digest.id().to_owned(), made_at_ms: *at_ms });
    v1::Principal { name: name.to_owned(), grants: grants.collect(), tokens: tokens.collect() }
}

/// A grant in a keyspace that there is: a name that is spelt wrong gives nobody anything.
fn known(catalogue: &Catalogue, asked: &v1::Grant) -> Result<Grant, Status> {
    let grant = grant(asked)?;
    match &grant.keyspace {
        Some(name) if catalogue.keyspace(name).is_none() => Err(errors::no_keyspace(name)),
        _ => Ok(grant),
    }
}

fn grant(asked: &v1::Grant) -> Result<Grant, Status> {
    let role = match v1::Role::try_from(asked.role) {
        Ok(v1::Role::Reader) => Role::Reader,
        Ok(v1::Role::Writer) => Role::Writer,
        Ok(v1::Role::Publisher) => Role::Publisher,
        Ok(v1::Role::Operator) => Role::Operator,
        Ok(v1::Role::Unspecified) => {
            return Err(errors::bad_field("grant.role", "ROLE_MISSING", "name a role"));
        }
        Err(_) => return Err(errors::unimplemented(&format!("role {}", asked.role))),
    };
    Ok(Grant { role, keyspace: asked.keyspace.clone() })
}

fn role_number(role: Role) -> v1::Role {
    match role {
        Role::Reader => v1::Role::Reader,
        Role::Writer => v1::Role::Writer,
        Role::Publisher => v1::Role::Publisher,
        Role::Operator => v1::Role::Operator,
    }
}

/// A token that can be told from other secrets when it turns up where it should not.
fn new_token(name: &str) -> Result<String, Status> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        let message = format!("no token can be made for {name}: {error}; nothing was changed");
        let facts = [("effect", "NONE".to_owned())];
        errors::status(Code::Unavailable, "NO_RANDOMNESS", message, &facts)
    })?;
    Ok(format!("stator_{}", hex::encode(bytes)))
}
