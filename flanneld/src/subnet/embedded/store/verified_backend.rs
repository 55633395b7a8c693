//! A redb backend that makes redb verify every file, so that a damaged one is an error, not a
//! panic.
//!
//! redb trusts a file that was closed properly, and verifies one that was not: page by page, each
//! checksum before what it protects is read. This backend presents every file as not closed
//! properly, until redb has verified it and writes its header. No checksum covers the sizes in the
//! header: they must be those that redb gives a new file.

use redb::{BackendError, StorageBackend};
use std::{
    io,
    ops::Bound,
    sync::atomic::{AtomicBool, Ordering},
};

/// The flags (redb's docs/design.md, "God byte"): "not closed properly", and "the list of free
/// pages can be used as it is".
const FLAGS_OFFSET: usize = 9;
const RECOVERY_REQUIRED: u8 = 2;
const TWO_PHASE_COMMIT: u8 = 4;

/// Page size, header pages and data pages of a region, each 4 bytes little-endian: fixed when the
/// file is made.
const SIZES_OFFSET: usize = 12;
const SIZES: [u32; 3] = [4096, 0, 1 << 20];

/// A file, presented as not closed properly until its header is written.
#[derive(Debug)]
pub(super) struct VerifiedBackend<B> {
    file: B,
    verified: AtomicBool,
}

impl<B> VerifiedBackend<B> {
    pub(super) fn new(file: B) -> VerifiedBackend<B> {
        VerifiedBackend {
            file,
            verified: AtomicBool::new(false),
        }
    }
}

/// Marks the header as not closed properly. `head` may be its first bytes only.
fn require_recovery(head: &mut [u8]) -> io::Result<()> {
    if let Some(flags) = head.get_mut(FLAGS_OFFSET) {
        *flags = (*flags | RECOVERY_REQUIRED) & !TWO_PHASE_COMMIT;
    }
    let sizes = head.get(SIZES_OFFSET..).unwrap_or(&[]).chunks_exact(4);
    for (found, expected) in sizes.zip(SIZES) {
        if found != expected.to_le_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its header is damaged, or another program's",
            ));
        }
    }
    Ok(())
}

impl<B: StorageBackend> StorageBackend for VerifiedBackend<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)?;
        if offset == 0 && !self.verified.load(Ordering::Relaxed) {
            require_recovery(out)
        } else {
            Ok(())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            self.verified.store(true, Ordering::Relaxed);
        }
        self.file.write(offset, data)
    }

    /// Keeps the lock, which is the open file's: the store holds it from one opening to the next.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
