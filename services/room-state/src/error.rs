//! Why a room command was not carried out.

use std::time::Duration;

use polity_core::{Classified, ErrorKind};
use polity_log::LogError;
use polity_proto::Detail;
use polity_room_engine::{auth::Rejection, build::BuildError};

/// A command that was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RoomError {
    kind: ErrorKind,
    /// A Matrix `errcode` where it says more than the kind; else empty.
    reason: &'static str,
    message: String,
}

impl RoomError {
    pub(crate) fn new(kind: ErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into() }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, "M_FORBIDDEN", message)
    }

    /// A refusal while a room is made: the client asked for a state that can't be.
    pub(crate) fn of_initial_state(self) -> Self {
        match self.kind {
            ErrorKind::Forbidden => Self { kind: ErrorKind::Invalid, reason: "M_INVALID_ROOM_STATE", ..self },
            _ => self,
        }
    }

    pub(crate) fn bad_json(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, "M_BAD_JSON", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, "M_NOT_FOUND", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "", message)
    }
}

impl Classified for RoomError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<LogError> for RoomError {
    fn from(error: LogError) -> Self {
        Self::new(error.kind(), "", error.to_string())
    }
}

impl From<polity_store::StoreError> for RoomError {
    fn from(error: polity_store::StoreError) -> Self {
        Self::new(error.kind(), "", error.to_string())
    }
}

impl From<Rejection> for RoomError {
    fn from(error: Rejection) -> Self {
        match error {
            // What ruma calls malformed is mostly what the client sent.
            Rejection::Malformed(why) => Self::forbidden(why),
            Rejection::Forbidden(why) => Self::forbidden(why),
        }
    }
}

impl From<BuildError> for RoomError {
    fn from(error: BuildError) -> Self {
        let reason = match &error {
            BuildError::TooLarge(_) | BuildError::KeyTooLong(_) => "M_TOO_LARGE",
            BuildError::BadJson(_) => "M_BAD_JSON",
            _ => "",
        };
        Self::new(error.kind(), reason, error.to_string())
    }
}

impl From<&RoomError> for Detail {
    fn from(error: &RoomError) -> Self {
        let retry_after = error.kind.is_transient().then_some(Duration::from_secs(1));
        Self { kind: error.kind, reason: error.reason.to_owned(), message: error.message.clone(), retry_after }
    }
}
