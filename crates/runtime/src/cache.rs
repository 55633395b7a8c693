//! The cache of results between ADD and DEL: `CACHE/results/NETWORK-CONTAINER_ID-IFNAME`, as libcni
//! writes and reads it (kind cniCacheV1). Unlike libcni's, each file is replaced as a whole.

use crate::{conf_list::ConfList, runtime_conf::RuntimeConf};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use cni_conf::{AddResult, Code, Error, GcAttachment, Version};
use go_compat::json;
use serde_json::{Map, Value, json};
use std::{fs, io, path::PathBuf};

const KIND: &str = "cniCacheV1";

/// Longest file that is read, in bytes: it has the configuration, 16 MiB at most, and the result.
const MAX_LEN: u64 = 64 << 20;

/// Not synced: readers can do without a result that a power loss damaged.
const FILE: atomic_file::Options = atomic_file::Options {
    folder_mode: Some(0o700),
    concurrent: true,
    ..atomic_file::Options::new(0o600)
};

/// The content of a file, less `config`, which only Go's libcni reads.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    kind: String,
    #[serde(rename = "containerId")]
    pub(crate) container_id: String,
    #[serde(rename = "ifName")]
    pub(crate) ifname: String,
    #[serde(rename = "networkName")]
    network: String,
    netns: String,
    #[serde(rename = "cniArgs")]
    args: Vec<(String, String)>,
    #[serde(rename = "capabilityArgs")]
    capability_args: Map<String, Value>,
    result: Value,
}

impl Entry {
    pub(crate) fn attachment(&self) -> GcAttachment {
        GcAttachment {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }

    /// The parameters of ADD, for the DEL of a GC.
    pub(crate) fn runtime_conf(&self) -> RuntimeConf {
        RuntimeConf {
            container_id: self.container_id.clone(),
            netns: self.netns.clone(),
            ifname: self.ifname.clone(),
            args: self.args.clone(),
            capability_args: self.capability_args.clone(),
        }
    }
}

/// The folder of the results.
pub(crate) struct Cache {
    pub(crate) dir: PathBuf,
}

impl Cache {
    /// Writes `result`, which has the shape of the list's version.
    pub(crate) fn write(
        &self,
        list: &ConfList,
        rc: &RuntimeConf,
        result: &Value,
    ) -> Result<(), Error> {
        let mut entry = json!({
            "kind": KIND,
            "containerId": rc.container_id,
            "config": BASE64.encode(list_text(list)),
            "ifName": rc.ifname,
            "networkName": list.name,
            "netns": rc.netns,
            "result": result,
        });
        if !rc.args.is_empty() {
            entry["cniArgs"] = json!(rc.args);
        }
        if !rc.capability_args.is_empty() {
            entry["capabilityArgs"] = json!(rc.capability_args);
        }
        let file = self.file(list, rc);
        FILE.write(&file, entry.to_string().as_bytes())
            .map_err(|error| Error::new(Code::Io, format!("write {}: {error}", file.display())))
    }

    /// The cached result in the shape of `version`; None without a file. Err if it is damaged.
    pub(crate) fn result(
        &self,
        list: &ConfList,
        rc: &RuntimeConf,
        version: Version,
    ) -> Result<Option<Value>, Error> {
        let Ok(bytes) = atomic_file::read_whole(&self.file(list, rc), MAX_LEN) else {
            return Ok(None);
        };
        let result = match json::from_slice::<Entry>(&bytes) {
            Ok(entry) if entry.kind == KIND => AddResult::from_value(&entry.result, version),
            // before libcni 0.8 the file was the result itself
            _ => AddResult::parse(&bytes, version),
        }?;
        result.to_value(version).map(Some)
    }

    /// A missing file is no error.
    pub(crate) fn remove(&self, list: &ConfList, rc: &RuntimeConf) -> Result<(), Error> {
        let file = self.file(list, rc);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new(
                Code::Io,
                format!("remove {}: {error}", file.display()),
            )),
            _ => Ok(()),
        }
    }

    /// The entries of a network in the order of their names. Skips files that cannot be read.
    pub(crate) fn entries(&self, network: &str) -> Result<Vec<Entry>, Error> {
        let folder = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder.map_err(|error| {
                Error::new(Code::Io, format!("open {}: {error}", self.dir.display()))
            })?,
        };
        let mut files: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
        files.sort();
        Ok(files
            .iter()
            .filter_map(|file| {
                json::from_slice::<Entry>(&atomic_file::read_whole(file, MAX_LEN).ok()?).ok()
            })
            .filter(|entry| {
                entry.kind == KIND && entry.network == network && !entry.ifname.is_empty()
            })
            .collect())
    }

    fn file(&self, list: &ConfList, rc: &RuntimeConf) -> PathBuf {
        (self.dir).join(format!("{}-{}-{}", list.name, rc.container_id, rc.ifname))
    }
}

/// The list as JSON.
fn list_text(list: &ConfList) -> String {
    let mut object = json!({
        "cniVersion": list.cni_version,
        "name": list.name,
        "plugins": list.plugins,
    });
    if list.disable_check {
        object["disableCheck"] = true.into();
    }
    if list.disable_gc {
        object["disableGC"] = true.into();
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ConfList {
        ConfList {
            cni_version: "1.0.0".into(),
            name: "net".into(),
            disable_check: false,
            disable_gc: false,
            plugins: vec![],
        }
    }

    fn container(id: &str) -> RuntimeConf {
        RuntimeConf {
            container_id: id.into(),
            netns: "/run/netns/x".into(),
            ifname: "eth0".into(),
            args: vec![("IgnoreUnknown".into(), "1".into())],
            ..RuntimeConf::default()
        }
    }

    fn cache(dir: &tempfile::TempDir) -> Cache {
        Cache {
            dir: dir.path().join("results"),
        }
    }

    #[test]
    fn results_are_written_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir);
        let result = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]});
        cache.write(&list(), &container("c1"), &result).unwrap();
        cache.write(&list(), &container("c2"), &result).unwrap();
        assert_eq!(
            cache.result(&list(), &container("c1"), Version::V1_0_0),
            Ok(Some(result))
        );
        let entries = cache.entries("net").unwrap();
        let ids: Vec<_> = entries
            .iter()
            .map(|entry| entry.container_id.as_str())
            .collect();
        assert_eq!(ids, ["c1", "c2"]);
        assert_eq!(entries[0].runtime_conf().args, container("c1").args);
        assert!(cache.entries("other").unwrap().is_empty());
        cache.remove(&list(), &container("c1")).unwrap();
        cache.remove(&list(), &container("c1")).unwrap();
        assert_eq!(cache.entries("net").unwrap().len(), 1);
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1);
    }

    #[test]
    fn damaged_and_legacy_files_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&dir);
        fs::create_dir_all(&cache.dir).unwrap();
        let get = |text: &str| {
            fs::write(cache.file(&list(), &container("c1")), text).unwrap();
            cache.result(&list(), &container("c1"), Version::V1_0_0)
        };
        assert!(get("").is_err());
        assert!(get(r#"{"kind":"cniCacheV1","result":"#).is_err());
        // as libcni before 0.8 wrote it, in another version than the list's
        let legacy = get(
            r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.2.3/24"}],"dns":{}}"#,
        );
        let legacy = legacy.unwrap().unwrap();
        assert_eq!(legacy["ips"][0]["address"], "10.1.2.3/24");
        assert_eq!(legacy["cniVersion"], "1.0.0");
        assert!(cache.entries("net").unwrap().is_empty());
    }
}
