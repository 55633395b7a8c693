//! A line of the index: a reservation and what its file does not hold.

use super::reservation::is_legacy;
use plugin::Attachment;
use std::{
    fmt,
    fs::{self, Metadata},
    net::IpAddr,
    os::unix::fs::MetadataExt,
};

/// [`Record::boot`] where /proc cannot be read.
pub(super) const UNKNOWN_BOOT: &str = "-";

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The name of the file: the address.
    pub(crate) name: String,
    pub(crate) owner: Attachment,
    /// Distinguishes the file from an older one of the same name.
    pub(super) file: FileId,
    /// The boot in which the file was first seen (/proc/sys/kernel/random/boot_id).
    pub(super) boot: String,
    /// None: another program made the reservation, or the namespace could not be read.
    pub(super) netns: Option<NetNsFile>,
}

/// Identifies a file among all that had its name: inode, and mtime in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    ino: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// The network namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetNsFile {
    /// The inode in nsfs: the number in `net:[4026531840]`.
    pub(super) ino: u64,
    /// CNI_NETNS
    pub(super) path: String,
}

impl FileId {
    pub(super) fn of(file: &Metadata) -> FileId {
        FileId {
            ino: file.ino(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.ino, self.seconds, self.nanoseconds)
    }
}

impl NetNsFile {
    /// None: there is no file at the path, or the path does not fit into a line.
    pub(super) fn of(path: &str) -> Option<NetNsFile> {
        if path.contains(char::is_whitespace) {
            return None;
        }
        Some(NetNsFile {
            ino: fs::metadata(path).ok()?.ino(),
            path: path.to_owned(),
        })
    }
}

impl Record {
    /// The line of the index, with its line feed.
    pub(super) fn line(&self) -> String {
        let ifname = match is_legacy(&self.owner) {
            true => "-",
            false => &self.owner.ifname,
        };
        let (netns, path) = match &self.netns {
            Some(netns) => (netns.ino, netns.path.as_str()),
            None => (0, "-"),
        };
        format!(
            "{} {} {ifname} {} {} {netns} {path}\n",
            self.name, self.owner.container_id, self.file, self.boot
        )
    }

    /// Parses a line without its line feed. None: it is incomplete or invalid.
    pub(super) fn parse(line: &str, network: &str) -> Option<Record> {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            name,
            id,
            ifname,
            ino,
            seconds,
            nanoseconds,
            boot,
            netns,
            path,
        ] = <[&str; 9]>::try_from(words).ok()?;
        name.parse::<IpAddr>().ok()?;
        let ifname = if ifname == "-" { "" } else { ifname };
        let netns = match netns.parse().ok()? {
            0 => None,
            ino => Some(NetNsFile {
                ino,
                path: path.to_owned(),
            }),
        };
        Some(Record {
            name: name.to_owned(),
            owner: Attachment::new(network, id, ifname),
            file: FileId {
                ino: ino.parse().ok()?,
                seconds: seconds.parse().ok()?,
                nanoseconds: nanoseconds.parse().ok()?,
            },
            boot: boot.to_owned(),
            netns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_line_is_read_back(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,70}", ifname in "([a-z][a-z0-9]{0,14})?", ip in any::<IpAddr>(),
                      numbers in any::<(u64, i64, i64)>(), netns in any::<u64>()) {
            let record = Record {
                name: ip.to_string(),
                owner: Attachment::new("net", &id, &ifname),
                file: FileId { ino: numbers.0, seconds: numbers.1, nanoseconds: numbers.2 },
                boot: "0f5c".into(),
                netns: (netns != 0).then(|| NetNsFile { ino: netns, path: "/run/netns/x".into() }),
            };
            let line = record.line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Record::parse(line.trim_end(), "net"), Some(record));
        }

        #[test]
        fn incomplete_line_is_no_record(at in 0usize..40) {
            let line = "10.0.0.2 c5 eth0 77 1 2 0f5c 99 /n";
            prop_assert_eq!(Record::parse(&line[..at.min(line.len() - 3)], "net"), None);
        }
    }
}
