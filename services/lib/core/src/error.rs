//! One small vocabulary of failures. Every error type of ours maps to it once; the edges map it to gRPC codes and HTTP.

use serde::{Deserialize, Serialize};

/// What kind of failure it is, for whoever must decide what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is malformed or breaks a limit of the protocol. Repeating it is pointless.
    Invalid,
    /// The caller isn't known (no token, a dead token).
    Unauthenticated,
    /// The caller is known and may not.
    Forbidden,
    /// There is no such thing (or the caller may not know of it).
    NotFound,
    /// It exists already, or somebody else was first.
    Conflict,
    /// Something is larger than its limit.
    TooLarge,
    /// The caller asks too often, or a queue is full: nothing was done, repeat later.
    Overloaded,
    /// Something that is needed (the store, another tier) can't be reached: repeat later.
    Unavailable,
    /// The deadline passed. The effect is unknown.
    DeadlineExceeded,
    /// This feature isn't built.
    Unsupported,
    /// A defect of ours, or damaged data.
    Internal,
}

impl ErrorKind {
    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::DeadlineExceeded)
    }
}

/// An error that knows its kind.
pub trait Classified: std::error::Error {
    /// The kind of this failure.
    fn kind(&self) -> ErrorKind;
}
