//! The `log` import: a module's lines go to the node's log, bounded in size and rate.
//!
//! A line costs the module fuel for the host's work: a flat price and a unit a byte. Without it a
//! loop of calls with large texts would keep a processor busy long after fuel says stop. What is
//! dropped or cut depends on the clock, but the module never learns of it.
//!
//! The last lines of all modules stay in memory, for `stator module logs`, up to [`KEPT_BYTES_MAX`].
//!
//! The last warnings of a call are kept until its end: a module that traps has often said why before
//! (an interpreter prints the error that nobody caught, a C library why it aborts), and then
//! these are the words that its reader gets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stator_core::id::ModuleDigest;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::bindings::stator::merge::log::Level;
use super::run::CallState;
use super::world::LOG;

/// Lines of one call; the rest is dropped.
const LINES_PER_CALL_MAX: u32 = 16;
/// Bytes of one line; the rest is cut.
const LINE_BYTES_MAX: usize = 1024;
/// Lines of all modules of a node in one [`WINDOW`]; the rest is dropped.
const LINES_PER_WINDOW_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// Bytes of a call's last warnings that are kept.
const LAST_WORDS_BYTES_MAX: usize = 2048;
/// Bytes of the last lines of all modules that are kept.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// Fuel for a call of `write`, about what it costs the host in instructions.
const CALL_FUEL: u64 = 500;

/// Lets through what a node's log can bear of all its modules' lines.
#[derive(Clone)]
pub(super) struct LogValve(Arc<Mutex<Window>>);

struct Window {
    opened: Instant,
    passed: u32,
    dropped: u64,
    kept: VecDeque<Line>,
    kept_bytes: usize,
}

/// A line that a module has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Who.
    pub module: ModuleDigest,
    /// `debug`, `info` or `warn`.
    pub level: &'static str,
    /// What.
    pub text: String,
}

impl LogValve {
    pub(super) fn new() -> Self {
        let window = Window {
            opened: Instant::now(),
            passed: 0,
            dropped: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
        };
        LogValve(Arc::new(Mutex::new(window)))
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines of a module, the oldest first.
    pub(super) fn lines(&self, module: &ModuleDigest) -> Vec<Line> {
        self.window().kept.iter().filter(|line| line.module == *module).cloned().collect()
    }

    fn keep(&self, module: ModuleDigest, level: &'static str, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut window = self.window();
        window.kept_bytes += weight(text);
        window.kept.push_back(Line { at_ms, module, level, text: text.to_owned() });
        while window.kept_bytes > KEPT_BYTES_MAX {
            let gone = window.kept.pop_front();
            window.kept_bytes -= gone.map_or(0, |line| weight(&line.text));
        }
    }

    fn passes(&self, now: Instant) -> bool {
        let mut window = self.window();
        if now.saturating_duration_since(window.opened) >= WINDOW {
            if window.dropped > 0 {
                tracing::warn!(dropped = window.dropped, "merge modules log too much");
            }
            (window.opened, window.passed, window.dropped) = (now, 0, 0);
        }
        if window.passed == LINES_PER_WINDOW_MAX {
            window.dropped += 1;
            return false;
        }
        window.passed += 1;
        true
    }
}

fn weight(text: &str) -> usize {
    text.len() + size_of::<Line>()
}

/// The log of one call.
pub(super) struct CallLog {
    valve: LogValve,
    module: ModuleDigest,
    lines: u32,
    last_words: VecDeque<String>,
}

impl CallLog {
    pub(super) fn new(valve: LogValve, module: ModuleDigest) -> Self {
        CallLog { valve, module, lines: 0, last_words: VecDeque::new() }
    }

    /// What the call warned of last, in its order; empty if it did not.
    pub(super) fn last_words(&self) -> String {
        self.last_words.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn keep(&mut self, warning: &str) {
        self.last_words.push_back(warning.to_owned());
        let mut bytes: usize = self.last_words.iter().map(|line| line.len() + 1).sum();
        while bytes > LAST_WORDS_BYTES_MAX {
            bytes -= self.last_words.pop_front().map_or(bytes, |line| line.len() + 1);
        }
    }

    fn write(&mut self, level: Level, line: &str) {
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        if level == Level::Warn {
            self.keep(line);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines > LINES_PER_CALL_MAX || !self.valve.passes(Instant::now()) {
            return;
        }
        let module = &self.module;
        let word = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
        };
        self.valve.keep(*module, word, line);
        // Escaped, because a line break would let a module forge lines of the node.
        match level {
            Level::Debug => tracing::debug!(target: "stator::module", %module, "{line:?}"),
            Level::Info => tracing::info!(target: "stator::module", %module, "{line:?}"),
            Level::Warn => tracing::warn!(target: "stator::module", %module, "{line:?}"),
        }
    }
}

/// Offers `log` to the components that import it.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(LOG)?.func_wrap("write", write)
}

fn write(
    mut store: StoreContextMut<'_, CallState>,
    (level, message): (Level, WasmStr),
) -> wasmtime::Result<()> {
    let log = &store.data().log;
    let wanted = log.lines < LINES_PER_CALL_MAX || level == Level::Warn;
    // Its bytes are only looked at, and paid for, while there is room for the line.
    let line = if wanted { message.to_str(&store)?.into_owned() } else { String::new() };
    let price = CALL_FUEL + line.len() as u64;
    let fuel = store.get_fuel()?;
    store.set_fuel(fuel.saturating_sub(price))?;
    if wanted {
        store.data_mut().log.write(level, &line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valve_closes_for_the_rest_of_a_window() {
        let (valve, start) = (LogValve::new(), Instant::now());
        let passed = (0..500).filter(|_| valve.passes(start)).count();
        assert_eq!(passed, LINES_PER_WINDOW_MAX as usize);
        assert!(!valve.passes(start));
        assert!(valve.passes(start + 2 * WINDOW));
    }

    #[test]
    fn the_last_lines_of_all_modules_are_kept_within_their_bytes() {
        let (valve, [a, b]) = (LogValve::new(), [1, 2].map(|n| ModuleDigest([n; 32])));
        (0..2000)
            .for_each(|n| valve.keep(if n % 2 == 0 { a } else { b }, "info", &"x".repeat(500)));
        valve.keep(b, "warn", "last");
        let lines = valve.lines(&b);
        assert_eq!(
            lines.last().map(|line| (line.level, line.text.as_str())),
            Some(("warn", "last"))
        );
        assert!(lines.len() > 100 && lines.len() < 300, "{}", lines.len());
        assert!(valve.window().kept_bytes <= KEPT_BYTES_MAX);
    }

    #[test]
    fn the_last_warnings_stay_in_their_order() {
        let mut log = CallLog::new(LogValve::new(), ModuleDigest([0; 32]));
        assert_eq!(log.last_words(), "");
        for n in 0..1000 {
            log.write(Level::Warn, &format!("warning {n}"));
            log.write(Level::Info, "not one");
        }
        let words = log.last_words();
        assert!(words.ends_with("warning 998\nwarning 999"), "{words}");
        assert!(words.len() <= LAST_WORDS_BYTES_MAX && words.starts_with("warning 8"), "{words}");
        log.write(Level::Warn, &"x".repeat(5000));
        assert_eq!(log.last_words().lines().last().map(str::len), Some(LINE_BYTES_MAX));
    }
}
