//! Parts of a node without which it must not live on.
//!
//! A panic ends a thread or a task and nothing else: without its loop or a committer the process
//! would stay, say that it serves, and fail every request for ever. So whoever runs such a part
//! holds a [`Vital`], and a panic that unwinds over it ends the process at once, as a crash does:
//! the next start, or the other nodes meanwhile, do better. A panic that is caught below it (an
//! engine's, a module's, a request's) touches nobody else.

use super::lines;

/// Held by a part that the process does not outlive.
#[derive(Debug)]
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let part = self.0;
            tracing::error!(part, "the process ends at once: it cannot go on without this part");
            lines::flush();
            std::process::abort();
        }
    }
}

/// Has panics logged like everything else, instead of written to a pipe that nobody may read.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(thread, %panic, %backtrace, "a thread panicked");
    }));
}
