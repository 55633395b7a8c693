//! A record of the index: a reservation and what its file does not hold. It is a line, and a second
//! one if the namespace has a number of its own; earlier versions skip that line.

use super::reservation::is_legacy;
use linux_net::NetNs;
use plugin::Attachment;
use std::{
    fmt,
    fs::{self, Metadata},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Begins the second line.
const COOKIE: &str = "cookie ";

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
    /// The inode in nsfs: the number in `net:[4026531840]`. The kernel gives that of a namespace
    /// which has ended to a later one.
    pub(super) ino: u64,
    /// The number that no later namespace gets. None: an earlier version made the record, or the
    /// kernel has no such numbers.
    pub(super) cookie: Option<u64>,
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
    /// The cookie is looked up unless it is known. None: there is no file at the path, or the path
    /// does not fit into a line.
    pub(super) fn of(path: &str, cookie: Option<u64>) -> Option<NetNsFile> {
        if path.contains(char::is_whitespace) {
            return None;
        }
        let look_up = || NetNs::open(Path::new(path)).ok()?.cookie();
        Some(NetNsFile {
            ino: fs::metadata(path).ok()?.ino(),
            cookie: cookie.or_else(look_up),
            path: path.to_owned(),
        })
    }

    /// True if both may be one namespace, as far as is known.
    pub(super) fn may_be(&self, ino: u64, cookie: Option<u64>) -> bool {
        let is_other = self.cookie.zip(cookie).is_some_and(|(a, b)| a != b);
        self.ino == ino && !is_other
    }
}

impl Record {
    /// The lines of the index, each with its line feed.
    pub(super) fn lines(&self) -> String {
        let ifname = match is_legacy(&self.owner) {
            true => "-",
            false => &self.owner.ifname,
        };
        let (netns, path) = match &self.netns {
            Some(netns) => (netns.ino, netns.path.as_str()),
            None => (0, "-"),
        };
        let mut lines = format!(
            "{} {} {ifname} {} {} {netns} {path}\n",
            self.name, self.owner.container_id, self.file, self.boot
        );
        if let Some(cookie) = self.netns.as_ref().and_then(|netns| netns.cookie) {
            lines.push_str(&format!("{COOKIE}{cookie}\n"));
        }
        lines
    }

    /// The records in these lines. Incomplete and invalid ones are left out.
    pub(super) fn parse_all(text: &str, network: &str) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        let mut follows_record = false;
        for line in text.lines() {
            let cookie = line.strip_prefix(COOKIE);
            let cookie = cookie.and_then(|number| number.parse().ok());
            let record = Record::parse(line, network);
            if let (Some(cookie), true) = (cookie, follows_record)
                && let Some(netns) = records.last_mut().and_then(|last| last.netns.as_mut())
            {
                netns.cookie = Some(cookie);
            }
            follows_record = record.is_some();
            records.extend(record);
        }
        records
    }

    /// Parses the first line without its line feed. None: it is incomplete or invalid.
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
                cookie: None,
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
        fn written_lines_are_read_back(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,70}", ifname in "([a-z][a-z0-9]{0,14})?", ip in any::<IpAddr>(),
                      numbers in any::<(u64, i64, i64)>(), netns in any::<u64>(), cookie in any::<Option<u64>>()) {
            let record = Record {
                name: ip.to_string(),
                owner: Attachment::new("net", &id, &ifname),
                file: FileId { ino: numbers.0, seconds: numbers.1, nanoseconds: numbers.2 },
                boot: "0f5c".into(),
                netns: (netns != 0).then(|| NetNsFile { ino: netns, cookie, path: "/run/netns/x".into() }),
            };
            let has_cookie = record.netns.as_ref().is_some_and(|netns| netns.cookie.is_some());
            let lines = record.lines();
            prop_assert_eq!(lines.matches('\n').count(), 1 + usize::from(has_cookie));
            prop_assert_eq!(Record::parse_all(&lines.repeat(2), "net"), [record.clone(), record.clone()]);
            // earlier versions read the lines one by one
            let each: Vec<_> = lines.lines().filter_map(|line| Record::parse(line, "net")).collect();
            let known = |netns: NetNsFile| NetNsFile { cookie: None, ..netns };
            prop_assert_eq!(each, [Record { netns: record.netns.clone().map(known), ..record }]);
        }

        #[test]
        fn incomplete_line_is_no_record(at in 0usize..40) {
            let line = "10.0.0.2 c5 eth0 77 1 2 0f5c 99 /n";
            prop_assert_eq!(Record::parse(&line[..at.min(line.len() - 3)], "net"), None);
        }
    }

    #[test]
    fn a_cookie_belongs_to_the_record_before_it() {
        let line = |ip: &str, netns: &str| format!("{ip} c5 eth0 77 1 2 0f5c {netns}\n");
        let text = format!(
            "cookie 1\n{}cookie 2\n{}cookie 3\ncookie 4\nhalf a line\ncookie 5\n{}cookie x\n",
            line("10.0.0.2", "99 /n"),
            line("10.0.0.3", "0 -"),
            line("10.0.0.4", "98 /n"),
        );
        let found = Record::parse_all(&text, "net").into_iter();
        let cookies: Vec<_> = found
            .map(|one| one.netns.map(|netns| netns.cookie))
            .collect();
        assert_eq!(cookies, [Some(Some(2)), None, Some(None)]);
    }
}
