//! Lines in the log of the node that runs the merge; on the author's own machine, in a native
//! test, on standard error.
//!
//! A module that never logs has no import at all. Long lines are cut and too many are dropped; a
//! line never changes an answer.

/// Writes a line for the module's author.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Writes a line for the operator, in passing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Writes a line that the operator should see.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

use crate::bindings::stator::merge::log::Level;

#[cfg(target_arch = "wasm32")]
use crate::bindings::stator::merge::log::write;

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
