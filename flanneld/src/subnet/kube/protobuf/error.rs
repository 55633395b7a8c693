//! Why bytes are not what the API server sends.

use super::LONGEST_OBJECT;

/// Why an answer cannot be decoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// An object does not start as protobuf objects of Kubernetes do.
    #[error("the object is not protobuf of Kubernetes: it does not start with \"k8s\\0\"")]
    Magic,
    /// An object or event is longer than any that the API server stores.
    #[error("an object of {0} bytes; the longest that is read has {LONGEST_OBJECT}")]
    TooLong(u64),
    /// A message is not protobuf, or has fields of other types.
    #[error("invalid protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A field of a list has a type that protobuf does not have.
    #[error("invalid protobuf: a field of an unknown type")]
    FieldType,
    /// A field of a list has a number, or a length, that is too long.
    #[error("invalid protobuf: a number of more than 64 bits")]
    Number,
    /// The answer is an object of another kind.
    #[error("an object of kind {found:?} where {expected:?} is expected")]
    Kind {
        found: String,
        expected: &'static str,
    },
    /// The list ended before its last item.
    #[error("the list breaks off after {0} bytes")]
    Truncated(u64),
    /// A list without the position that a watch starts from.
    #[error("the list has no resourceVersion")]
    NoResourceVersion,
}
