//! Entry points of the fuzz targets in tests/fuzz.

use super::message::{self, Request};

/// A message to the process, as its socket receives it.
pub(crate) fn message(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(request)) = message::receive::<Request>(&mut rest) {
        if let Request::Configure(config) = request {
            drop(config.settings());
            config.check().ok();
        }
    }
}
