//! Stator's protocol as pure code: events in, actions out.

pub mod divergence;
pub mod id;
