//! The compiler's side of a compilation: what `stator compile-module` runs.
//!
//! It reads a component from standard input, writes its artefact to standard output, and says on
//! standard error what went wrong. First of all it puts limits on itself: a compiler fed with
//! hostile input may ask for any amount of memory and time, and dies of it alone here. So may the
//! validator (types of instances are copied at every use), which is why the checks of the world
//! that need types are made here as well.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use super::refused::{ModuleRefused, Stage};
use super::{engine, world};

/// The hidden subcommand, `stator compile-module MEMORY_BYTES CPU_SECONDS`. A program that hosts
/// modules must answer it with [`compile_module_main`], before anything else of its own runs.
pub const COMPILE_MODULE: &str = "compile-module";

/// The exit code for what is no valid component.
pub(super) const NOT_VALID: i32 = 3;
/// The exit code for a valid component that asks for what it may not have.
pub(super) const NOT_ALLOWED: i32 = 4;

/// Compiles the component on standard input, given the arguments after [`COMPILE_MODULE`].
pub fn compile_module_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    match without_panic(|| compile(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Complaint { words, code }) => {
            eprintln!("{words}");
            ExitCode::from(code)
        }
    }
}

/// Why there is no artefact, and the exit code that says whose fault it is.
struct Complaint {
    words: String,
    code: u8,
}

impl From<String> for Complaint {
    fn from(words: String) -> Self {
        Complaint { words, code: 1 }
    }
}

impl From<ModuleRefused> for Complaint {
    fn from(refusal: ModuleRefused) -> Self {
        let code = match refusal.stage() {
            Some(Stage::World) => NOT_ALLOWED,
            _ => NOT_VALID,
        };
        let words = match refusal {
            ModuleRefused::Malformed(words) => words,
            refusal => refusal.to_string(),
        };
        Complaint { words, code: code as u8 }
    }
}

/// Does `work`; if it panics, which a compiler fed with what it did not expect may do, the panic's
/// words are the complaint.
fn without_panic<T>(work: impl FnOnce() -> Result<T, Complaint>) -> Result<T, Complaint> {
    panic::set_hook(Box::new(|_| ()));
    let caught = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    caught.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "it says nothing more".to_owned());
        Err(format!("the compiler cannot deal with it: {text}").into())
    })
}

fn compile(args: &[OsString]) -> Result<(), Complaint> {
    let usage = || format!("usage: stator {COMPILE_MODULE} MEMORY_BYTES CPU_SECONDS");
    let [memory_bytes, cpu_seconds] = args else {
        return Err(usage().into());
    };
    let number = |arg: &OsString| arg.to_str().and_then(|text| text.parse().ok());
    let memory_bytes = number(memory_bytes).ok_or_else(usage)?;
    let cpu_seconds = number(cpu_seconds).ok_or_else(usage)?;
    confine(memory_bytes, cpu_seconds).map_err(|e| format!("cannot limit the compiler: {e}"))?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(|e| format!("cannot read: {e}"))?;
    world::check(&component)?;
    let engine = engine::compiling().map_err(|e| format!("the compiler does not start: {e:#}"))?;
    let artefact = engine.precompile_component(&component).map_err(|e| format!("{e:#}"))?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact)
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot write: {e}"))?;
    Ok(())
}

/// How much later than the node the compiler gets a processor, from 0 to 19.
const NICENESS: i32 = 10;

/// Limits this process: address space, processor time, no core file, no file at all. It also
/// yields to the node, which serves meanwhile.
fn confine(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    // SAFETY: takes a plain number. What it answers is the new niceness or an error, and neither
    // matters.
    let _ = unsafe { libc::nice(NICENESS) };
    limit(libc::RLIMIT_AS, memory_bytes)?;
    limit(libc::RLIMIT_CPU, cpu_seconds)?;
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_FSIZE, 0)
}

fn limit(resource: libc::__rlimit_resource_t, max: u64) -> io::Result<()> {
    let max = libc::rlimit { rlim_cur: max, rlim_max: max };
    // SAFETY: `setrlimit` reads the struct that it is given for the time of the call.
    match unsafe { libc::setrlimit(resource, &max) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_complaint_with_its_words() {
        let number = 7;
        let complaint = without_panic::<()>(|| panic!("adapter {number} is invalid"));
        let words = complaint.expect_err("a complaint").words;
        assert_eq!(words, "the compiler cannot deal with it: adapter 7 is invalid");
        assert!(without_panic(|| Ok(())).is_ok());
    }
}
