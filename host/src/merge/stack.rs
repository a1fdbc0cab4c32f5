//! Whether a thread's stack is large enough for a call of a module.
//!
//! A module may use as much stack as its limit says, and wasmtime believes it: on a thread that
//! has less, the guest runs over the end and takes the process with it. Threads have 2 MiB unless
//! someone says otherwise (`RUST_MIN_STACK`), so this refuses a call that could not be stopped.

use std::cell::OnceCell;
use std::mem::MaybeUninit;

use stator_core::divergence::MergeFailure;

/// Stack that the host itself needs below and above a guest.
const HOST_BYTES: usize = 256 << 10;

thread_local! {
    /// Asked once: the answer costs a system call, and never changes.
    static STACK_BYTES: OnceCell<Option<usize>> = const { OnceCell::new() };
}

/// Checks that this thread can run a guest with `guest_bytes` of stack.
pub(super) fn suffices(guest_bytes: usize) -> Result<(), MergeFailure> {
    let stack_bytes = STACK_BYTES.with(|known| *known.get_or_init(of_this_thread));
    match stack_bytes {
        Some(found) if found < guest_bytes + HOST_BYTES => Err(MergeFailure::Unavailable(format!(
            "its threads have stacks of {found} bytes, and a module needs {guest_bytes} beside \
                 the node's own {HOST_BYTES}: unset RUST_MIN_STACK"
        ))),
        _ => Ok(()),
    }
}

/// The size of this thread's stack, if the system tells.
fn of_this_thread() -> Option<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    // SAFETY: a place for the attributes of a thread that certainly runs: this one.
    let told = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if told != 0 {
        return None;
    }
    let (mut start, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes were initialised above; both places are for what the call writes.
    let told = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut bytes) };
    // SAFETY: initialised above and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (told == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_stack_is_found_out_before_a_guest_runs_over_it() {
        let small = std::thread::Builder::new().stack_size(300 << 10);
        let checked = small.spawn(|| suffices(256 << 10)).expect("starts").join().expect("ends");
        assert!(matches!(checked, Err(MergeFailure::Unavailable(_))), "{checked:?}");
        let usual = std::thread::Builder::new().stack_size(2 << 20);
        let checked = usual.spawn(|| suffices(512 << 10)).expect("starts").join().expect("ends");
        assert_eq!(checked, Ok(()));
    }
}
