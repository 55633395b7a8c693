//! Which branches an execution took: LLVM's inline 8-bit counters, which scripts/rustc-coverage
//! adds to this workspace's code, one for each edge between basic blocks. A program that was built
//! without them has none.

#![allow(
    unsafe_code,
    reason = "the counters are memory that the linker names and compiled code writes"
)]

use std::{
    ptr, slice,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
};

static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// Bytes that are compared at once.
const CHUNK: usize = 64;

/// Called by each object file before `main`, always with the counters of the whole program.
// SAFETY: the name is that of LLVM's SanitizerCoverage, and nothing else defines it.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    START.store(start, Relaxed);
    LENGTH.store((end as usize).saturating_sub(start as usize), Relaxed);
}

fn counters() -> &'static mut [u8] {
    let (start, length) = (START.load(Relaxed), LENGTH.load(Relaxed));
    if length == 0 {
        return &mut [];
    }
    // SAFETY: LLVM passed this range, which lives as long as the program. This crate has no
    // counters (scripts/rustc-coverage), and one thread executes targets: nothing writes them while
    // this module looks at them.
    unsafe { slice::from_raw_parts_mut(start, length) }
}

/// What the executions so far have reached.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// For each counter the classes of counts that were seen, a bit each.
    seen: Vec<u8>,
}

impl Coverage {
    pub(crate) fn new() -> Coverage {
        Coverage {
            seen: vec![0; counters().len()],
        }
    }

    /// False if the program has no counters.
    pub(crate) fn is_measured(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Before an execution.
    pub(crate) fn start(&self) {
        counters().fill(0);
    }

    /// After an execution: true if it took a branch as none did before, or clearly more often.
    pub(crate) fn is_new(&mut self) -> bool {
        let mut new = false;
        let chunks = counters().chunks(CHUNK).zip(self.seen.chunks_mut(CHUNK));
        for (counts, seen) in chunks {
            if counts.iter().fold(0, |all, count| all | count) == 0 {
                continue;
            }
            for (count, seen) in counts.iter().zip(seen) {
                let class = class(*count);
                new |= class & !*seen != 0;
                *seen |= class;
            }
        }
        new
    }

    /// Branches that were taken.
    pub(crate) fn branches(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }
}

/// 0, 1, 2, 3, up to 7, up to 15, up to 31, up to 127, more: a bit each but for 0.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1..=3 => 1 << (count - 1),
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}
