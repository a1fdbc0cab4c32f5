//! Turns what a compiler made into a component that a node takes.
//!
//! # What goes in
//! - **A core module**, as made for `wasm32-unknown-unknown` or `wasm32-wasi`. If it carries no WIT
//!   types in a custom section it gets them (`types.rs`): the world follows from what it exports,
//!   each function by its full name (`stator:merge/resolver@0.1.0#resolve`) or, for compilers that
//!   cannot write that, by its last word. What it imports of WASI preview 1 is linked to a stand-in
//!   (`preview1.wat`), and wit-component wraps the whole.
//! - **A component** that imports WASI or exports what is no option of Stator's, as the tools for
//!   JavaScript, Python, Go or C# make them. It is put into another component beside a stand-in for
//!   all that it imports of WASI (`wasi.rs`), and only Stator's own interfaces lead out.
//!
//! # What stands in for WASI
//! A merge has no system, and must be the same on every node. Both stand-ins say the same: what is
//! printed becomes lines of the module's log (standard output `info`, standard error `warn`), clocks
//! stand at 0, random bytes are zeros, there are no arguments, no variables and no files. All else is
//! an error where the function has one, and a trap where it has none. Random bytes are no error
//! because the runtimes of Go, Rust and others seed their hash tables at the start, and give up
//! without. What a module has of this is said ([`Encoded::remarks`]): an author who expects an
//! hour should learn here that there is none.
//!
//! # Left out
//! Asynchronous WASI (0.3), and standard input beyond "closed".

mod clock;
mod types;
mod wasi;

use std::time::SystemTime;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::refused::ModuleRefused;
use super::world;

/// The WIT that every module is written against.
pub const WIT: &str = include_str!("../../../../wit/merge.wit");

/// The core modules' import that [`wasi::PREVIEW1`] stands in for.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// A component, and what its author should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The component.
    pub component: Vec<u8>,
    /// What is not as the module may expect, in words.
    pub remarks: Vec<String>,
}

/// Why something does not become a component.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The input is a component already. What else is to be said of it.
    #[error(
        "this is a component already, with nothing to stand in for; push it as it is{}",
        if remark.is_empty() { String::new() } else { format!(". But {remark}") }
    )]
    AlreadyComponent {
        /// What else is to be said of it; may be empty.
        remark: String,
    },
    /// The input is no core module, or does not fit the WIT types that it carries or is given.
    #[error(
        "this cannot be encoded: {0}. A core module is expected that exports the functions of the \
         WIT (`stator module wit`), or a component that imports nothing but WASI and Stator's own"
    )]
    NotEncodable(String),
    /// It becomes a component, but no merge module.
    #[error("this can be encoded, but would be refused by every node: {0}")]
    NoMergeModule(ModuleRefused),
}

/// Makes a component of a core module, or of a component that wants WASI. It has the right world
/// then; whether it keeps to the limits of a class is for the node to say.
///
/// `built` is when the input was made, as far as that is known: it may hold a time of then.
pub fn encode_component(input: &[u8], built: Option<SystemTime>) -> Result<Encoded, EncodeError> {
    let of_build = built.and_then(|built| clock::read_at_build(input, built));
    let not_encodable = |e: anyhow::Error| EncodeError::NotEncodable(format!("{e:#}"));
    let mut encoded = if wasmparser::Parser::is_component(input) {
        match wasi::enclose(input).map_err(not_encodable)? {
            Some(encoded) => encoded,
            None => {
                world::check(input).map_err(EncodeError::NoMergeModule)?;
                return Err(EncodeError::AlreadyComponent { remark: of_build.unwrap_or_default() });
            }
        }
    } else {
        encode_core(input).map_err(not_encodable)?
    };
    world::check(&encoded.component).map_err(EncodeError::NoMergeModule)?;
    encoded.remarks.extend(of_build);
    Ok(encoded)
}

fn encode_core(core: &[u8]) -> anyhow::Result<Encoded> {
    let typed = types::with_types(core)?;
    let wanted = types::imports(&typed, PREVIEW1)?;
    let mut encoder = ComponentEncoder::default().module(&typed)?.validate(true);
    if !wanted.is_empty() {
        encoder = encoder.adapter(PREVIEW1, &preview1()?)?;
    }
    let component = encoder.encode()?;
    Ok(Encoded { component, remarks: wasi::remarks(wanted.iter().map(String::as_str)) })
}

/// The stand-in for WASI preview 1, as an adapter of wit-component.
fn preview1() -> anyhow::Result<Vec<u8>> {
    let text = concat!(include_str!("preview1.wat"), include_str!("say.wat"), ")");
    let mut adapter = wat::parse_str(text)?;
    let mut wit = Resolve::default();
    wit.push_str("merge.wit", WIT)?;
    let package = wit.push_str(
        "adapter.wit",
        "package stator:adapter; world adapter { import stator:merge/log@0.1.0; }",
    )?;
    let world = wit.select_world(&[package], Some("adapter"))?;
    wit_component::embed_component_metadata(&mut adapter, &wit, world, StringEncoding::UTF8)?;
    Ok(adapter)
}
