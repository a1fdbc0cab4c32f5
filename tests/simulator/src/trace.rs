//! What happened in a run, line by line: always hashed, kept only to be read.
//!
//! The hash tells whether two runs were the same, without the memory that the lines would take.

use std::fmt::{self, Write};

use super::queue::Micros;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    line: String,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines if `is_kept`.
    pub fn new(is_kept: bool) -> Self {
        // FNV-1a, 64 bits: no one attacks it, and it must be cheap.
        Trace { hash: 0xcbf2_9ce4_8422_2325, line: String::new(), lines: is_kept.then(Vec::new) }
    }

    /// Adds a line.
    pub fn line(&mut self, now_us: Micros, what: fmt::Arguments<'_>) {
        self.line.clear();
        let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
        // Writing to a String cannot fail.
        let _ = write!(self.line, "{seconds:>3}.{micros:06} {what}");
        self.absorb();
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// Adds what is too frequent to read, to the hash only.
    pub fn quiet(&mut self, now_us: Micros, what: fmt::Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{now_us} {what}");
        self.absorb();
    }

    fn absorb(&mut self) {
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash over all lines so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, if they were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
