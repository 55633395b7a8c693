//! Memory of an execution: an allocator that counts.

#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// An execution must not need more, bytes: inputs have at most 16 KiB.
pub(crate) const LARGEST: usize = 32 << 20;
/// More than this is not given, bytes: the process ends before it takes the machine's memory.
const LIMIT: usize = 1 << 30;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

fn grow(bytes: usize) -> bool {
    let in_use = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(in_use, Relaxed);
    in_use <= LIMIT
}

// SAFETY: memory comes from the system's allocator with the same layouts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match grow(layout.size()) {
            // SAFETY: the caller's contract is that of the system's allocator.
            true => unsafe { System.alloc(layout) },
            false => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !grow(size) {
            return ptr::null_mut();
        }
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// The start of an execution.
#[derive(Debug)]
pub(crate) struct Measure(usize);

impl Measure {
    pub(crate) fn start() -> Measure {
        let in_use = IN_USE.load(Relaxed);
        PEAK.store(in_use, Relaxed);
        Measure(in_use)
    }

    /// The most that was in use since, bytes, in all threads.
    pub(crate) fn peak(&self) -> usize {
        PEAK.load(Relaxed).saturating_sub(self.0)
    }
}
