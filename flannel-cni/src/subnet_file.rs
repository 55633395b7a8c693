//! Reads subnet.env. ADD waits for it for a short time: the first pods of a node often start in the
//! same second as flanneld.

use linux_net::error::io_reason;
use std::{
    io::{self, ErrorKind},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};
use subnet_env::SubnetEnv;

/// How long ADD waits for a complete file. The sandbox is not usable meanwhile.
const WAIT_TIMEOUT: Duration = Duration::from_millis(1500);
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// More than the parser accepts, in bytes.
const MAX_READ_LEN: u64 = 1 << 17;

/// Why there is no usable subnet.env.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubnetFileError {
    /// The file cannot be opened; flanneld has not written it yet if it does not exist.
    #[error("open {file}: {}", io_reason(source))]
    Open { file: String, source: io::Error },
    /// The file cannot be read, or is not UTF-8.
    #[error("read {file}: {}", io_reason(source))]
    Read { file: String, source: io::Error },
    /// The content is malformed or not complete.
    #[error(transparent)]
    Parse(#[from] subnet_env::ParseError),
}

impl SubnetFileError {
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, SubnetFileError::Open { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// Reads the file once.
pub(crate) fn read(file: &str) -> Result<SubnetEnv, SubnetFileError> {
    let bytes = atomic_file::read(Path::new(file), MAX_READ_LEN).map_err(|source| {
        let file = file.to_owned();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                SubnetFileError::Open { file, source }
            }
            _ => SubnetFileError::Read { file, source },
        }
    })?;
    let text = String::from_utf8(bytes).map_err(|error| SubnetFileError::Read {
        file: file.to_owned(),
        source: io::Error::new(ErrorKind::InvalidData, error),
    })?;
    Ok(SubnetEnv::parse(&text, file)?)
}

/// Reads the file until it is complete; the last error after [`WAIT_TIMEOUT`]. A file that Go's
/// flanneld is writing is incomplete for a moment.
pub(crate) fn wait(file: &str) -> Result<SubnetEnv, SubnetFileError> {
    let start = Instant::now();
    loop {
        match read(file) {
            Err(_) if start.elapsed() < WAIT_TIMEOUT => sleep(READ_INTERVAL),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    fn cni_error(file: &str) -> cni_conf::Error {
        crate::Error::from(read(file).unwrap_err()).into()
    }

    #[test]
    fn errors_have_upstreams_wording() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("subnet.env");
        let file = file.to_str().unwrap();
        let code_and_message = || {
            let error = cni_error(file);
            (error.code, error.msg)
        };
        let text = |why: &str| {
            format!(
                "failed to load flannel 'subnet.env' file: {why}. Check the flannel pod log for this node."
            )
        };
        let absent = text(&format!("open {file}: no such file or directory"));
        assert_eq!(code_and_message(), (11, absent));
        std::fs::write(file, GOOD.replace("FLANNEL_MTU", "MTU")).unwrap();
        let missing = text(&format!("{file} is missing FLANNEL_MTU"));
        assert_eq!(code_and_message(), (999, missing));
        std::fs::write(file, b"\xff\xfe").unwrap();
        assert_eq!(code_and_message().0, 999);
        std::fs::write(file, GOOD).unwrap();
        assert!(read(file).is_ok());
        let error = cni_error(dir.path().to_str().unwrap());
        assert!(error.msg.contains(": is a directory."), "{error}");
    }

    #[test]
    fn wait_returns_when_the_file_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("subnet.env");
        let writer = std::thread::spawn({
            let file = file.clone();
            move || {
                std::fs::write(&file, &GOOD[..40]).unwrap();
                sleep(Duration::from_millis(60));
                std::fs::write(&file, GOOD).unwrap();
            }
        });
        assert_eq!(wait(file.to_str().unwrap()).unwrap().mtu, 1450);
        writer.join().unwrap();
    }
}
