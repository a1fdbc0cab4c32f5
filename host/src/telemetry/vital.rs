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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// Names the part that panics, in the process that is to end of it.
    const PART: &str = "STATOR_TEST_VITAL_PART";

    fn panic_in(part: &str) {
        let contained = std::panic::catch_unwind(|| {
            let _above = Vital("nothing");
            std::panic::catch_unwind(|| panic!("contained")).expect_err("caught")
        });
        assert!(contained.is_ok());
        println!("a contained panic touched nobody");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let task = async {
            let _vital = Vital("a task");
            tokio::task::yield_now().await;
            panic!("fatal");
        };
        let thread = || {
            let _vital = Vital("a thread");
            panic!("fatal");
        };
        match part {
            "task" => drop(runtime.block_on(runtime.spawn(task))),
            _ => drop(std::thread::spawn(thread).join()),
        }
        println!("it lived on");
    }

    #[test]
    fn a_panic_in_a_vital_part_ends_the_process() {
        if let Ok(part) = std::env::var(PART) {
            return panic_in(&part);
        }
        let test = "telemetry::vital::tests::a_panic_in_a_vital_part_ends_the_process";
        for part in ["task", "thread"] {
            let mut child = Command::new(std::env::current_exe().expect("a path"));
            child.args(["--exact", test, "--nocapture"]).env(PART, part);
            let output = child.output().expect("it starts");
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{part}: {told}");
            assert!(told.contains("touched nobody") && !told.contains("lived on"), "{told}");
        }
    }
}
