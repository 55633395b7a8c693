//! A redb backend whose writes stay in memory. redb writes to each file that it opens: it repairs
//! one that was not closed properly, and marks each as open. Through this backend a file is read,
//! and repaired for the reader, without being changed: one that turns out not to be ours stays as
//! it is, and one on a full disk can be read.

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes of a block that is kept in memory as a whole.
const BLOCK: usize = 4096;

/// The file with the writes of this opening.
#[derive(Debug)]
pub(super) struct ReadOnlyBackend {
    file: FileBackend,
    written: Mutex<Written>,
}

/// What the file would have after the writes.
#[derive(Debug)]
struct Written {
    len: u64,
    /// Bytes of the file that count; those behind them were cut off and are zero if they are back.
    file_len: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl ReadOnlyBackend {
    pub(super) fn new(file: File) -> Result<ReadOnlyBackend, DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        Ok(ReadOnlyBackend {
            file,
            written: Mutex::new(Written {
                len,
                file_len: len,
                blocks: BTreeMap::new(),
            }),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block with this number, as the file has it.
    fn original(&self, number: u64, file_len: u64) -> io::Result<Box<[u8; BLOCK]>> {
        let mut block = Box::new([0; BLOCK]);
        let start = number.saturating_mul(BLOCK as u64);
        let available = file_len.saturating_sub(start);
        let available = usize::try_from(available).unwrap_or(BLOCK);
        if let Some(head) = block.get_mut(..available.min(BLOCK)) {
            self.file.read(start, head)?;
        }
        Ok(block)
    }
}

/// The blocks that `len` bytes from `offset` on touch: the number of each, and its bytes that are
/// meant.
fn touched(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset.saturating_add(len as u64);
    let block = BLOCK as u64;
    (offset / block..end.div_ceil(block)).map(move |number| {
        let start = number * block;
        // both are at most BLOCK
        let from = offset.saturating_sub(start).min(block) as usize;
        let to = end.saturating_sub(start).min(block) as usize;
        (number, from..to)
    })
}

impl StorageBackend for ReadOnlyBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.saturating_add(out.len() as u64) > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, bytes) in touched(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(bytes.len());
            rest = after;
            match written.blocks.get(&number) {
                Some(block) => part.copy_from_slice(&block[bytes]),
                None => {
                    let block = self.original(number, written.file_len)?;
                    part.copy_from_slice(&block[bytes]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.len = len;
        written.file_len = written.file_len.min(len);
        let first_cut = len.div_ceil(BLOCK as u64);
        written.blocks.split_off(&first_cut);
        let kept = usize::try_from(len % BLOCK as u64).unwrap_or(0);
        if let Some(last) = written.blocks.get_mut(&(len / BLOCK as u64)) {
            last[kept..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let file_len = written.file_len;
        let mut rest = data;
        for (number, bytes) in touched(offset, data.len()) {
            let (part, after) = rest.split_at(bytes.len());
            rest = after;
            let block = match written.blocks.entry(number) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(free) => free.insert(self.original(number, file_len)?),
            };
            block[bytes].copy_from_slice(part);
        }
        written.len = written.len.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use std::io::Write;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let write = (
            0u64..20_000,
            proptest::collection::vec(any::<u8>(), 0..9000),
        );
        prop_oneof![
            3 => write.prop_map(|(offset, data)| Step::Write(offset, data)),
            1 => (0u64..30_000).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_the_file_stays(
            content in proptest::collection::vec(any::<u8>(), 0..15_000),
            steps in proptest::collection::vec(step(), 0..20),
            at in 0u64..30_000,
            count in 0usize..10_000,
        ) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            let backend = ReadOnlyBackend::new(file.try_clone().unwrap()).unwrap();
            let model = InMemoryBackend::new();
            model.set_len(content.len() as u64).unwrap();
            model.write(0, &content).unwrap();
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        // redb writes inside of the length only
                        let len = model.len().unwrap().max(offset + data.len() as u64);
                        for backend in [&backend as &dyn StorageBackend, &model] {
                            backend.set_len(len).unwrap();
                            backend.write(offset, &data).unwrap();
                        }
                    }
                    Step::SetLen(len) => {
                        backend.set_len(len).unwrap();
                        model.set_len(len).unwrap();
                    }
                }
            }
            prop_assert_eq!(backend.len().unwrap(), model.len().unwrap());
            let read = |backend: &dyn StorageBackend| {
                let mut bytes = vec![0; count];
                backend.read(at, &mut bytes).ok().map(|()| bytes)
            };
            let inside = at + count as u64 <= model.len().unwrap();
            prop_assert_eq!(read(&backend), read(&model).filter(|_| inside));
            let mut now = vec![0; content.len()];
            backend.file.read(0, &mut now).unwrap();
            prop_assert!(now == content && file.metadata().unwrap().len() == content.len() as u64);
        }
    }
}
