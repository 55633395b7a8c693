//! What a plugin has to remember of an attachment until its DEL: one small JSON file each, `<folder>/<container>_<ifname>.json`.
//! The folder lies in /run: what a reboot makes meaningless goes with it.
use cni_conf::{Attachment, Code, Error};
use go_compat::json;
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    libc::O_TMPFILE,
    unistd::linkat,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Display,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// A folder of such files. All networks of the node share it.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// Made by the first write.
    pub fn new(folder: impl Into<PathBuf>) -> StateFolder {
        StateFolder(folder.into())
    }

    /// Where an attachment's file is.
    pub fn file(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.0.join(format!("{container_id}_{ifname}.json"))
    }

    /// Writes a file whole, whenever the process is killed. Indented by one space, as Go plugins do it.
    pub fn write(&self, file: &Path, content: &impl Serialize) -> Result<(), Error> {
        let failed = |error: &dyn Display| io_error("write", file, error);
        let mut text = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, indented);
        content
            .serialize(&mut serializer)
            .map_err(|error| failed(&error))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .and_then(|()| link_whole(&self.0, file, &text).or_else(|_| rename_whole(file, &text)))
            .map_err(|error| failed(&error))
    }

    /// None where there is none. One that makes no sense is as good as none.
    pub fn read<T: DeserializeOwned>(&self, file: &Path) -> Result<Option<T>, Error> {
        match fs::read(file) {
            Ok(bytes) => Ok(json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", file, &error)),
        }
    }

    /// Forgets an attachment, and what a killed write left of it; one that is forgotten already is no error.
    pub fn remove(&self, file: &Path) -> Result<(), Error> {
        for file in [&unfinished(file), file] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", file, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every file that can be read as a `T`.
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

    /// For GC: those of [`all`](Self::all) that belong to no valid attachment. Whether they are of the network that is collected,
    /// their content tells.
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

/// A file without a name, which gets one when it is complete. Not where there is one of that name already, nor on every kind of
/// file system.
fn link_whole(folder: &Path, file: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(O_TMPFILE);
    let mut nameless = options.open(folder)?;
    nameless.write_all(text)?;
    let descriptor = format!("/proc/self/fd/{}", nameless.as_raw_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(AT_FDCWD, descriptor.as_str(), AT_FDCWD, file, follow)?;
    Ok(())
}

/// Beside its place, and renamed into it.
fn rename_whole(file: &Path, text: &[u8]) -> io::Result<()> {
    let new = unfinished(file);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&new)?.write_all(text)?;
    fs::rename(&new, file)
}

fn unfinished(file: &Path) -> PathBuf {
    file.with_extension("new")
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
    fn kept_and_forgotten() {
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
        let valid = [Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
        }];
        assert_eq!(folder.without_owner(&valid), Ok(vec![(at("c2"), content)]));
        fs::write(unfinished(&at("c1")), "{").unwrap();
        folder.remove(&at("c1")).unwrap();
        folder.remove(&at("c1")).unwrap();
        assert_eq!(folder.read::<Content>(&at("c1")), Ok(None));
        // nothing half-written is left
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
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
