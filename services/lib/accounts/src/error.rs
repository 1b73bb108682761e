//! What goes wrong with accounts.

use polity_core::{Classified, ErrorKind};
use polity_log::LogError;
use polity_store::StoreError;

/// A failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The log of a record or inbox.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is taken (`M_USER_IN_USE`).
    #[error("the user name is taken")]
    UserInUse,
    /// The account is no longer in use (`M_USER_DEACTIVATED`).
    #[error("the account was deactivated")]
    Deactivated,
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// The password is wrong, or there is no such account.
    #[error("wrong user name or password")]
    WrongPassword,
    /// There is none that anybody could guess sooner (`M_WEAK_PASSWORD`).
    #[error("a password can't be empty")]
    WeakPassword,
    /// Something else that a change was worked out from was changed by somebody else at the same time.
    #[error("changed by somebody else at the same time")]
    Stale,
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// An access or refresh token that is no good (any more); `true` if a refresh token may give a new one.
    #[error("the token is unknown or has expired")]
    UnknownToken(bool),
    /// A key with this id was uploaded with another content (`M_INVALID_PARAM`).
    #[error("one-time key {0} was uploaded with another content")]
    KeyExists(String),
    /// There is no key of that name that the signer may sign.
    #[error("there is no such key to sign")]
    NotSignable,
    /// A signature is missing or wrong (`M_INVALID_SIGNATURE`).
    #[error("{0}")]
    InvalidSignature(String),
    /// A replacement of keys needs proof of who asks for it.
    #[error("replacing keys needs authentication")]
    Unproven,
    /// Keys that need a master key, without one (`M_MISSING_PARAM`).
    #[error("there is no master key")]
    NoMasterKey,
    /// Work that will be tried again.
    #[error("not finished: {0}")]
    Unfinished(String),
    /// Something isn't what it should be (`M_INVALID_PARAM`).
    #[error("{0}")]
    Invalid(String),
    /// Something is larger or more than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// More account data than a user may keep (`M_TOO_LARGE`, as too large a body).
    #[error("a user can't keep more account data")]
    Full,
    /// Too many passwords are being checked.
    #[error("too many logins at once")]
    Busy,
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Classified for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::UserInUse | Self::Stale => ErrorKind::Conflict,
            Self::NoAccount | Self::NoDevice | Self::NotSignable => ErrorKind::NotFound,
            Self::WrongPassword | Self::Deactivated | Self::Unproven => ErrorKind::Forbidden,
            Self::UnknownToken(_) => ErrorKind::Unauthenticated,
            Self::KeyExists(_)
            | Self::Invalid(_)
            | Self::InvalidSignature(_)
            | Self::WeakPassword
            | Self::NoMasterKey => ErrorKind::Invalid,
            Self::TooLarge(_) | Self::Full => ErrorKind::TooLarge,
            Self::Unfinished(_) => ErrorKind::Unavailable,
            Self::Busy => ErrorKind::Overloaded,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// Entries that can't be read, for a log: what passes stays told from what doesn't.
impl From<Error> for LogError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => Self::Store(error),
            Error::Log(error) => error,
            other => Self::Corrupt(other.to_string()),
        }
    }
}
