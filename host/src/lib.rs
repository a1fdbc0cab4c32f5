//! Stator's effects around the pure protocol of `stator_core`: storage, transport, the merge
//! host, the node, its gRPC interface and the command line.

pub mod merge;
