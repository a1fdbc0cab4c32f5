//! Stator's host: everything around the pure protocol of `stator-core`.
//!
//! Imports point one way: `cli, server -> console -> api -> node -> driver -> {storage, transport, merge}
//! -> core`. The adapters never import one another, and generated code stays where it is used:
//! protobuf in `api`, `console`, `cli` and `transport`, WIT in `merge`. Below all of them are `telemetry`, names
//! and a recorder, as for logs, `signing`, keys and signatures of modules, `budget`, bytes that are counted, and `pause`, which notices that the
//! process was stopped.

pub mod address;
pub mod api;
pub mod budget;
pub mod cli;
pub mod config;
pub mod conflicts;
pub mod console;
pub mod demo;
pub mod descriptors;
pub mod driver;
pub mod exporter;
pub mod gateway;
pub mod journal;
pub mod listen;
pub mod local;
pub mod merge;
pub mod node;
pub mod pause;
pub mod server;
pub mod signing;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod torture;
pub mod transport;
pub mod web;
