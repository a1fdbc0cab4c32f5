//! Turns a core module, as a compiler makes it, into a component.
//!
//! A guest built for `wasm32-unknown-unknown` is a core module that carries its WIT types in a
//! custom section. wit-component wraps it; no tool outside this binary is needed.

use wit_component::ComponentEncoder;

use super::refused::ModuleRefused;
use super::world;

/// Why a core module does not become a component.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The input is a component already.
    #[error("this is a component already; push it as it is")]
    AlreadyComponent,
    /// The input is no core module, carries no WIT types, or does not fit the ones it carries.
    #[error(
        "this cannot be encoded: {0}. A core module is expected that was built for \
         wasm32-unknown-unknown with guest-sdk or another generator of WIT bindings"
    )]
    NotEncodable(String),
    /// It becomes a component, but no merge module.
    #[error("this can be encoded, but would be refused by every node: {0}")]
    NoMergeModule(ModuleRefused),
}

/// Encodes a core module as a component. It has the right world then; whether it keeps to the
/// limits of a node's class is for the node to say.
pub fn encode_component(core: &[u8]) -> Result<Vec<u8>, EncodeError> {
    if wasmparser::Parser::is_component(core) {
        return Err(EncodeError::AlreadyComponent);
    }
    let component = encode(core).map_err(|e| EncodeError::NotEncodable(format!("{e:#}")))?;
    world::check(&component).map_err(EncodeError::NoMergeModule)?;
    Ok(component)
}

fn encode(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().module(core)?.validate(true).encode()
}
