//! State files: what a plugin keeps of an attachment for DEL, one JSON file each,
//! `FOLDER/CONTAINER_ID_IFNAME.json`. The folder is in /run: a reboot makes its content obsolete.

use crate::{Attachment, warn};
use cni_conf::{Code, Error};
use go_compat::json;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

/// Not synced: the folder does not survive a power loss.
const FILE: atomic_file::Options = atomic_file::Options {
    folder_mode: Some(0o700),
    unnamed: true,
    ..atomic_file::Options::new(0o600)
};

/// Longest file that is read, in bytes. Those of the plugins have some hundred.
const MAX_LEN: u64 = 1 << 20;

/// The folder of a plugin's state files. All networks of the node share it.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// The first write creates the folder.
    pub fn new(folder: impl Into<PathBuf>) -> StateFolder {
        StateFolder(folder.into())
    }

    /// Path of the file of an attachment.
    pub fn file(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.0.join(format!("{container_id}_{ifname}.json"))
    }

    /// Writes a complete file or none. Indented by one space, as Go's plugins do.
    pub fn write(&self, file: &Path, content: &impl Serialize) -> Result<(), Error> {
        let failed = |error: &dyn Display| io_error("write", file, error);
        let mut text = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, indented);
        content
            .serialize(&mut serializer)
            .map_err(|error| failed(&error))?;
        FILE.write(file, &text).map_err(|error| failed(&error))
    }

    /// None if the file is missing or damaged. What is too large, or no regular file, is damaged: a
    /// warning names it, and DEL removes it.
    pub fn read<T: DeserializeOwned>(&self, file: &Path) -> Result<Option<T>, Error> {
        match atomic_file::read_whole(file, MAX_LEN) {
            Ok(bytes) => Ok(json::from_slice(&bytes).ok()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) if atomic_file::is_foreign(&error) => {
                warn(format_args!("{} is ignored: {error}", file.display()));
                Ok(None)
            }
            Err(error) => Err(io_error("read", file, &error)),
        }
    }

    /// Removes a file, also what a killed write left. A missing file is no error.
    pub fn remove(&self, file: &Path) -> Result<(), Error> {
        let remove = |file: &Path| match fs::remove_file(file) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        };
        atomic_file::unfinished(file)
            .and_then(|unfinished| remove(&unfinished))
            .and_then(|()| remove(file))
            .map_err(|error| io_error("remove", file, &error))
    }

    /// Every file that can be decoded as `T`.
    pub fn all<T: DeserializeOwned>(&self) -> Result<Vec<(PathBuf, T)>, Error> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| io_error("open", &self.0, &error))?,
        };
        let files = entries.flatten().map(|entry| entry.path());
        Ok(files
            .filter(|file| {
                file.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .filter_map(|file| Some((file.clone(), self.read(&file).ok()??)))
            .collect())
    }

    /// The files of [`all`](Self::all) that belong to no valid attachment, for GC. They may be of
    /// other networks, which only their content tells.
    pub fn without_owner<T: DeserializeOwned>(
        &self,
        valid: &[Attachment],
    ) -> Result<Vec<(PathBuf, T)>, Error> {
        let valid: Vec<_> = valid
            .iter()
            .map(|one| self.file(&one.container_id, &one.ifname))
            .collect();
        let mut all = self.all()?;
        all.retain(|(file, _)| !valid.contains(file));
        Ok(all)
    }
}

/// No file has a name that is too long for the file system.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename
    )
}

fn io_error(what: &str, file: &Path, error: &dyn Display) -> Error {
    Error::new(
        Code::Io,
        format!("failed to {what} {}: {error}", file.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Content = BTreeMap<String, u32>;

    #[test]
    fn files_are_written_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(dir.path().join("a/b"));
        assert!(folder.all::<Content>().unwrap().is_empty());
        let at = |id: &str| folder.file(id, "eth0");
        let content = Content::from([("mtu".to_owned(), 1500)]);
        for id in ["c1", "c2", "c3"] {
            folder.write(&at(id), &content).unwrap();
        }
        assert_eq!(
            fs::read_to_string(at("c1")).unwrap(),
            "{\n \"mtu\": 1500\n}"
        );
        assert_eq!(folder.read(&at("c1")), Ok(Some(content.clone())));
        // over another one
        folder.write(&at("c2"), &Content::new()).unwrap();
        assert_eq!(folder.read(&at("c2")), Ok(Some(Content::new())));
        folder.write(&at("c2"), &content).unwrap();
        fs::write(at("c3"), "{").unwrap();
        assert_eq!(folder.read::<Content>(&at("c3")), Ok(None));
        let valid = [Attachment::new("net", "c1", "eth0")];
        assert_eq!(folder.without_owner(&valid), Ok(vec![(at("c2"), content)]));
        fs::write(atomic_file::unfinished(&at("c1")).unwrap(), "{").unwrap();
        folder.remove(&at("c1")).unwrap();
        folder.remove(&at("c1")).unwrap();
        assert_eq!(folder.read::<Content>(&at("c1")), Ok(None));
        // nothing half-written is left
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_state_file_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(dir.path());
        let (large, fifo) = (folder.file("large", "eth0"), folder.file("fifo", "eth0"));
        let file = fs::File::create(&large).unwrap();
        file.set_len(MAX_LEN + 1).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for file in [&large, &fifo] {
            assert_eq!(folder.read::<Content>(file), Ok(None));
        }
        assert_eq!(folder.all::<Content>(), Ok(Vec::new()));
        for file in [&large, &fifo] {
            folder.remove(file).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // up to the limit it counts
        let content = Content::from([("mtu".to_owned(), 1500)]);
        folder.write(&large, &content).unwrap();
        let mut text = fs::read(&large).unwrap();
        text.resize(usize::try_from(MAX_LEN).unwrap(), b' ');
        fs::write(&large, text).unwrap();
        assert_eq!(folder.read(&large), Ok(Some(content)));
    }

    #[test]
    fn write_error_names_the_file() {
        let folder = StateFolder::new("/proc/nowhere");
        let error = folder.write(&folder.file("c", "eth0"), &1).unwrap_err();
        assert!(
            error
                .msg
                .starts_with("failed to write /proc/nowhere/c_eth0.json: "),
            "{error}"
        );
        assert_eq!(error.code, 5);
    }
}
