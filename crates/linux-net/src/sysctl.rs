//! `/proc/sys`, of the calling thread's network namespace.

use crate::{Error, Result};
use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
};

/// proc(5): values are at most a page.
const LARGEST: usize = 4096;

/// `get("net/ipv4/ip_forward")`, trimmed. Dots stay dots: interface names may hold them.
pub fn get(key: &str) -> Result<String> {
    match path(key).and_then(read) {
        Ok(value) => Ok(value.trim().to_owned()),
        Err(error) => Err(Error::io(format!("read sysctl {key}"), error)),
    }
}

/// Such a file says nothing about its size, and gives all it has to the first read that is large enough.
fn read(path: PathBuf) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; LARGEST];
    let length = file.read(&mut bytes)?;
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes only if the value differs (a read-only /proc/sys that already says so is no error).
pub fn set(key: &str, value: &str) -> Result<()> {
    if get(key).is_ok_and(|found| found == value.trim()) {
        return Ok(());
    }
    // not fs::write: there is nothing to create or truncate here
    let write = |path: PathBuf| {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(value.as_bytes())
    };
    path(key)
        .and_then(write)
        .map_err(|error| Error::io(format!("write sysctl {key}={value}"), error))
}

/// The file; a key cannot lead out of /proc/sys.
fn path(key: &str) -> io::Result<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if key.split('/').all(plain) && !key.contains('\0') {
        Ok(PathBuf::from("/proc/sys").join(key))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not the name of a sysctl",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys() {
        for key in [
            "",
            "/etc/passwd",
            "net/../../etc",
            "net//ipv4",
            "net/./x",
            "a\0b",
        ] {
            let error = get(key).unwrap_err().to_string();
            assert!(error.ends_with("not the name of a sysctl"), "{error}");
        }
        assert_eq!(
            path("net/ipv4/conf/eth0.5/forwarding").unwrap(),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.5/forwarding")
        );
    }

    #[test]
    fn same_value_needs_no_right_to_write() {
        let value = get("kernel/osrelease").unwrap();
        set("kernel/osrelease", &value).unwrap();
        assert!(set("kernel/osrelease", "other").is_err());
    }
}
