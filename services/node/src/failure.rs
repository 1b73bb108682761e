//! Why the process ends: one message, and the code that scripts go by.

use polity_platform::lifecycle::exit;

/// See the module.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn software(message: impl std::fmt::Display) -> Self {
        Self::new(exit::SOFTWARE, message)
    }
}

impl From<polity_store_local::OpenError> for Failure {
    fn from(error: polity_store_local::OpenError) -> Self {
        use polity_store_local::OpenError as E;
        let code = match &error {
            E::InUse(_) => exit::IN_USE,
            E::Io { .. } => exit::CANT_CREATE,
            E::Format { .. } | E::Damaged { .. } => exit::DAMAGED,
        };
        Self::new(code, error)
    }
}

impl From<polity_platform::http::BindError> for Failure {
    fn from(error: polity_platform::http::BindError) -> Self {
        Self::new(exit::UNAVAILABLE, error)
    }
}

impl From<polity_log::LogError> for Failure {
    fn from(error: polity_log::LogError) -> Self {
        Self::software(error)
    }
}

impl From<polity_store::StoreError> for Failure {
    fn from(error: polity_store::StoreError) -> Self {
        let code =
            if matches!(error, polity_store::StoreError::Corrupt { .. }) { exit::DAMAGED } else { exit::SOFTWARE };
        Self::new(code, error)
    }
}
