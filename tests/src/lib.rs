//! Stator's tests from the outside, and what they need.
//!
//! [`simulator`] runs the protocol of `stator-core` in a world of its own.

pub mod simulator;
