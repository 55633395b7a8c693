//! Finds the executable of a plugin (upstream: pkg/invoke FindInPath).

use cni_conf::Error;
use std::path::{Path, PathBuf};

/// The first regular file of that name in the folders of `path`. It may lack the permission to be
/// executed.
pub fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, Error> {
    if name.is_empty() {
        return Err(Error::internal("no plugin name provided"));
    }
    if name.contains('/') {
        return Err(Error::internal(format!("invalid plugin name: {name}")));
    }
    if path.is_empty() {
        return Err(Error::internal("no paths provided"));
    }
    path.iter()
        .map(|dir| dir.join(name))
        .find(|file| is_file(file))
        .ok_or_else(|| {
            let dirs: Vec<_> = path.iter().map(|dir| dir.to_string_lossy()).collect();
            Error::internal(format!(
                "failed to find plugin {name:?} in path [{}]",
                dirs.join(" ")
            ))
        })
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_regular_file_is_found() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = [a.path().to_owned(), b.path().to_owned()];
        std::fs::create_dir(a.path().join("bridge")).unwrap();
        std::fs::write(b.path().join("bridge"), "").unwrap();
        assert_eq!(find("bridge", &path), Ok(b.path().join("bridge")));
        std::fs::write(a.path().join("dhcp"), "").unwrap();
        std::fs::write(b.path().join("dhcp"), "").unwrap();
        assert_eq!(find("dhcp", &path), Ok(a.path().join("dhcp")));
    }

    #[test]
    fn errors_have_upstreams_wording() {
        let path = ["/nowhere/a".into(), "/nowhere/b".into()];
        let message = |name, path| find(name, path).unwrap_err().msg;
        assert_eq!(message("", &path), "no plugin name provided");
        assert_eq!(message("../x", &path), "invalid plugin name: ../x");
        assert_eq!(message("x", &[]), "no paths provided");
        assert_eq!(
            message("x", &path),
            r#"failed to find plugin "x" in path [/nowhere/a /nowhere/b]"#
        );
        assert!(message("..", &path).starts_with("failed to find plugin"));
    }
}
