//! Stator's host: a Dynamo-style key-value store that lets a Wasm module merge what diverged.

pub mod cli;
pub mod config;
pub mod merge;
pub mod node;
