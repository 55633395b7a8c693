//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::{
    allowlist,
    backup::Backup,
    conf::{self, Conf},
};
use plugin::Call;

/// A call. DEL finds the folder of the backups in whatever it is given.
pub fn call(call: &Call) {
    let folder = conf::state_folder(call);
    if plugin::fuzz::is_del(call) {
        assert!(folder.is_ok(), "DEL reads only dataDir");
        return;
    }
    let Ok(conf) = Conf::read(call) else { return };
    conf.link.change().ok();
    if conf.sysctls.check().is_ok() {
        for path in conf.sysctls.paths("eth0") {
            let text = path.as_deref().unwrap_or_default();
            assert!(text.starts_with("net/") && !text.contains("//"), "{path:?}");
        }
    }
}

/// A backup, and an allowlist.
pub fn files(bytes: &[u8]) {
    if let Ok(backup) = go_compat::json::from_slice::<Backup>(bytes) {
        backup.change().ok();
        let text = go_compat::json::marshal(&backup).into_bytes();
        let again = go_compat::json::from_slice::<Backup>(&text);
        assert_eq!(again.ok(), Some(backup));
    }
    allowlist::fuzz(&String::from_utf8_lossy(bytes));
}
