//! Sysctls (`/proc/sys`) of the calling thread's network namespace.

use crate::{Error, Result};
use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
};

/// Values are at most a page (proc(5)).
const LARGEST: usize = 4096;

/// The value of a key with slashes, `net/ipv4/ip_forward`, trimmed. Dots are part of names: an
/// interface may be called `eth0.5`.
pub fn get(key: &str) -> Result<String> {
    match path(key).and_then(read) {
        Ok(value) => Ok(value.trim().to_owned()),
        Err(error) => Err(Error::io(format!("read sysctl {key}"), error)),
    }
}

/// These files have no size; one read returns the whole value.
fn read(path: PathBuf) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; LARGEST];
    let length = file.read(&mut bytes)?;
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the value unless it is set already, so that a read-only `/proc/sys` with the right value
/// is no error.
pub fn set(key: &str, value: &str) -> Result<()> {
    if get(key).is_ok_and(|found| found == value.trim()) {
        return Ok(());
    }
    // fs::write would ask to create and truncate
    let write = |path: PathBuf| {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(value.as_bytes())
    };
    path(key)
        .and_then(write)
        .map_err(|error| Error::io(format!("write sysctl {key}={value}"), error))
}

/// The file of a key. A key cannot lead out of `/proc/sys`.
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
    fn same_value_needs_no_permission_to_write() {
        let value = get("kernel/osrelease").unwrap();
        set("kernel/osrelease", &value).unwrap();
        assert!(set("kernel/osrelease", "other").is_err());
    }
}
