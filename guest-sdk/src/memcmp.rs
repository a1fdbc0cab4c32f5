//! A `memcmp` that compares eight bytes at a time.
//!
//! The one that comes with the target compares byte by byte, and the host checks the fuel once
//! per round of a loop. Merges compare keys all the time: long ones, such as UUIDs, make this a
//! tenth to two fifths of the time of a small merge.

/// Compares `n` bytes at `left` and `right` like C's function of that name, whose place it takes
/// when the module is linked.
///
/// # Safety
/// `n` bytes must be readable at `left` and at `right`.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
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
            return if l.swap_bytes() < r.swap_bytes() { -1 } else { 1 };
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

#[cfg(test)]
mod tests {
    use super::memcmp;

    #[test]
    fn it_orders_like_slices() {
        let texts: Vec<Vec<u8>> = (0..40)
            .flat_map(|length| {
                let base: Vec<u8> = (0..length).collect();
                let changed = (0..usize::from(length)).flat_map(|at| {
                    [0, 0x7f, 0x80, 0xff]
                        .map(|byte| [&base[..at], &[byte], &base[at + 1..]].concat())
                });
                changed.chain([base.clone()]).collect::<Vec<_>>()
            })
            .collect();
        for left in &texts {
            for right in &texts {
                let n = left.len().min(right.len());
                // SAFETY: both have n bytes.
                let order = unsafe { memcmp(left.as_ptr(), right.as_ptr(), n) };
                assert_eq!(order.cmp(&0), left[..n].cmp(&right[..n]), "{left:?} {right:?}");
            }
        }
    }
}
