//! `/proc/sys`, of the calling thread's network namespace.
use crate::Result;
/// `get("net/ipv4/ip_forward")`, trimmed. Dots stay dots: interface names may hold them.
pub fn get(_key: &str) -> Result<String> {
    todo!()
}
/// Writes only if the value differs (a read-only /proc/sys that already says so is no error).
pub fn set(_key: &str, _value: &str) -> Result<()> {
    todo!()
}
