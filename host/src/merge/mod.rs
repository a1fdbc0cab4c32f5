//! The merge host: runs merge modules, which are WebAssembly components that a stranger wrote.
//!
//! # The way of a module
//! [`MergeHost::admit`] takes a component's bytes through five stages, each of which can refuse
//! it by name ([`ModuleRefused`]):
//! 1. **bounds** (`bounds.rs`): bytes, functions and locals are counted before anything compiles
//!    them, because compile time and memory can explode with them;
//! 2. **world** (`world.rs`): by their names first, and by their types in the process of stage 3,
//!    because validating can take any amount of memory: the imports are at most `stator:merge/types` (types only) and
//!    `stator:merge/log`, the exports have `stator:merge/resolver` of a version that fits;
//! 3. **compile** (`compile.rs`): in a child process of the same binary under limits of memory,
//!    processor and wall time, because a compiler fed with hostile input may take the process
//!    with it;
//! 4. **load** (`artefact.rs`): the artefact is kept in a cache and loaded; only what this very
//!    engine would have produced, with its checksum right, is ever loaded;
//! 5. **probe**: it is instantiated and called once, which shows wrong signatures and modules
//!    that only loop or trap; and its options are looked at, which shows their wrong types.
//!
//! # The way of a merge
//! [`MergeHost::resolve`] looks into the memo (`memo.rs`), waits for a slot, and calls the module
//! in a *fresh instance* (`run.rs`): statics and the order of a `HashMap` survive in a used one,
//! and replicas would diverge. Instances come from a pool, so a fresh one costs microseconds.
//!
//! # The same everywhere
//! A module can see its divergence and nothing else: no clock, randomness, file or socket; NaNs
//! are canonical, relaxed SIMD and threads are off, and its time is counted in fuel. So a
//! successful answer is the same bytes on every replica. A failure need not be (fuel and stack
//! depend on wasmtime's version and the processor): it decides nothing and is never stored. What
//! is measured and why the settings are what they are stands in `engine.rs` and `limits.rs`.
//!
//! # Classes
//! A module is of a class of limits (`limits.rs`), named at its push and kept in the catalogue:
//! `small`, or `large` for an interpreter that comes along. Each has an engine (`class.rs`).
//!
//! # Options
//! A module may export optional interfaces (`options.rs`): `sampler` and `invariant` serve the
//! check of the merge laws ([`laws`]), `validator` checks client writes, `migration` lifts siblings
//! of older schemas before a merge. Each call of one has a fresh instance and the limits of a merge.
//! An interface of Stator's that this host does not know is refused: to pass it over in silence
//! would promise what nobody keeps.

mod admit;
mod artefact;
mod bindings;
mod bounds;
mod class;
mod compile;
mod compile_child;
mod compiler;
mod config;
mod encode;
mod engine;
mod figures;
mod host;
pub mod laws;
mod limits;
mod log;
mod memo;
mod nesting;
mod options;
mod refused;
mod rules;
mod run;
mod stack;
mod turns;
mod world;

pub use admit::ModuleInfo;
pub use compile_child::{COMPILE_MODULE, compile_module_main};
pub use config::{MergeHostConfig, MergeHostError};
pub use encode::{EncodeError, Encoded, WIT, encode_component};
pub use figures::Figures;
pub use host::{MergeHost, Place, Resolved};
pub use limits::Limits;
pub use log::Line;
pub use refused::{ModuleRefused, Stage};
pub use rules::{BadRules, RULES_COMPONENT_BYTES, RULES_NAME, Rules, component_of, rules_of};
pub use run::Used;
pub use world::{Surface, surface};
