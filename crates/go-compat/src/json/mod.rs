//! JSON as Go's encoding/json reads it: keys match case-insensitively, unknown keys are ignored,
//! `null` leaves the default, the last of a repeated key wins, a wrong type is an error; and as Go
//! writes it (`<`, `>`, `&` escaped, keys of maps sorted).
//!
//! As in Go, invalid UTF-8 is replaced, and a value that is not read may be any JSON. One that is
//! read may be nested 100 levels deep (Go: 10,000); the caller limits the size.

mod mismatch;
mod read;
mod tree;
mod write;

use mismatch::Mismatch;
use serde::de::DeserializeOwned;
use tree::Tree;

pub use write::{marshal, marshal_indent};

/// Why a document cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    /// A key has a value of the wrong type. The text names the key:
    /// `json: cannot unmarshal string into field ipam.mtu of type u32`.
    #[error("{0}")]
    Type(String),
}

/// How many wrong keys [`Document::decode_what_fits`] drops one by one. Then it drops whole keys of
/// the outermost object, so that a large document does not take long.
const MAX_SINGLE_KEYS: u32 = 50;

/// A parsed JSON text, which can be decoded into several structs.
#[derive(Debug, Clone)]
pub struct Document(Tree);

impl Document {
    /// Parses a JSON text.
    pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
        Ok(Document(Tree::parse(&String::from_utf8_lossy(bytes))?))
    }

    /// Decodes into a derived struct by the rules above, with the field list that
    /// `deserialize_struct` passes. Structs need `#[derive(Deserialize)] #[serde(default)]`;
    /// `flatten` and `untagged` pass no field list and must not be used.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(read::Reader(&self.0))
            .map_err(|mismatch: Mismatch| Error::Type(mismatch.to_string()))
    }

    /// As [`decode`](Self::decode), but a key with a value of the wrong type counts as absent. An
    /// error only if the document is no object.
    pub fn decode_what_fits<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut tree = self.0.clone();
        for round in 0.. {
            let mismatch: Mismatch = match T::deserialize(read::Reader(&tree)) {
                Ok(decoded) => return Ok(decoded),
                Err(mismatch) => mismatch,
            };
            let mut keys = mismatch.keys();
            if round >= MAX_SINGLE_KEYS {
                keys.truncate(1);
            }
            if !tree.remove(&keys, read::is_key) {
                return Err(Error::Type(mismatch.to_string()));
            }
        }
        self.decode()
    }
}

impl From<serde_json::Value> for Document {
    /// The keys of a value are sorted: of keys that differ in case alone, the last in byte order
    /// wins, not the last in the text.
    fn from(value: serde_json::Value) -> Document {
        Document(value.into())
    }
}

/// [`Document::parse`] and [`Document::decode`].
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Document::parse(bytes)?.decode()
}

/// Decodes a value that is already parsed.
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    Document::from(value).decode()
}

#[cfg(test)]
mod tests;
