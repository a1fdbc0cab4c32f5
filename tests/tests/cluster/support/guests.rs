//! Merge modules: the real cart, and bad ones from WebAssembly text.

use stator_proto::upload;
use stator_proto::v1::PushModuleRequest;
use tonic::codegen::Bytes;

#[allow(dead_code, reason = "the merge host's own tests use the rest")]
#[path = "../../../../host/tests/guests/mod.rs"]
mod texts;

pub use texts::{
    LOOP, ambush, built, compile_bomb, core_module, foreign_import, module, other_world,
};

/// The messages that upload `component`.
pub fn pushing(component: Bytes) -> impl futures::Stream<Item = PushModuleRequest> + Send {
    futures::stream::iter(upload::messages("bad".to_owned(), String::new(), component, false))
}
