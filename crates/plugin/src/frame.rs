//! The frame of every plugin (upstream: pkg/skel): reads the environment and stdin, checks, calls the verb, prints.
use crate::{Call, delegate::Registry};
use cni_conf::{AddResult, Error, Version};
use std::process::ExitCode;

/// What ADD gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum AddOutput {
    /// Converted to the configuration's version by the frame.
    Result(AddResult),
    /// A delegate's stdout, printed as it is.
    Raw(Vec<u8>),
}

/// A CNI plugin. Verbs never touch stdout or the environment.
pub trait Plugin: Sync {
    /// The name it is executed by.
    fn name(&self) -> &'static str;
    /// The first line for people (CNI_COMMAND unset), `CNI bridge plugin v0.1.0`.
    fn about(&self) -> String {
        format!("CNI {} plugin v{}", self.name(), env!("CARGO_PKG_VERSION"))
    }
    /// Versions it speaks.
    fn versions(&self) -> &'static [Version] {
        Version::ALL
    }
    /// ADD
    fn add(&self, call: &Call) -> Result<AddOutput, Error>;
    /// CHECK
    fn check(&self, call: &Call) -> Result<(), Error>;
    /// DEL
    fn del(&self, call: &Call) -> Result<(), Error>;
    /// GC: call.net.valid_attachments tells who stays; without that key nothing is to be done
    fn gc(&self, call: &Call) -> Result<(), Error>;
    /// STATUS: Ok means that the next ADD can work
    fn status(&self, call: &Call) -> Result<(), Error>;
}

/// One verb of one plugin with a checked call: the bytes for stdout (ADD) or nothing. Used by `main` and by delegation in process.
pub fn invoke(_plugin: &dyn Plugin, _call: &Call) -> Result<Vec<u8>, Error> {
    todo!()
}

/// The whole life of a plugin process: environment, stdin, checks in skel's order, verb, stdout. Exit code 1 after an error.
pub fn main(_plugin: &'static dyn Plugin, _registry: Registry) -> ExitCode {
    todo!()
}
