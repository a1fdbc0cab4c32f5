//! A global allocator for instances that live for one call: allocating moves a pointer, freeing
//! takes back only the latest block, and all the rest goes when the host drops the instance.
//!
//! It first uses the room between the linker's `__heap_base` and the end of the initial memory,
//! because growing a memory costs the host a system call, and grows the memory when that is used
//! up. So it works with any size of initial memory; a large one (see the link arguments in
//! `.cargo/config.toml`) only makes it faster.
//!
//! It would be wrong in an instance that serves many calls: nothing but the latest block is ever
//! reused.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PAGE_BYTES: usize = 64 * 1024;
/// Growing by less would call the host more often than it saves memory.
const GROWTH_PAGES_MIN: usize = 16;

unsafe extern "C" {
    /// Placed by the linker behind all static data and the stack; only its address means
    /// anything.
    static __heap_base: u8;
}

/// The allocator. The atomics cost nothing: without the threads proposal, which the host turns
/// off, they are plain loads and stores.
pub struct Arena {
    /// The first free address; 0 before the first allocation.
    next: AtomicUsize,
    /// The end of the memory as far as it is known; 0 before the first look.
    end: AtomicUsize,
}

impl Arena {
    /// An arena that has not looked at the memory yet.
    #[allow(clippy::new_without_default)] // `Default::default` is not const
    pub const fn new() -> Self {
        Arena { next: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    fn next(&self) -> usize {
        match self.next.load(Relaxed) {
            0 => (&raw const __heap_base).addr(),
            next => next,
        }
    }

    /// Claims everything up to the address `end`, or says that there is not so much memory.
    fn claim(&self, end: usize) -> bool {
        if end > self.end.load(Relaxed) && !self.reach(end) {
            return false;
        }
        self.next.store(end, Relaxed);
        true
    }

    /// Makes the memory reach at least to the address `end`.
    #[cold]
    #[inline(never)]
    fn reach(&self, end: usize) -> bool {
        let have = memory_size(0) * PAGE_BYTES;
        if end > have {
            let need = (end - have).div_ceil(PAGE_BYTES);
            let ample = need.max(GROWTH_PAGES_MIN);
            let refused = |pages| memory_grow(0, pages) == usize::MAX;
            if refused(ample) && (ample == need || refused(need)) {
                return false;
            }
        }
        self.end.store(memory_size(0) * PAGE_BYTES, Relaxed);
        true
    }
}

// SAFETY: `alloc` returns addresses at or above `__heap_base`, which nothing else uses, inside
// the memory (`claim` has checked), aligned as asked, and beyond every block still in use:
// `next` is at the end of the last one, and only goes back when that very block is freed or
// shrunk. A wasm instance has one thread.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.next().checked_next_multiple_of(layout.align());
        let Some(start) = start else {
            return ptr::null_mut();
        };
        match start.checked_add(layout.size()) {
            Some(end) if self.claim(end) => ptr::with_exposed_provenance_mut(start),
            _ => ptr::null_mut(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = block.addr();
        if start + layout.size() == self.next() {
            self.next.store(start, Relaxed);
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let start = block.addr();
        if start + layout.size() == self.next() {
            return match start.checked_add(new_size) {
                Some(end) if self.claim(end) => block,
                _ => ptr::null_mut(),
            };
        }
        if new_size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, is no more
        // than `isize::MAX`, and the alignment is the valid one of `layout`.
        let moved =
            unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: `block` has `layout.size()` bytes by the caller's promise; `moved` has
            // more, and lies beyond every block in use.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }
}
