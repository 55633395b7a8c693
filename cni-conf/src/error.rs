//! The error that a plugin prints (CNI spec section 5 "Error").
use go_compat::json;

/// Well-known error codes (CNI spec 1.1, section 5; 8 is the Go library's own; 999 is "internal").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// nothing is known
    Unknown = 0,
    /// the plugin does not speak the configuration's version
    IncompatibleVersion = 1,
    /// the message holds the field and its value
    UnsupportedField = 2,
    /// the container is unknown: the runtime need not clean up
    UnknownContainer = 3,
    /// a variable like CNI_CONTAINERID is missing or malformed
    InvalidEnvironment = 4,
    /// reading or writing failed
    Io = 5,
    /// something read does not parse
    Decode = 6,
    /// the configuration parses and is wrong
    InvalidNetworkConfig = 7,
    /// CNI_NETNS is wrong
    InvalidNetNs = 8,
    /// a passing condition: the runtime should try again
    TryAgainLater = 11,
    /// STATUS: no ADD can work now
    NotAvailable = 50,
    /// STATUS: no ADD can work now, and existing containers may be cut off
    LimitedConnectivity = 51,
    /// any other error
    Internal = 999,
}

/// A CNI error: code, message, details (left out of the JSON when empty).
#[derive(
    Debug, Clone, Default, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!("; {details}") })]
#[serde(default)]
pub struct Error {
    /// numeric code, also plugin-specific ones
    pub code: u32,
    /// what happened
    pub msg: String,
    /// longer text
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// With a code and a message.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self {
            code: code as u32,
            msg: msg.into(),
            details: String::new(),
        }
    }
    /// Code 999, what a plain Go `error` becomes.
    pub fn internal(msg: impl std::fmt::Display) -> Self {
        Self::new(Code::Internal, msg.to_string())
    }
    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
    /// Puts `prefix: ` before the message, keeping the code.
    #[must_use]
    pub fn context(mut self, prefix: impl std::fmt::Display) -> Self {
        self.msg = format!("{prefix}: {}", self.msg);
        self
    }
    /// The JSON for stdout: 4-space indentation, keys code, msg, details (omitted if empty), no
    /// newline at the end.
    pub fn to_json(&self) -> String {
        json::marshal_indent(self)
    }
    /// Reads what a plugin printed on failure; None if it is not an error object: an object with a
    /// code or a message.
    pub fn from_json(bytes: &[u8]) -> Option<Error> {
        let error: Error = json::from_slice(bytes).ok()?;
        (error != Error::default()).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes() {
        let error = Error::new(
            Code::InvalidEnvironment,
            "invalid characters in containerID",
        );
        assert_eq!(
            error.to_json(),
            "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\"\n}"
        );
        assert_eq!(
            error.details("a<b>").to_json(),
            "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\",\n    \"details\": \"a\\u003cb\\u003e\"\n}"
        );
    }

    #[test]
    fn context_keeps_the_code() {
        let error = Error::new(Code::TryAgainLater, "busy")
            .context("store")
            .details("x");
        assert_eq!(
            (error.code, error.to_string().as_str()),
            (11, "store: busy; x")
        );
    }

    #[test]
    fn what_is_no_error_object() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "text",
            "{\"code\":\"4\"}",
            "{\"cniVersion\":\"1.0.0\"}",
        ] {
            assert_eq!(Error::from_json(text.as_bytes()), None, "{text}");
        }
        let read = Error::from_json(br#"{"cniVersion":"1.0.0","Code":7,"MSG":"m","details":null}"#);
        assert_eq!(read, Some(Error::new(Code::InvalidNetworkConfig, "m")));
    }

    proptest! {
        #[test]
        fn comes_back(code in 1u32.., msg: String, details: String) {
            let error = Error { code, msg, details };
            prop_assert_eq!(Error::from_json(error.to_json().as_bytes()), Some(error));
        }
    }
}
