//! Stator's host: everything that touches the world around the protocol in `stator-core`.

pub mod transport;
