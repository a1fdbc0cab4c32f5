//! Stator's protocol as pure code: events in, actions out.

pub mod catalogue;
pub mod causality;
pub mod codec;
pub mod divergence;
pub mod id;
pub mod keys;
pub mod position;
pub mod quorum;
pub mod record;
pub mod ring;
pub mod version;
pub mod write;
