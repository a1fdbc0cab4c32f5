//! Stator's protocol as pure code: events in, actions out.
//!
//! Nothing in this crate does I/O, reads a clock or draws a random number: time and randomness
//! are arguments, and every effect is an [`event::Action`] that someone else carries out. The
//! same code runs in the node and in the simulator.
//!
//! Read [`event`] first: all causes and effects are there. Then [`causality`] (what a write
//! kills), [`mod@write`] (the one write path of a key), [`request`] (get and put) and [`node`]
//! (what ties them together).

pub mod admission;
pub mod agreement;
pub mod ancestor;
pub mod catalogue;
pub mod causality;
pub mod codec;
pub mod collect;
pub mod divergence;
pub mod event;
pub mod expiry;
pub mod failure;
pub mod fold;
pub mod founding;
pub mod hedge;
pub mod held_by_all;
pub mod holder;
pub mod homecoming;
pub mod id;
pub mod keys;
pub mod lent;
pub mod listing;
pub mod message;
pub mod node;
pub mod position;
pub mod quorum;
pub mod quota;
pub mod reconcile;
pub mod record;
pub mod region;
pub mod request;
pub mod request_notes;
pub mod ring;
pub mod tree;
pub mod usage;
pub mod version;
pub mod wire;
pub mod write;
