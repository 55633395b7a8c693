//! JSON as Go's encoding/json reads it: keys match case-insensitively, unknown keys are ignored, `null` leaves the default,
//! of a repeated key the last wins, a wrong type is an error; and as Go writes it (`<`, `>`, `&` escaped, keys of maps sorted).
use serde::de::DeserializeOwned;

/// Decodes bytes into a derived struct by the rules above. Works through `deserialize_struct`'s field list, so structs
/// need nothing but `#[derive(Deserialize)] #[serde(default)]`; never use `flatten`. Err: text in serde_json's manner.
pub fn from_slice<T: DeserializeOwned>(_bytes: &[u8]) -> Result<T, serde_json::Error> {
    todo!()
}
/// The same from a value that is already parsed.
pub fn from_value<T: DeserializeOwned>(_value: serde_json::Value) -> Result<T, serde_json::Error> {
    todo!()
}
/// Go's `json.Marshal` of a `map[string]any`: compact, keys sorted, HTML characters escaped, float64 number forms.
pub fn marshal_map(_map: &serde_json::Map<String, serde_json::Value>) -> String {
    todo!()
}
