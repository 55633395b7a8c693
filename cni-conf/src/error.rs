//! The error that a plugin prints (CNI spec section 5 "Error").

/// Well-known error codes (CNI spec 1.1, section 5; 8 is the Go library's own; 999 is "internal").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    Unknown = 0,
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidNetworkConfig = 7,
    InvalidNetNs = 8,
    TryAgainLater = 11,
    NotAvailable = 50,
    LimitedConnectivity = 51,
    Internal = 999,
}

/// A CNI error: code, message, details (left out of the JSON when empty).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!("; {details}") })]
pub struct Error {
    /// numeric code, also plugin-specific ones
    pub code: u32,
    /// what happened
    pub msg: String,
    /// longer text
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
    /// The JSON for stdout: 4-space indentation, keys code, msg, details (omitted if empty), no newline at the end.
    pub fn to_json(&self) -> String {
        todo!()
    }
    /// Reads what a plugin printed on failure; None if it is not an error object.
    pub fn from_json(_bytes: &[u8]) -> Option<Error> {
        todo!()
    }
}
