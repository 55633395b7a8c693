//! The error that a plugin prints (CNI spec section 5 "Error").

use go_compat::json;

/// Well-known error codes (CNI spec 1.1, section 5; 8 and 999 are of the Go library).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The plugin printed no error of its own.
    Unknown = 0,
    /// The plugin does not support the version of the configuration.
    IncompatibleVersion = 1,
    /// The message names the field and its value.
    UnsupportedField = 2,
    /// The container is unknown: the runtime need not call DEL.
    UnknownContainer = 3,
    /// A CNI_* variable is missing or malformed.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The configuration, or something else that was read, does not parse.
    Decode = 6,
    /// The configuration parses and is invalid.
    InvalidNetworkConfig = 7,
    /// CNI_NETNS is invalid.
    InvalidNetNs = 8,
    /// A transient condition: the runtime should try again.
    TryAgainLater = 11,
    /// STATUS: no ADD can work now.
    NotAvailable = 50,
    /// STATUS: no ADD can work now, and existing containers may lack connectivity.
    LimitedConnectivity = 51,
    /// Any other error.
    Internal = 999,
}

/// A CNI error.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!("; {details}") })]
#[serde(default)]
pub struct Error {
    /// A [`Code`], or from 100 on a code of the plugin.
    pub code: u32,
    /// One line.
    pub msg: String,
    /// More lines; not in the JSON if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self {
            code: code as u32,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// Code 999, as a plain Go `error`.
    pub fn internal(msg: impl std::fmt::Display) -> Self {
        Self::new(Code::Internal, msg.to_string())
    }

    /// Sets the details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Prepends `prefix: ` to the message and keeps the code.
    #[must_use]
    pub fn context(mut self, prefix: impl std::fmt::Display) -> Self {
        self.msg = format!("{prefix}: {}", self.msg);
        self
    }

    /// The JSON for stdout: 4-space indentation, no newline at the end.
    pub fn to_json(&self) -> String {
        json::marshal_indent(self)
    }

    /// Reads the stdout of a failed plugin. None unless it is an object with a code or a message.
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
    fn json_has_upstreams_bytes() {
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
    fn other_texts_are_not_errors() {
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
        fn json_is_read_back(code in 1u32.., msg: String, details: String) {
            let error = Error { code, msg, details };
            prop_assert_eq!(Error::from_json(error.to_json().as_bytes()), Some(error));
        }
    }
}
