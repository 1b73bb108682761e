//! Why a room command was not carried out.

use std::time::Duration;

use polity_core::{Classified, ErrorKind, IncarnationId};
use polity_log::LogError;
use polity_proto::{Detail, Reason, Status, route, to_status};
use polity_room_engine::{auth::Rejection, build::BuildError};

/// A command that was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RoomError {
    kind: ErrorKind,
    /// What clients are told beyond the kind.
    reason: Reason,
    message: String,
    /// Whether nothing was begun, and somebody else may be asked.
    elsewhere: Option<Elsewhere>,
    /// See [`RoomError::taken_id`].
    taken_id: bool,
}

/// Who is to be asked what this process hasn't begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    At(IncarnationId),
    Anywhere,
    /// The next life of the room, if it has one: this one was purged.
    InNextLife,
}

impl RoomError {
    pub(crate) fn new(kind: ErrorKind, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), elsewhere: None, taken_id: false }
    }

    /// The error for the wire.
    pub(crate) fn to_status(&self) -> Status {
        let status = to_status(&Detail::from(self));
        match self.elsewhere {
            None | Some(Elsewhere::InNextLife) => status,
            Some(Elsewhere::Anywhere) => route::not_started(status, None),
            Some(Elsewhere::At(writer)) => route::not_started(status, Some(&writer.to_string())),
        }
    }

    /// The same where something was begun after all: nobody else is to be asked.
    pub(crate) fn begun(self) -> Self {
        Self { elsewhere: None, ..self }
    }

    /// There is a room with the id that a new one was to have.
    pub(crate) fn taken_id() -> Self {
        let message = "the room exists";
        Self { taken_id: true, ..Self::new(ErrorKind::Conflict, Reason::RoomInUse, message) }
    }

    pub(crate) fn is_of_taken_id(&self) -> bool {
        self.taken_id
    }

    /// Whether the room's log was purged.
    pub(crate) fn is_of_purged(&self) -> bool {
        self.elsewhere == Some(Elsewhere::InNextLife)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, Reason::Forbidden, message)
    }

    /// A refusal while a room is made: the client asked for a state that can't be.
    pub(crate) fn of_initial_state(self) -> Self {
        match self.kind {
            ErrorKind::Forbidden => Self { kind: ErrorKind::Invalid, reason: Reason::InvalidRoomState, ..self },
            _ => self,
        }
    }

    /// Whether it says for sure that nothing was written.
    pub(crate) fn is_refusal(&self) -> bool {
        use ErrorKind::{Conflict, Forbidden, Invalid, NotFound, Overloaded, TooLarge, Unsupported};
        self.elsewhere.is_some()
            || matches!(self.kind, Invalid | Forbidden | NotFound | Conflict | TooLarge | Unsupported | Overloaded)
    }

    pub(crate) fn is_forbidden(&self) -> bool {
        self.kind == ErrorKind::Forbidden
    }

    pub(crate) fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, Reason::InvalidParam, message)
    }

    pub(crate) fn bad_json(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, Reason::BadJson, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, Reason::NotFound, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, Reason::Unspecified, message)
    }
}

impl Classified for RoomError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<LogError> for RoomError {
    fn from(error: LogError) -> Self {
        let elsewhere = match error {
            LogError::Elsewhere(writer) => Some(Elsewhere::At(writer)),
            LogError::Sealed => Some(Elsewhere::InNextLife),
            LogError::NotHeld | LogError::Leaving | LogError::Closed => Some(Elsewhere::Anywhere),
            _ => None,
        };
        Self { elsewhere, ..Self::new(error.kind(), Reason::Unspecified, error.to_string()) }
    }
}

impl From<polity_store::StoreError> for RoomError {
    fn from(error: polity_store::StoreError) -> Self {
        Self::new(error.kind(), Reason::Unspecified, error.to_string())
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
            BuildError::TooLarge(_) | BuildError::KeyTooLong(_) => Reason::TooLarge,
            BuildError::BadJson(_) => Reason::BadJson,
            _ => Reason::Unspecified,
        };
        Self::new(error.kind(), reason, error.to_string())
    }
}

impl From<&RoomError> for Detail {
    fn from(error: &RoomError) -> Self {
        let retry_after = error.kind.is_transient().then_some(Duration::from_secs(1));
        Self { kind: error.kind, reason: error.reason, message: error.message.clone(), retry_after }
    }
}
