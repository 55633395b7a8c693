//! A value that does not fit the struct: path of the key and both types, in the wording of Go's
//! UnmarshalTypeError.

use serde::de::{self, Expected, Unexpected};
use std::fmt::{self, Display};

#[derive(Debug)]
pub(super) struct Mismatch {
    /// Keys from the innermost out.
    keys: Vec<String>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// Found and expected type.
    Type(String, String),
    Other(String),
}

impl Mismatch {
    /// Prepends the key of the enclosing object.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }

    /// Keys from the outermost in; elements of arrays have none.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.keys.iter().rev().map(String::as_str).collect()
    }

    fn type_error(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "bool".to_owned(),
            Unexpected::Unsigned(number) => format!("number {number}"),
            Unexpected::Signed(number) => format!("number {number}"),
            Unexpected::Float(number) => format!("number {number}"),
            Unexpected::Str(_) | Unexpected::Char(_) => "string".to_owned(),
            Unexpected::Unit | Unexpected::Option => "null".to_owned(),
            Unexpected::Seq => "array".to_owned(),
            Unexpected::Map => "object".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let expected = ["a ", "an "]
            .iter()
            .find_map(|article| expected.strip_prefix(article))
            .unwrap_or(&expected);
        // the name of the struct says nothing to those who write the document
        let expected = match expected.starts_with("struct ") {
            true => "object",
            false => expected,
        };
        Mismatch {
            keys: Vec::new(),
            reason: Reason::Type(found, expected.to_owned()),
        }
    }
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, self.keys().join(".").as_str()) {
            (Reason::Type(found, expected), "") => {
                write!(
                    f,
                    "json: cannot unmarshal {found} into a value of type {expected}"
                )
            }
            (Reason::Type(found, expected), path) => {
                write!(
                    f,
                    "json: cannot unmarshal {found} into field {path} of type {expected}"
                )
            }
            (Reason::Other(text), "") => f.write_str(text),
            (Reason::Other(text), path) => write!(f, "{path}: {text}"),
        }
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: Display>(text: T) -> Self {
        Mismatch {
            keys: Vec::new(),
            reason: Reason::Other(text.to_string()),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Mismatch::type_error(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Mismatch::type_error(found, expected)
    }
}
