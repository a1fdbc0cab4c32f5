//! Gets and puts as scripts: what happens, and what the request wants done then.
//!
//! A key has the owners a, b, c and the fallbacks x, y. Replicas are due after 500 ms, the
//! client after 2,000. After every step the script names what the request asks for, then its
//! answer, then `finished`.

mod cast;
mod gets;
#[path = "../history/mod.rs"]
mod history;
mod puts;
