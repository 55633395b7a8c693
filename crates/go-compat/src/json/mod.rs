//! JSON as Go's encoding/json reads it: keys match case-insensitively, unknown keys are ignored,
//! `null` leaves the default, of a repeated key the last wins, a wrong type is an error; and as Go
//! writes it (`<`, `>`, `&` escaped, keys of maps sorted).
//!
//! Nesting is bounded by serde_json (128 levels, Go: 10,000), size by whoever reads the bytes.
mod mismatch;
mod read;
mod tree;
mod write;

use serde::de::{DeserializeOwned, Error as _};
use tree::Tree;
pub use write::{marshal, marshal_indent};

/// Decodes bytes into a derived struct by the rules above. Works through `deserialize_struct`'s
/// field list, so structs need nothing but `#[derive(Deserialize)] #[serde(default)]`; never use
/// `flatten` or `untagged`, which go around that list. Err: serde_json's text for a syntax error,
/// else one that names the key: `json: cannot unmarshal string into field ipam.mtu of type u32`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    decode(serde_json::from_slice(bytes)?)
}

/// The same from a value that is already parsed. Of keys that differ in case alone, the last in
/// byte order wins: the value does not tell any more which came last.
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, serde_json::Error> {
    decode(value.into())
}

fn decode<T: DeserializeOwned>(tree: Tree) -> Result<T, serde_json::Error> {
    T::deserialize(read::Reader(tree)).map_err(serde_json::Error::custom)
}

#[cfg(test)]
mod tests;
