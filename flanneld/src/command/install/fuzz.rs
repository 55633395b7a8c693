//! The fuzz target of what the install commands read.

use super::{
    conf, elf,
    record::{Record, is_file_name},
};
use std::path::Path;

/// An executable, a configuration, or a record: names in a record are those of files in its folder,
/// and it is written as it is read.
pub(crate) fn files(bytes: &[u8]) {
    drop(elf::check(bytes));
    let path = Path::new("10-flannel.conflist");
    drop(conf::check_json(path, path, bytes));
    let record = Record::parse(&String::from_utf8_lossy(bytes));
    assert!(record.names().all(is_file_name));
    let text = record.to_string();
    assert_eq!(Record::parse(&text), record, "{text:?}");
}
