//! Why a verb failed. Texts are upstream's where upstream refuses the same.

use cni_conf::{Code, Error};
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A key has the wrong type.
    #[error("failed to load netconf: {0}")]
    Keys(#[from] go_compat::json::Error),
    /// CNI_ARGS, prevResult or a backup cannot be used.
    #[error(transparent)]
    Cni(#[from] Error),
    /// A name of `sysctl` occurs twice.
    #[error("duplicated sysctl keys are not allowed")]
    DuplicateSysctl,
    /// A name of `sysctl` is not below `net`; given with slashes.
    #[error("invalid net sysctl key: {0:?}")]
    SysctlName(String),
    /// The list of allowed sysctls cannot be read.
    #[error("read {file}: {source}")]
    ReadAllowlist {
        file: &'static str,
        source: io::Error,
    },
    /// A line of this list is no regular expression.
    #[error("{file}: {line:?}: {source}")]
    AllowlistLine {
        file: &'static str,
        line: String,
        source: regex_lite::Error,
    },
    /// No line of this list matches the sysctl.
    #[error(
        "Sysctl {name} is not allowed. Only the following sysctls are allowed: [{}]",
        allowed.join(" ")
    )]
    NotAllowed { name: String, allowed: Vec<String> },
    /// A MAC address cannot be parsed.
    #[error("invalid args {text} for MAC addr: {reason}")]
    Mac { text: String, reason: String },
    /// A number is not in the kernel's range.
    #[error("invalid {key} {value}")]
    Number { key: &'static str, value: i64 },
    /// ADD does not find the interface.
    #[error("failed to get {0:?}: Link not found")]
    NoLink(String),
    /// CHECK does not find the interface.
    #[error("Cannot find container link {0}")]
    NoLinkToCheck(String),
    /// CHECK finds another value of a sysctl or a setting of the interface.
    #[error("Error: Tuning {setting} is {wanted}, current value is {found}")]
    Differs {
        setting: String,
        wanted: String,
        found: String,
    },
    /// The kernel refused a request.
    #[error(transparent)]
    Kernel(#[from] linux_net::Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Cni(error) => error,
            Failure::ReadAllowlist { .. } => Error::new(Code::Io, failure.to_string()),
            _ => Error::internal(failure),
        }
    }
}
