//! The data of CNI: network configurations, results of every spec version, errors and their codes.
//! Pure data and parsing, independent of Linux.

pub mod args;
pub mod error;
pub mod ids;
pub mod net_conf;
pub mod result;
pub mod version;

pub use error::{Code, Error};
pub use net_conf::{GcAttachment, NetConf};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
