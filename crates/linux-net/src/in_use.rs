//! The network namespaces that exist: a namespace exists as long as a thread is in it, a file
//! descriptor refers to it, or a mount holds it at a path.

use crate::{
    Error, NetNs, Netlink,
    address::Address,
    link::{Kind, Link},
    namespace,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How often a namespace is searched whose path was another file before it could be opened.
const ATTEMPTS: u32 = 5;

/// The network namespaces in use at one moment, as far as /proc shows them.
#[derive(Debug, Default)]
pub struct InUse {
    /// inode in nsfs -> a path that opens the namespace; None if only mounts hold it that others
    /// hide
    found: BTreeMap<u64, Option<PathBuf>>,
    /// Why some processes could not be read: there may be more namespaces. The first error.
    pub unreadable: Option<io::Error>,
    /// The one to open as soon as it is found.
    wanted: Option<Wanted>,
}

/// A namespace to open by the first of its paths that can be opened.
#[derive(Debug)]
struct Wanted {
    inode: u64,
    opened: Option<NetNs>,
}

/// The namespace of the calling thread.
#[derive(Debug)]
pub struct Here {
    ns: NetNs,
    /// Its links.
    pub links: Vec<Link>,
}

/// Where the other end of a veth is.
enum OtherEnd<'h> {
    Here(&'h Link),
    SameNamespace,
    Elsewhere,
}

impl Here {
    /// Reads the links.
    pub fn read() -> crate::Result<Here> {
        Ok(Here {
            ns: NetNs::current()?,
            links: Netlink::open()?.links()?,
        })
    }

    /// `number` is that of this namespace in the one of the veth.
    fn other_end(&self, veth: &Link, number: Option<i32>) -> OtherEnd<'_> {
        if veth.peer_netnsid.is_none() {
            return OtherEnd::SameNamespace;
        }
        let index = veth.lower.unwrap_or(veth.index);
        let mut links = self.links.iter();
        match links.find(|link| link.index == index && link.kind == Kind::Veth) {
            Some(link) if veth.peer_netnsid == number => OtherEnd::Here(link),
            _ => OtherEnd::Elsewhere,
        }
    }
}

/// What [`InUse::survey`] found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The addresses of all interfaces, but those of veths whose other end is on another machine
    /// that is simulated on this one.
    pub addresses: BTreeSet<IpAddr>,
    /// inode in nsfs -> all addresses in that namespace
    pub by_namespace: BTreeMap<u64, BTreeSet<IpAddr>>,
    /// Why there may be a namespace that was not seen.
    pub unseen: Option<String>,
}

impl InUse {
    /// Reads /proc. Takes some milliseconds on a node with thousands of processes. Err: /proc
    /// cannot be listed, so nothing is known.
    pub fn read() -> io::Result<InUse> {
        InUse::read_from(Path::new("/proc"))
    }

    /// What is known if [`read`](InUse::read) fails.
    pub fn unread(error: io::Error) -> InUse {
        InUse {
            unreadable: Some(error),
            ..InUse::default()
        }
    }

    fn read_from(proc: &Path) -> io::Result<InUse> {
        let mut all = InUse::default();
        all.read_processes(proc)?;
        Ok(all)
    }

    /// Reads /proc and opens the namespace with this inode: what has its path may end at once.
    fn read_and_open(inode: u64) -> io::Result<(InUse, Option<NetNs>)> {
        let mut all = InUse {
            wanted: Some(Wanted {
                inode,
                opened: None,
            }),
            ..InUse::default()
        };
        all.read_processes(Path::new("/proc"))?;
        let opened = all.wanted.take().and_then(|wanted| wanted.opened);
        Ok((all, opened))
    }

    fn read_processes(&mut self, proc: &Path) -> io::Result<()> {
        let mut mount_namespaces = HashSet::new();
        let is_process = |name: &OsString| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        for process in fs::read_dir(proc)?.flatten().map(|entry| entry.file_name()) {
            if is_process(&process) {
                let read = self.read_process(&proc.join(process), &mut mount_namespaces);
                self.unreadable = self.unreadable.take().or(read.err());
            }
        }
        Ok(())
    }

    /// True if a namespace with this inode exists.
    pub fn contains(&self, inode: u64) -> bool {
        self.found.contains_key(&inode)
    }

    /// The inodes of all.
    pub fn inodes(&self) -> impl Iterator<Item = u64> {
        self.found.keys().copied()
    }

    /// The [cookie](NetNs::cookie) of the namespace with this inode. None: there is none any more,
    /// or its cookie cannot be read.
    pub fn cookie(&self, inode: u64) -> Option<u64> {
        let path = self.found.get(&inode)?.as_deref()?;
        open(inode, path).ok()??.cookie()
    }

    /// What the namespaces of this machine's containers have, and what of them cannot be seen.
    pub fn survey(&self, here: &Here) -> Survey {
        let mut survey = Survey::default();
        let mut joined = HashSet::new();
        for (inode, path) in self.paths() {
            let inside = match inspect(inode, path, here) {
                Ok(Some(inside)) => inside,
                // it has ended
                Ok(None) => continue,
                Err(error) => {
                    survey.unseen = Some(error.to_string());
                    continue;
                }
            };
            let Inside {
                veths,
                addresses,
                number,
                is_here,
            } = inside;
            let all = addresses.iter().map(|address| address.net.ip());
            survey.by_namespace.insert(inode, all.collect());
            let is_elsewhere = |index: u32| {
                let veth = veths.iter().find(|veth| veth.index == index);
                let end = veth.map(|veth| here.other_end(veth, number));
                !is_here && matches!(end, Some(OtherEnd::Elsewhere))
            };
            let counted = addresses
                .iter()
                .filter(|address| !is_elsewhere(address.index));
            survey
                .addresses
                .extend(counted.map(|address| address.net.ip()));
            joined.extend(
                veths
                    .iter()
                    .filter_map(|veth| match here.other_end(veth, number) {
                        OtherEnd::Here(link) => Some(link.index),
                        OtherEnd::SameNamespace | OtherEnd::Elsewhere => None,
                    }),
            );
        }
        let mut outward = here
            .links
            .iter()
            .filter(|link| link.kind == Kind::Veth && link.peer_netnsid.is_some_and(|id| id >= 0));
        if let Some(link) = outward.find(|link| !joined.contains(&link.index)) {
            let name = &link.name;
            survey.unseen = Some(format!(
                "/proc does not show the network namespace that {name} leads into"
            ));
        }
        survey
    }

    /// The path of the namespace that has the other end of a veth in the socket's namespace. None:
    /// it no longer exists, and the kernel is about to delete the link. Err: that cannot be known.
    pub fn peer_of(&self, veth: &Link, netlink: &mut Netlink) -> crate::Result<Option<&Path>> {
        match veth.peer_netnsid {
            None => Ok(Some(Path::new(namespace::OWN))),
            number => self.find(&[], |netns| Ok(netlink.nsid_of(netns)? == number)),
        }
    }

    /// The path of a namespace other than `except` with an interface that has this address. A veth
    /// whose other end is in this namespace counts if `counts` says so of that end; one whose other
    /// end is elsewhere does not: other machines, in containers on this one, may use the same
    /// addresses. Err: that cannot be known.
    pub fn with_address(
        &self,
        ip: IpAddr,
        here: &Here,
        except: &[u64],
        counts: impl Fn(&Link) -> bool,
    ) -> crate::Result<Option<&Path>> {
        self.find(except, |netns| {
            let mut netlink = Netlink::open_in(netns)?;
            let mut all = netlink.addresses(None)?;
            all.retain(|address| address.net.ip() == ip);
            for address in all {
                let has_address = match netlink.link_by_index(address.index)? {
                    Some(link) if link.kind == Kind::Veth => {
                        let number = netlink.nsid_of(&here.ns)?;
                        match here.other_end(&link, number) {
                            OtherEnd::Here(end) => counts(end),
                            OtherEnd::SameNamespace => true,
                            OtherEnd::Elsewhere => false,
                        }
                    }
                    link => link.is_some(),
                };
                if has_address {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// The path of the first namespace for which the answer is true, without those of `except`.
    /// Namespaces that end meanwhile are left out. Err: none, but one could not be asked.
    fn find(
        &self,
        except: &[u64],
        mut is_wanted: impl FnMut(&NetNs) -> crate::Result<bool>,
    ) -> crate::Result<Option<&Path>> {
        let mut doubt = None;
        for (inode, path) in self.paths().filter(|(inode, _)| !except.contains(inode)) {
            let opened = open(inode, path);
            match opened.and_then(|netns| netns.map_or(Ok(false), |netns| is_wanted(&netns))) {
                Ok(true) => return Ok(Some(path)),
                Ok(false) => {}
                Err(error) => doubt = doubt.or(Some(error)),
            }
        }
        doubt.map_or(Ok(None), Err)
    }

    fn paths(&self) -> impl Iterator<Item = (u64, &Path)> {
        let found = self.found.iter();
        found.filter_map(|(inode, path)| Some((*inode, path.as_deref()?)))
    }

    fn read_process(
        &mut self,
        process: &Path,
        mount_namespaces: &mut HashSet<PathBuf>,
    ) -> io::Result<()> {
        // what can be read counts, also if the rest cannot
        let mut outcome = Ok(());
        let mut keep = |task: &Path, result: io::Result<()>| {
            if let (true, Err(error)) = (outcome.is_ok(), result)
                && !is_ending(task)
            {
                outcome = Err(error);
            }
        };
        keep(process, self.read_descriptors(process));
        match list(&process.join("task")) {
            Err(error) => keep(process, Err(error)),
            Ok(threads) => {
                for thread in threads {
                    let thread = process.join("task").join(thread);
                    keep(&thread, self.insert(&thread.join("ns/net")));
                    keep(&thread, self.read_mounts(&thread, mount_namespaces));
                }
            }
        }
        outcome
    }

    fn read_descriptors(&mut self, process: &Path) -> io::Result<()> {
        let descriptors = process.join("fd");
        for descriptor in list(&descriptors)? {
            self.insert(&descriptors.join(descriptor))?;
        }
        Ok(())
    }

    /// Once for each mount namespace.
    fn read_mounts(&mut self, thread: &Path, known: &mut HashSet<PathBuf>) -> io::Result<()> {
        let Some(mounts) = ignore_ended(fs::read_link(thread.join("ns/mnt")))? else {
            return Ok(());
        };
        if known.contains(&mounts) {
            return Ok(());
        }
        let Some(mountinfo) = ignore_ended(fs::read(thread.join("mountinfo")))? else {
            return Ok(());
        };
        for (number, mount_point) in mounted(&String::from_utf8_lossy(&mountinfo)) {
            let found = self.found.entry(number).or_default();
            let relative = mount_point.trim_start_matches('/');
            let path = thread.join("root").join(relative);
            // another mount over it, or over its folder, hides it
            if found.is_none() && inode(&path) == Some(number) {
                *found = Some(path.clone());
            }
            self.open_wanted(number, &path);
        }
        // the paths of a thread that has ended show nothing: another thread may show them
        if !is_ending(thread) {
            known.insert(mounts);
        }
        Ok(())
    }

    /// A path by which it cannot be opened is none: there may be another.
    fn open_wanted(&mut self, inode: u64, path: &Path) {
        let wanted = self.wanted.as_mut();
        if let Some(wanted) =
            wanted.filter(|wanted| wanted.inode == inode && wanted.opened.is_none())
        {
            wanted.opened = open_at(inode, path).ok().flatten();
        }
    }

    /// Inserts what the link refers to, if that is a network namespace.
    fn insert(&mut self, link: &Path) -> io::Result<()> {
        let target = ignore_ended(fs::read_link(link))?;
        if let Some(inode) = target.and_then(|target| number(target.to_str()?)) {
            let found = self.found.entry(inode).or_default();
            found.get_or_insert_with(|| link.to_owned());
            self.open_wanted(inode, link);
        }
        Ok(())
    }
}

/// Opens the namespace by another path if this one has become another file since it was found:
/// that of a process that ended, while others are in the namespace. None: it has ended.
fn open(inode: u64, path: &Path) -> crate::Result<Option<NetNs>> {
    let first = open_at(inode, path);
    let mut error = match first {
        Ok(Some(netns)) => return Ok(Some(netns)),
        Ok(None) => Error::io(path.display().to_string(), ErrorKind::NotFound),
        Err(error) => error,
    };
    for _ in 0..ATTEMPTS {
        let (now, opened) = match InUse::read_and_open(inode) {
            Ok(found) => found,
            Err(unreadable) => {
                error = Error::io("read /proc", unreadable);
                continue;
            }
        };
        // one that only unreadable processes are in is not found in the first place either
        if opened.is_some() || !now.contains(inode) {
            return Ok(opened);
        }
    }
    Err(error)
}

/// None: the path is another file.
fn open_at(inode: u64, path: &Path) -> crate::Result<Option<NetNs>> {
    let netns = NetNs::open(path)?;
    Ok((netns.inode()? == inode).then_some(netns))
}

/// What a namespace has.
struct Inside {
    veths: Vec<Link>,
    addresses: Vec<Address>,
    /// The number of the calling thread's namespace in it.
    number: Option<i32>,
    /// It is the calling thread's.
    is_here: bool,
}

/// None: the namespace has ended.
fn inspect(inode: u64, path: &Path, here: &Here) -> crate::Result<Option<Inside>> {
    let Some(netns) = open(inode, path)? else {
        return Ok(None);
    };
    let mut netlink = Netlink::open_in(&netns)?;
    let mut veths = netlink.links()?;
    veths.retain(|link| link.kind == Kind::Veth);
    Ok(Some(Inside {
        veths,
        addresses: netlink.addresses(None)?,
        number: netlink.nsid_of(&here.ns)?,
        is_here: here.ns.inode()? == inode,
    }))
}

/// The inode of a namespace's file. None: there is no file at the path.
pub fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.ino())
}

/// (inode, mount point) of the network namespaces in a proc_pid_mountinfo(5): the fourth field is
/// the path within the mounted file system, the fifth the mount point.
pub(crate) fn mounted(mountinfo: &str) -> impl Iterator<Item = (u64, String)> {
    mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let inode = number(fields.next()?)?;
        Some((inode, unescaped(fields.next()?)))
    })
}

/// Space, tab, newline and backslash are three octal digits after a backslash.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// `net:[4026531840]`
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn list(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = ignore_ended(fs::read_dir(folder))?.into_iter().flatten();
    let names = entries.map(|entry| ignore_ended(entry.map(|entry| entry.file_name())));
    Ok(names
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// True if the process or thread of this folder in /proc has ended or is about to: what it
/// still holds goes, and the kernel answers EACCES or EINVAL for most of its files.
fn is_ending(task: &Path) -> bool {
    match ignore_ended(fs::read(task.join("stat"))) {
        Ok(stat) => stat.is_none_or(|stat| is_ending_by(&String::from_utf8_lossy(&stat))),
        Err(_) => false,
    }
}

/// By a proc_pid_stat(5): the state is Z or X, or the flags have PF_EXITING (linux/sched.h). The
/// name in parentheses may have any character.
fn is_ending_by(stat: &str) -> bool {
    const PF_EXITING: u32 = 4;
    let Some((_, after_name)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = after_name.split_ascii_whitespace();
    let is_dead = matches!(fields.next(), Some("Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse().ok());
    is_dead || flags.is_some_and(|flags: u32| flags & PF_EXITING != 0)
}

/// None: the process has ended since it was listed.
fn ignore_ended<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    let ended = |error: &io::Error| {
        error.kind() == ErrorKind::NotFound
            || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
    };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if ended(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn mounted_namespaces_are_found() {
        let text = "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n\
                    40 35 0:4 net:[4026532281] /run/netns/p\\040q rw shared:7 - nsfs nsfs rw\n41 35 0:4";
        let found: Vec<_> = mounted(text).collect();
        assert_eq!(found, [(4026532281, "/run/netns/p q".to_owned())]);
        assert_eq!(unescaped("a\\134b\\9"), "a\\b\\9");
    }

    #[test]
    fn own_namespace_is_in_use() {
        let own = inode(Path::new("/proc/self/ns/net")).unwrap();
        assert!(InUse::read().unwrap().contains(own));
    }

    #[test]
    fn namespace_that_has_ended_is_none_also_where_a_process_cannot_be_read() {
        // with fewer capabilities than process 1 this process may not read that one
        let ended = open(1, Path::new("/proc/4194305/ns/net"));
        assert!(ended.unwrap().is_none());
    }

    #[test]
    fn tasks_that_end_are_recognised() {
        for (stat, ending) in [
            ("7 (a) S 1 7 7 0 -1 4194560 9 0", false),
            ("7 (a) R 1 7 7 0 -1 4194564 9 0", true),
            ("7 (a) Z 1 7 7 0 -1 0 9 0", true),
            ("7 (b) Z (c) S 1 7 7 0 -1 4194560 9 0", false),
            ("", false),
        ] {
            assert_eq!(is_ending_by(stat), ending, "{stat}");
        }
        assert!(!is_ending(Path::new("/proc/self")));
        assert!(is_ending(Path::new("/proc/4194305")));
    }

    #[test]
    fn what_can_be_read_counts_and_the_rest_is_reported() {
        let proc = tempfile::tempdir().unwrap();
        let process = |id: &str| {
            let folder = proc.path().join(id);
            fs::create_dir_all(folder.join(format!("task/{id}/ns"))).unwrap();
            symlink(
                format!("net:[{id}]"),
                folder.join(format!("task/{id}/ns/net")),
            )
            .unwrap();
            fs::write(folder.join("stat"), format!("{id} (a) S 1 1 1 0 -1 0")).unwrap();
            folder
        };
        process("17");
        // a file in place of a folder: read_dir fails, as it does without permission. That of a
        // process that has ended does not count.
        fs::write(process("18").join("fd"), "").unwrap();
        process("20");
        let found = InUse::read_from(proc.path()).unwrap();
        assert!([17, 18, 20].iter().all(|inode| found.contains(*inode)));
        assert!(found.unreadable.is_some());
        fs::write(proc.path().join("18/stat"), "18 (a) Z 1 1 1 0 -1 4").unwrap();
        let found = InUse::read_from(proc.path()).unwrap();
        assert!([17, 18, 20].iter().all(|inode| found.contains(*inode)));
        assert!(found.unreadable.is_none());
        assert!(InUse::read_from(&proc.path().join("absent")).is_err());
    }
}
