//! `uninstall-cni`: the folders as they were before.

use super::{
    error::Error,
    finish,
    folder::{Folder, KEPT_SUFFIX, TakenBack},
};
use crate::cli::commands::UninstallCni;
use std::{path::Path, process::ExitCode};

/// Undoes install-conf and install-cni.
pub(in crate::command) fn uninstall(options: &UninstallCni) -> ExitCode {
    finish(take_back(options))
}

/// The configuration first: without it a runtime asks for no plugin.
pub(super) fn take_back(options: &UninstallCni) -> Result<Vec<String>, Error> {
    let mut lines = take_back_folder(&options.conf_dir)?;
    lines.extend(take_back_folder(&options.bin_dir)?);
    if lines.is_empty() {
        lines.push(format!(
            "nothing of install-cni and install-conf is in {} and {}",
            options.bin_dir.display(),
            options.conf_dir.display()
        ));
    }
    Ok(lines)
}

fn take_back_folder(path: &Path) -> Result<Vec<String>, Error> {
    let Some(mut folder) = Folder::existing(path)? else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::new();
    for name in folder.names()? {
        let file = folder.file(&name).display().to_string();
        match folder.take_back(&name)? {
            TakenBack::Nothing => {}
            TakenBack::Removed => lines.push(format!("{file} (removed)")),
            TakenBack::Restored => lines.push(format!("{file} (what was there is back)")),
            TakenBack::Left => lines.push(format!(
                "{file} (left: it was changed after it was installed; {file}{KEPT_SUFFIX}, where present, is older)"
            )),
        }
    }
    folder.remove_record()?;
    Ok(lines)
}
