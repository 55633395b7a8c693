//! What we remember of a reservation beside its file: a line of the index.
use super::reservation::Owner;
use std::{fmt, fs::Metadata, net::IpAddr, os::unix::fs::MetadataExt, path::Path};

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// its file's name
    pub name: String,
    /// whose it is
    pub owner: Owner,
    /// its file, so that another one of the same name is not taken for it
    pub file: FileId,
    /// the boot in which it was first seen (/proc/sys/kernel/random/boot_id)
    pub boot: String,
    /// its container's network namespace; None where another program made the reservation, or the namespace could not be looked at
    pub netns: Option<NetNsFile>,
}

/// A file among all that ever had its name: inode, and the time of its last change in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    ino: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// A network namespace and where it was to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetNsFile {
    /// inode in nsfs: the number in `net:[4026531840]`
    pub ino: u64,
    /// CNI_NETNS
    pub path: String,
}

impl FileId {
    /// Of an open or named file.
    pub fn of(file: &Metadata) -> FileId {
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
    /// Looks at CNI_NETNS. None if there is nothing, or a path that would not fit into a line.
    pub fn look(path: &str) -> Option<NetNsFile> {
        if path.contains(char::is_whitespace) {
            return None;
        }
        let ino = std::fs::metadata(Path::new(path)).ok()?.ino();
        Some(NetNsFile {
            ino,
            path: path.to_owned(),
        })
    }
}

impl Record {
    /// The address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }

    /// The index's line, with its end.
    pub fn line(&self) -> String {
        let ifname = if self.owner.is_legacy() {
            "-"
        } else {
            &self.owner.ifname
        };
        let (netns, path) = match &self.netns {
            Some(netns) => (netns.ino, netns.path.as_str()),
            None => (0, "-"),
        };
        let FileId {
            ino,
            seconds,
            nanoseconds,
        } = self.file;
        format!(
            "{} {} {ifname} {ino} {seconds} {nanoseconds} {} {netns} {path}\n",
            self.name, self.owner.container_id, self.boot
        )
    }

    /// Reads a line without its end; None if it is torn or none of ours.
    pub fn parse(line: &str) -> Option<Record> {
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
            owner: Owner::new(id, ifname),
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
        fn round_trip(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,70}", ifname in "([a-z][a-z0-9]{0,14})?", ip in any::<IpAddr>(),
                      numbers in any::<(u64, i64, i64)>(), netns in any::<u64>()) {
            let record = Record {
                name: ip.to_string(),
                owner: Owner::new(&id, &ifname),
                file: FileId { ino: numbers.0, seconds: numbers.1, nanoseconds: numbers.2 },
                boot: "0f5c".into(),
                netns: (netns != 0).then(|| NetNsFile { ino: netns, path: "/run/netns/x".into() }),
            };
            let line = record.line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Record::parse(line.trim_end()), Some(record));
        }

        #[test]
        fn torn_lines_are_no_records(at in 0usize..40) {
            let line = "10.0.0.2 c5 eth0 77 1 2 0f5c 99 /n";
            prop_assert_eq!(Record::parse(&line[..at.min(line.len() - 3)]), None);
        }
    }
}
