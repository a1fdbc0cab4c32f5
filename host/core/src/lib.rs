//! Stator's protocol as pure code: events in, actions out.

pub mod causality;
pub mod codec;
pub mod divergence;
pub mod id;
pub mod keys;
pub mod position;
pub mod record;
pub mod version;
pub mod write;
