//! Why a sync has no answer.

use polity_core::{Classified, ErrorKind, sync_token::InvalidToken};

use crate::read::ReadError;

/// A sync that failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The token isn't one of this device's.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// Too many large answers are being made and sent.
    #[error("too many large answers at once")]
    Overloaded,
    /// Something couldn't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The user's own data couldn't be read.
    #[error(transparent)]
    Accounts(#[from] polity_accounts::Error),
}

impl Classified for SyncError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Token(_) => ErrorKind::Invalid,
            Self::Overloaded => ErrorKind::Overloaded,
            Self::Read(error) => error.kind(),
            Self::Accounts(error) => error.kind(),
        }
    }
}
