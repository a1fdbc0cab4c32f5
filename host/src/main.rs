//! The program `stator`. Everything is in the library.

use std::process::ExitCode;

/// A seventh of a get's processor time was spent in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // SAFETY: `prctl` takes plain numbers. Without huge pages a buffer of a mebibyte of which a client
    // has sent two kibibytes takes so much, and not all of it: the test of hostile clients says so.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    stator::cli::main()
}
