//! The log's way out: lines for a reader that may be slow, stopped or gone.
//!
//! A write to a pipe that nobody reads blocks for ever, and one to a broken pipe fails. So nobody
//! who logs writes: a line goes into a buffer, and a thread of its own writes the buffer out. What
//! does not fit is dropped and counted, and how many lines that were is told as soon as lines are
//! taken again. Bytes that fail to be written are forgotten: there is nobody to tell.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::names::LOG_LINES_DROPPED;

/// Bytes of lines that wait to be written.
const BYTES_MAX: usize = 1 << 20;
/// How long the end of the process waits for its last lines to be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// What goes to standard error, in a process that runs a node.
static LOG: OnceLock<Lines> = OnceLock::new();

/// Has everything that this process tells on standard error go through [`Lines`] from now on.
///
/// # Errors
/// As [`Lines::to`].
pub fn take_over() -> io::Result<Lines> {
    let lines = Lines::to(io::stderr())?;
    Ok(LOG.get_or_init(|| lines).clone())
}

/// Tells something on standard error.
pub fn tell(text: &str) {
    match LOG.get() {
        Some(lines) => lines.push(format!("{text}\n").as_bytes()),
        // If it is closed nobody is there to be told.
        None => drop(writeln!(io::stderr(), "{text}")),
    }
}

/// Waits a little until what was told is written. To be called before the process ends.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush(PATIENCE);
    }
}

/// Where lines go in. Clones share the buffer.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Of all lines that wait or are being written.
    bytes: usize,
    /// Since dropped lines were last told of.
    dropped: u64,
}

impl Lines {
    /// Lines that are written to a copy of `stream`, standard error or output.
    ///
    /// # Errors
    /// The stream cannot be copied, or there is no thread to be had.
    pub fn to(stream: impl AsFd) -> io::Result<Self> {
        // Of its own: whoever blocks in a write must not hold the lock of the standard stream.
        Self::start(File::from(stream.as_fd().try_clone_to_owned()?), BYTES_MAX)
    }

    fn start(out: impl Write + Send + 'static, bytes_max: usize) -> io::Result<Self> {
        let state = Mutex::default();
        let shared = Arc::new(Shared { state, changed: Condvar::new(), bytes_max });
        let writing = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_out(out))?;
        Ok(Lines(shared))
    }

    /// Adds a line, which ends with a line end, or drops it. Never waits for a reader.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.bytes + line.len() > self.0.bytes_max {
            state.dropped += 1;
            drop(state);
            return metrics::counter!(LOG_LINES_DROPPED.name).increment(1);
        }
        state.bytes += line.len();
        state.waiting.push_back(line.to_vec());
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most so long: nobody may read any more.
    pub fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.0.lock();
        while state.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    // No code under the lock panics, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self, mut out: impl Write) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Dropped behind the lines that filled the buffer.
            let (lines, dropped) = (mem::take(&mut state.waiting), mem::take(&mut state.dropped));
            drop(state);
            let mut written = 0;
            for line in lines {
                let _ = out.write_all(&line);
                written += line.len();
            }
            if dropped > 0 {
                let _ = writeln!(out, "{dropped} lines were dropped here: nobody read them");
            }
            let _ = out.flush();
            self.lock().bytes -= written;
            self.changed.notify_all();
        }
    }
}

/// One line that is being made.
pub struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.lines.push(&self.bytes);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_counted_and_told() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let lines = Lines::start(writer, 4 << 10).expect("starts");
        // Far more than the pipe holds: none of these waits.
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        for _ in 0..10_000 {
            lines.push(&line);
        }
        lines.flush(Duration::from_millis(1));
        let read = thread::spawn(move || {
            let (mut text, mut part) = (String::new(), vec![0; 64 << 10]);
            while !(text.contains("and on\n") && text.contains("dropped here")) {
                let read = reader.read(&mut part).expect("open");
                text.push_str(std::str::from_utf8(&part[..read]).expect("text"));
            }
            text
        });
        // What was taken is out, so there is room for one more.
        lines.flush(Duration::from_secs(60));
        lines.push(b"and on\n");
        let text = read.join().expect("read");
        // Drops are told behind the lines that are taken next, which may be the last one.
        let (before, _) = text.split_once("and on\n").expect("read to there");
        let mut lines = before.lines().filter(|line| !line.contains("dropped here"));
        assert!(lines.all(|line| line.len() == 99), "whole lines only");
    }

    #[test]
    fn a_reader_that_went_away_ends_nothing() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let lines = Lines::start(writer, 1 << 10).expect("starts");
        for _ in 0..3 {
            lines.push(b"nobody\n");
            lines.flush(Duration::from_secs(60));
        }
        assert_eq!(lines.0.lock().bytes, 0);
    }
}
