//! The program `stator`. Everything is in the library.

use std::process::ExitCode;

/// A seventh of a get's processor time was spent in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, to which its crate gives no name: after how many
/// milliseconds free memory goes back to the system. What an attack made the node take it does not
/// keep: the test of hostile clients says so.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: it sets a number that the allocator reads when memory is freed.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 1) };
    stator::cli::main()
}
