//! A `memcmp` that compares eight bytes at a time.
//!
//! The one that comes with the target compares byte by byte, and the host checks the fuel once
//! per round of a loop. Merges compare keys all the time, so this shows: three carts of 1 KiB
//! merge in a little more than half the time.

/// Compares `n` bytes at `left` and `right` like C's function of that name, whose place it takes
/// when the module is linked.
///
/// # Safety
/// `n` bytes must be readable at `left` and at `right`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, n: usize) -> i32 {
    let mut i = 0;
    while i + 8 <= n {
        // SAFETY: i + 8 <= n, and the caller promises n readable bytes on both sides.
        let (l, r) = unsafe {
            (
                left.add(i).cast::<u64>().read_unaligned(),
                right.add(i).cast::<u64>().read_unaligned(),
            )
        };
        if l != r {
            // The first byte that differs decides, so it must be the most significant one.
            return if l.swap_bytes() < r.swap_bytes() {
                -1
            } else {
                1
            };
        }
        i += 8;
    }
    while i < n {
        // SAFETY: i < n, and the caller promises n readable bytes on both sides.
        let (l, r) = unsafe { (*left.add(i), *right.add(i)) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
        i += 1;
    }
    0
}
