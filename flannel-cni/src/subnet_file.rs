//! Reading subnet.env, and waiting for it a little: a node's first pods often start in the very
//! second in which flanneld does.
use crate::Error;
use std::{
    fs::File,
    io::{self, Read},
    thread::sleep,
    time::{Duration, Instant},
};
use subnet_env::SubnetEnv;

/// How long ADD waits for a file that is not there or does not read well. Longer would keep a
/// runtime's sandbox half made.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);
/// More than the parser accepts, in bytes.
const LONGEST: u64 = 1 << 17;

/// Once, without waiting.
pub fn read(file: &str) -> Result<SubnetEnv, Error> {
    let told = |what: &str, error: &io::Error| {
        format!("{what} {file}: {}", linux_net::error::io_reason(error))
    };
    let opened = File::open(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NoSubnetEnv(told("open", &error)),
        _ => Error::BadSubnetEnv(told("open", &error)),
    })?;
    let mut text = String::new();
    opened
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Error::BadSubnetEnv(told("read", &error)))?;
    SubnetEnv::parse(&text, file).map_err(Error::BadSubnetEnv)
}

/// Until it reads well, for a bounded time; then what is wrong with it. A file that is being
/// written by an old flanneld is waited for just as one that is not there.
pub fn wait(file: &str) -> Result<SubnetEnv, Error> {
    let start = Instant::now();
    loop {
        match read(file) {
            Err(_) if start.elapsed() < PATIENCE => sleep(PAUSE),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn messages() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("subnet.env");
        let file = file.to_str().unwrap();
        let code_and_message = || {
            let error = cni_conf::Error::from(read(file).unwrap_err());
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
        let error = cni_conf::Error::from(read(dir.path().to_str().unwrap()).unwrap_err());
        assert!(error.msg.contains(": is a directory."), "{error}");
    }

    #[test]
    fn waits_for_a_file_that_comes() {
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
