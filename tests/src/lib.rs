//! Tests of Stator from the outside: real processes, documents, layering rules, benchmarks.
//!
//! The simulator is the crate beside this one, in `simulator/`: it needs the core only, and builds
//! in seconds.
