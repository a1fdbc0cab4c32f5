//! The guard of every listener for clients and operators: who calls, and whether they may.
//!
//! As long as nobody has a role ([`stator_core::catalogue::Access`]) all calls pass. From then on a call
//! needs a principal: the bearer of a token (`authorization: Bearer …`), or who has shown a client
//! certificate with its name. [`need`] says what each method needs; one that it does not name is
//! refused, whoever calls. Where a role may be given for one keyspace, the guard lets pass who has it
//! anywhere, and the method asks again once it knows the keyspace ([`Caller::check`]).
//!
//! A watch, which has no end, is looked at again when roles change ([`Pass`]). Left out: other streams
//! are not. A listing or a conflict feed that runs when its reader is withdrawn ends with its deadline
//! or its connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use stator_core::catalogue::{Access, Catalogue, Principal, Role, TokenDigest};
use tonic::codegen::http::{Extensions, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::audit::Audit;
use super::errors;
use crate::listen::Peer;
use crate::node::Node;

/// What a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing of what is kept.
    Nothing,
    /// Anybody with a role.
    Somebody,
    /// This role in some keyspace; the method asks for which.
    Somewhere(Role),
    /// This role in all keyspaces.
    Everywhere(Role),
}

/// What a method needs, by its path. `None`: nobody may call it.
pub fn need(path: &str) -> Option<Need> {
    use Need::{Everywhere, Nothing, Somebody, Somewhere};
    use Role::{Operator, Publisher, Reader, Writer};
    let (service, method) = path.trim_start_matches('/').split_once('/')?;
    Some(match (service, method) {
        ("grpc.health.v1.Health", _) => Nothing,
        ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
            Nothing
        }
        ("stator.v1.Kv", "Get" | "GetReplica" | "List" | "Batch" | "Watch") => Somewhere(Reader),
        ("stator.v1.Kv", "Put" | "Delete") => Somewhere(Writer),
        ("stator.v1.Routing", _) => Somebody,
        ("stator.v1.Admin", method) => match method {
            "GetStatus" | "GetKeyspace" | "ListKeyspaces" | "ListModules" | "GetModule" => Somebody,
            "TailConflicts" | "ListDeadLetters" | "ListRecordings" | "ListSuperseded" => {
                Somewhere(Reader)
            }
            "PushModule" | "PullModule" | "GetModuleLog" | "BeginTrial" | "EndTrial"
            | "GetTrial" | "UpdateKeyspace" => Somewhere(Publisher),
            "DeleteModule" => Everywhere(Publisher),
            "InitCluster" | "CreateKeyspace" | "DeleteKeyspace" | "StageRingChange"
            | "GetRingPlan" | "CommitRingPlan" | "CancelRingPlan" | "ListTransfers"
            | "StartRepair" | "GetRepair" | "IntroduceNode" | "ListHeld" | "BringHome"
            | "ExportObjects" | "ImportObjects" | "SetFault" | "ChangeAccess" | "ListAccess"
            | "ListAudit" => Everywhere(Operator),
            _ => return None,
        },
        _ => return None,
    })
}

/// Methods of operators that change nothing: the audit log passes over them.
fn is_read(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["Get", "List", "Tail", "Pull"].iter().any(|verb| method.starts_with(verb))
        && method != "GetReplica"
}

/// Who calls: an extension of each request while the cluster is not open to all.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The principal's name.
    pub name: String,
    principal: Arc<Principal>,
    /// Of the token that it has shown, if that is how it is known.
    token: Option<TokenDigest>,
}

impl Caller {
    /// Refuses who may not do what `role` may in this keyspace; in all for `None`.
    pub(super) fn check(
        extensions: &Extensions,
        role: Role,
        keyspace: Option<&str>,
    ) -> Result<(), Status> {
        match extensions.get::<Caller>() {
            Some(caller) if !caller.principal.may(role, keyspace) => {
                Err(not_allowed(&caller.name, role, keyspace))
            }
            // No caller: the cluster is open to all.
            _ => Ok(()),
        }
    }
}

fn not_allowed(name: &str, role: Role, keyspace: Option<&str>) -> Status {
    let role = format!("{role:?}").to_lowercase();
    let place =
        keyspace.map_or("all keyspaces".to_owned(), |keyspace| format!("keyspace {keyspace}"));
    let message = format!("{name} is no {role} of {place}; nothing was done");
    let facts = [("principal", name.to_owned()), ("role", role)];
    errors::status(Code::PermissionDenied, "NOT_ALLOWED", message, &facts)
}

fn unknown(why: &str) -> Status {
    let message = format!(
        "{why}; nothing was done: show a token (--token-file, or the header `authorization: Bearer \
         TOKEN`), or a client certificate with the name of who has a role"
    );
    errors::status(Code::Unauthenticated, "NOT_KNOWN", message, &[])
}

/// Who shows `token`, or a certificate with one of `names`.
fn who(access: &Access, token: Option<&str>, names: &[String]) -> Result<Caller, Status> {
    let found = match token {
        Some(token) => {
            let bearer = access.bearer(token);
            bearer.ok_or_else(|| unknown("the token is not known, or was withdrawn"))?
        }
        None => {
            let named = names.iter().find_map(|name| Some((name, access.named(name)?)));
            named.ok_or_else(|| unknown("this cluster serves only those who have a role"))?
        }
    };
    let (name, principal) = found;
    let token = token.map(TokenDigest::of);
    Ok(Caller { name: name.clone(), principal: Arc::new(principal.clone()), token })
}

/// Leave to do in a keyspace what a role may, for as long as it lasts.
pub(super) struct Pass {
    caller: Option<Caller>,
    role: Role,
    keyspace: String,
}

impl Pass {
    /// For who calls with these extensions of the request.
    pub(super) fn of(extensions: &Extensions, role: Role, keyspace: &str) -> Result<Self, Status> {
        Caller::check(extensions, role, Some(keyspace))?;
        let caller = extensions.get::<Caller>().cloned();
        Ok(Pass { caller, role, keyspace: keyspace.to_owned() })
    }

    /// Whether it still holds.
    pub(super) fn check(&self, access: &Access) -> Result<(), Status> {
        let Some(caller) = &self.caller else {
            let why = "this cluster serves only those who have a role by now";
            return if access.is_on() { Err(unknown(why)) } else { Ok(()) };
        };
        let bears = |principal: &&Principal| {
            caller.token.as_ref().is_none_or(|token| principal.tokens.contains_key(token))
        };
        match access.named(&caller.name).filter(bears) {
            _ if !access.is_on() => Ok(()),
            None => Err(unknown("the token or name is not known any more")),
            Some(principal) if principal.may(self.role, Some(&self.keyspace)) => Ok(()),
            Some(_) => Err(not_allowed(&caller.name, self.role, Some(&self.keyspace))),
        }
    }
}

/// Whether who shows this may read all keyspaces; anybody where nobody has a role.
pub fn may_read_all(catalogue: &Catalogue, token: Option<&str>, names: &[String]) -> bool {
    let access = &catalogue.access;
    let caller = || who(access, token, names);
    !access.is_on() || caller().is_ok_and(|caller| caller.principal.may(Role::Reader, None))
}

/// Guards a listener.
#[derive(Clone)]
pub struct Guard {
    node: Arc<Node>,
    /// Calls that change something are written down.
    audit: Option<Audit>,
}

impl Guard {
    /// Of a listener for clients.
    pub fn for_clients(node: Arc<Node>) -> Self {
        Guard { node, audit: None }
    }

    /// Of a listener for operators.
    pub fn for_operators(node: Arc<Node>) -> Self {
        let audit = Audit::of(&node);
        Guard { node, audit }
    }

    /// Who calls a method, if they may; nobody while the cluster is open to all.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Caller>, Status> {
        let path = request.uri().path();
        let Some(catalogue) = self.node.catalogue() else { return Ok(None) };
        if !catalogue.access.is_on() {
            return Ok(None);
        }
        let needed = need(path);
        if needed == Some(Need::Nothing) {
            return Ok(None);
        }
        let header = request.headers().get("authorization").map(|value| value.to_str());
        let token = match header {
            None => None,
            Some(Ok(text)) if text.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("bearer ")) => {
                Some(text[7..].trim())
            }
            Some(_) => return Err(unknown("the header `authorization` holds no bearer token")),
        };
        let peer = request.extensions().get::<Peer>();
        let names = peer.map_or(&[][..], |peer| &peer.names);
        let caller = who(&catalogue.access, token, names)?;
        let refused = |role, keyspace| Err(not_allowed(&caller.name, role, keyspace));
        match needed {
            None => refused(Role::Operator, None),
            Some(Need::Somewhere(role)) if !caller.principal.may_somewhere(role) => {
                refused(role, None)
            }
            Some(Need::Everywhere(role)) if !caller.principal.may(role, None) => {
                refused(role, None)
            }
            Some(Need::Somebody) if caller.principal.grants.is_empty() => {
                refused(Role::Reader, None)
            }
            Some(_) => Ok(Some(caller)),
        }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// A guarded service.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let audit = self.guard.audit.clone().filter(|_| !is_read(request.uri().path()));
        let noted = audit.map(|audit| audit.begin(&request));
        let caller = match self.guard.admit(&request) {
            Ok(caller) => caller,
            Err(status) => {
                if let Some(noted) = noted {
                    noted.end(None, status.code());
                }
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let name = caller.as_ref().map(|caller| caller.name.clone());
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let answer = self.inner.call(request);
        match noted {
            None => Box::pin(answer),
            Some(noted) => Box::pin(async move {
                let response = answer.await?;
                noted.end(name, super::observe::code_of(&response));
                Ok(response)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use stator_core::catalogue::{AccessChange, Grant, TokenDigest};

    use super::*;

    /// The paths of all methods that are offered.
    fn paths() -> Vec<String> {
        let described = stator_proto::FILE_DESCRIPTOR_SET;
        let set = prost_types::FileDescriptorSet::decode(described).expect("as it was made");
        let services = set.file.iter().flat_map(|file| {
            file.service.iter().map(move |service| (file.package().to_owned(), service))
        });
        let methods = services.flat_map(|(package, service)| {
            let name = format!("{package}.{}", service.name());
            service.method.iter().map(move |method| format!("/{name}/{}", method.name()))
        });
        methods.filter(|path| path.starts_with("/stator.")).collect()
    }

    #[test]
    fn no_method_is_unguarded() {
        let all = paths();
        assert!(all.len() > 30, "{all:?}");
        for path in all {
            let needed = need(&path);
            assert!(needed.is_some(), "{path} is not in the table: nobody could call it");
            assert_ne!(needed, Some(Need::Nothing), "{path}");
        }
        assert_eq!(need("/stator.v1.Admin/NoSuch"), None);
        assert_eq!(need("/other.Service/Get"), None);
        assert_eq!(need("nonsense"), None);
    }

    #[test]
    fn what_changes_something_is_written_down() {
        assert!(!is_read("/stator.v1.Admin/CreateKeyspace"));
        assert!(!is_read("/stator.v1.Admin/ChangeAccess"));
        assert!(is_read("/stator.v1.Admin/ListAccess") && is_read("/stator.v1.Admin/GetStatus"));
    }

    #[test]
    fn a_token_counts_before_a_certificate_and_a_wrong_one_is_no_name() {
        let mut access = Access::default();
        let operator = Grant { role: Role::Operator, keyspace: None };
        access.change("root", &AccessChange::Grant(operator)).expect("the first");
        let digest = TokenDigest::of("secret");
        let add = AccessChange::AddToken { digest, at_ms: 0 };
        access.change("shop", &add).expect("a token");
        let names = ["other".to_owned(), "root".to_owned()];
        assert_eq!(who(&access, None, &names).map(|c| c.name).ok().as_deref(), Some("root"));
        let bearer = who(&access, Some("secret"), &names);
        assert_eq!(bearer.map(|c| c.name).ok().as_deref(), Some("shop"));
        for (token, names) in [(Some("wrong"), &names[..]), (None, &names[..1])] {
            let refused = who(&access, token, names).expect_err("nobody");
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
    }
}
