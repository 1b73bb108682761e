//! What can go wrong in a store.

use polity_core::{Classified, ErrorKind};

/// A failure of a store operation. A condition that didn't hold is no failure: see [`crate::Cas`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store can't be reached or refuses work now. **Nothing was written.**
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The write may have landed, may land later, or never. Only a fence settles it.
    #[error("the outcome of a write is unknown: {0}")]
    Unknown(String),
    /// A stored value can't be understood: damaged, or written by a newer version.
    #[error("damaged data in {table}: {what}")]
    Corrupt {
        /// The table that it was read from.
        table: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It was asked in a way that the table doesn't allow: a defect of the caller. Nothing was written.
    #[error("{table} was asked wrongly: {what}")]
    Misuse {
        /// The table.
        table: &'static str,
        /// What isn't allowed.
        what: &'static str,
    },
    /// A value or a batch is larger than the store takes. Nothing was written.
    #[error("too large for the store: {0}")]
    TooLarge(String),
}

impl StoreError {
    /// A value of `table` that can't be understood.
    pub fn corrupt(table: &'static str, what: impl Into<String>) -> Self {
        Self::Corrupt { table, what: what.into() }
    }
}

impl Classified for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Misuse { .. } => ErrorKind::Internal,
            Self::TooLarge(_) => ErrorKind::TooLarge,
        }
    }
}
