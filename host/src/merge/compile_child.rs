//! The compiler's side of a compilation: what `stator compile-module` runs.
//!
//! It reads a component from standard input, writes its artefact to standard output, and says on
//! standard error what went wrong. First of all it puts limits on itself: a compiler fed with
//! hostile input may ask for any amount of memory and time, and dies of it alone here.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::engine;

/// The hidden subcommand, `stator compile-module MEMORY_BYTES CPU_SECONDS`. A program that hosts
/// modules must answer it with [`compile_module_main`], before anything else of its own runs.
pub const COMPILE_MODULE: &str = "compile-module";

/// Compiles the component on standard input, given the arguments after [`COMPILE_MODULE`].
pub fn compile_module_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match compile(&args.into_iter().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compile(args: &[OsString]) -> Result<(), String> {
    let usage = || format!("usage: stator {COMPILE_MODULE} MEMORY_BYTES CPU_SECONDS");
    let [memory_bytes, cpu_seconds] = args else {
        return Err(usage());
    };
    let number = |arg: &OsString| arg.to_str().and_then(|text| text.parse().ok());
    let memory_bytes = number(memory_bytes).ok_or_else(usage)?;
    let cpu_seconds = number(cpu_seconds).ok_or_else(usage)?;
    confine(memory_bytes, cpu_seconds).map_err(|e| format!("cannot limit the compiler: {e}"))?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(|e| format!("cannot read: {e}"))?;
    let engine = engine::compiling().map_err(|e| format!("the compiler does not start: {e:#}"))?;
    let artefact = engine.precompile_component(&component).map_err(|e| format!("{e:#}"))?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact).and_then(|()| out.flush()).map_err(|e| format!("cannot write: {e}"))
}

/// Limits this process: address space, processor time, no core file, no file at all.
fn confine(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
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
