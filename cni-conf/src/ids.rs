//! Container ids, network names and interface names (CNI spec section 2, and skel's checks and messages).
use crate::Error;
/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, else code 4 `invalid characters in containerID`, details = the id.
pub fn check_container_id(_id: &str) -> Result<(), Error> {
    todo!()
}
/// Same pattern; empty: code 7 `missing network name`; else code 7 `invalid characters found in network name`, details = the name.
pub fn check_network_name(_name: &str) -> Result<(), Error> {
    todo!()
}
/// At most 15 bytes, not `.` or `..`, no `/`, `:` or whitespace; code 4 with skel's messages.
pub fn check_interface_name(_name: &str) -> Result<(), Error> {
    todo!()
}
