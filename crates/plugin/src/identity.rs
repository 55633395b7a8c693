//! Whether a file is this executable: the same inode, or a copy with the same build id (ELF note
//! NT_GNU_BUILD_ID, the linker's hash of its output). Calling its code in process is then the same
//! as executing it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

const OWN: &str = "/proc/self/exe";
/// Bytes that are read of a file. A static executable has its notes in the first pages; a file that
/// has them later is executed.
const HEAD: u64 = 8192;

/// False if in doubt. A file that was replaced while this process runs is another one.
pub(crate) fn is_own(file: &Path) -> bool {
    let (Ok(file_stat), Ok(own_stat)) = (std::fs::metadata(file), std::fs::metadata(OWN)) else {
        return false;
    };
    if (file_stat.dev(), file_stat.ino()) == (own_stat.dev(), own_stat.ino()) {
        return true;
    }
    if file_stat.len() != own_stat.len() {
        return false;
    }
    let (Ok(file), Ok(own)) = (head(file), head(Path::new(OWN))) else {
        return false;
    };
    build_id(&own).is_some_and(|id| build_id(&file) == Some(id))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEAD as usize);
    File::open(path)?.take(HEAD).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The build id of a 64-bit little-endian ELF file, if it lies in `elf`, its first bytes (elf(5):
/// Elf64_Ehdr, Elf64_Phdr, Elf64_Nhdr).
pub(crate) fn build_id(elf: &[u8]) -> Option<&[u8]> {
    const ELF64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    const PT_NOTE: u32 = 4;
    if !elf.starts_with(ELF64_LITTLE) {
        return None;
    }
    let table = usize::try_from(u64_at(elf, 32)?).ok()?;
    let (size, count) = (u16_at(elf, 54)? as usize, u16_at(elf, 56)? as usize);
    (0..count)
        .filter_map(|index| elf.get(table.checked_add(index * size)?..))
        .filter(|header| u32_at(header, 0) == Some(PT_NOTE))
        .find_map(|header| {
            let start = usize::try_from(u64_at(header, 8)?).ok()?;
            let length = usize::try_from(u64_at(header, 32)?).ok()?;
            gnu_build_id(elf.get(start..start.checked_add(length)?)?)
        })
}

/// Searches one note segment. Names and contents are padded to four bytes.
fn gnu_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let name_len = u32_at(notes, 0)? as usize;
        let content_len = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let content_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let content_end = content_at.checked_add(content_len)?;
        let content = notes.get(content_at..content_end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && !content.is_empty() {
            return Some(content);
        }
        notes = notes.get(content_end.checked_next_multiple_of(4)?..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn own_inode_is_recognised_by_any_name() {
        let own = std::env::current_exe().unwrap();
        assert!(is_own(&own));
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("bridge");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(is_own(&link));
        assert!(!is_own(Path::new("/bin/sh")));
        assert!(!is_own(&dir.path().join("absent")));
    }

    #[test]
    fn copy_is_recognised_by_its_build_id() {
        let own = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        std::fs::copy(&own, &copy).unwrap();
        let has_id = build_id(&head(&own).unwrap()).is_some();
        assert_eq!(is_own(&copy), has_id);
        // another id, in a file of the same size
        if let Some(id) = build_id(&head(&own).unwrap()) {
            let mut bytes = std::fs::read(&copy).unwrap();
            let at = bytes.windows(id.len()).position(|w| w == id).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&copy, bytes).unwrap();
            assert!(!is_own(&copy));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            build_id(&bytes);
            build_id(&[b"\x7fELF\x02\x01".as_slice(), &bytes].concat());
            gnu_build_id(&bytes);
        }
    }
}
