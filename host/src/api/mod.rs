//! The gRPC services of `stator.v1`: they check what clients send, call the [node](crate::node)
//! and put its answers into messages. Generated types do not leave this module.
//!
//! Every error carries a google.rpc ErrorInfo (see `errors`). A request beyond what the node
//! can hold at a time is refused at once, so that those it has taken are answered in time.

mod access;
mod admin;
mod audit;
mod batch;
mod conditions;
mod conflicts;
mod errors;
mod guard;
mod health;
mod hints;
mod journals;
mod keyspaces;
mod kv;
mod limits;
mod list;
mod membership;
mod modules;
mod names;
mod objects;
mod observe;
mod quota;
mod recover;
mod repair;
mod replica;
pub(crate) mod resizes;
mod ring;
mod routing;
mod signing;
mod status;
mod timed;
mod trials;
mod unread;
mod versions;
mod watch;

pub use admin::AdminService;
pub use guard::{Caller, Guard, Guarded, Need, may_read_all, need};
pub use health::HealthService;
pub use kv::KvService;
pub use membership::Membership;
pub use observe::RequestLayer;
pub use routing::RoutingService;
pub use unread::{explain_unread, refuse_answer, refuse_body};
