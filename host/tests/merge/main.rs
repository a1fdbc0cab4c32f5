//! The merge host against real components: the cart, and guests made to harm it.
//!
//! Needs the example merges as components: `make guests`.

mod admission;
mod catalogue;
mod encoding;
#[path = "../guests/mod.rs"]
mod guests;
mod hostile;
mod laws;
mod merges;
mod rules;
mod support;
mod wrong;
