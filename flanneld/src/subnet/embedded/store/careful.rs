//! A file as redb sees it, so that a damaged one is an error and never a panic.
//!
//! redb trusts a file that was closed properly and verifies one that was not: page by page, each checksum before what it
//! protects is read. This backend shows every file as one that was not closed properly, until redb has verified it and
//! writes its head. The sizes in the head, which no checksum covers, must be those that redb gives a new file.
use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};
use std::{
    fs::File,
    io,
    ops::Bound,
    sync::atomic::{AtomicBool, Ordering},
};

/// Where the flags are (redb's docs/design.md, "God byte"): the one for "not closed properly", and the one that says that
/// the list of free pages can be taken as it stands.
const FLAGS_OFFSET: usize = 9;
const RECOVERY_REQUIRED: u8 = 2;
const TWO_PHASE_COMMIT: u8 = 4;

/// Page size, header pages and data pages of a region, each 4 bytes little-endian: made with the file, never changed.
const SIZES_OFFSET: usize = 12;
const SIZES: [u32; 3] = [4096, 0, 1 << 20];

/// The file, under suspicion until its head is written.
#[derive(Debug)]
pub struct Careful {
    file: FileBackend,
    trusted: AtomicBool,
}

impl Careful {
    /// An open file.
    pub fn new(file: File) -> Result<Careful, DatabaseError> {
        Ok(Careful {
            file: FileBackend::new(file)?,
            trusted: AtomicBool::new(false),
        })
    }
}

/// Makes the head one of a file that was not closed properly. A read may be of its first bytes alone.
fn suspect(head: &mut [u8]) -> io::Result<()> {
    if let Some(flags) = head.get_mut(FLAGS_OFFSET) {
        *flags = (*flags | RECOVERY_REQUIRED) & !TWO_PHASE_COMMIT;
    }
    let sizes = head.get(SIZES_OFFSET..).unwrap_or_default().chunks_exact(4);
    for (found, expected) in sizes.zip(SIZES) {
        if found != expected.to_le_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its head is damaged or another program's: {found:?}"),
            ));
        }
    }
    Ok(())
}

impl StorageBackend for Careful {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)?;
        if offset == 0 && !self.trusted.load(Ordering::Relaxed) {
            suspect(out)
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
            self.trusted.store(true, Ordering::Relaxed);
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
