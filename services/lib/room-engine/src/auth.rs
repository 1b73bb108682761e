//! Whether an event is allowed. The rules are ruma's; this wraps them in our event and a typed reason.

use ruma_common::{EventId, room_version_rules::RoomVersionRules};
use ruma_events::StateEventType;
use ruma_state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules};

use crate::{build::EventDraft, pdu::Pdu};

/// Why an event isn't allowed (`M_FORBIDDEN` over the client-server API).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The event itself, or the events that it cites, break the rules.
    #[error("{0}")]
    Malformed(String),
    /// The state doesn't allow it.
    #[error("{0}")]
    Forbidden(String),
}

impl polity_core::Classified for Rejection {
    fn kind(&self) -> polity_core::ErrorKind {
        match self {
            Self::Malformed(_) => polity_core::ErrorKind::Invalid,
            Self::Forbidden(_) => polity_core::ErrorKind::Forbidden,
        }
    }
}

/// The (type, state key) pairs whose current events a draft must cite ("Auth events selection").
///
/// # Errors
/// When the content of a member event is malformed.
pub fn auth_types(draft: &EventDraft, rules: &RoomVersionRules) -> Result<Vec<(StateEventType, String)>, Rejection> {
    auth_types_for_event(
        &draft.event_type,
        &draft.sender,
        draft.state_key.as_deref(),
        &draft.content,
        &rules.authorization,
    )
    .map_err(Rejection::Malformed)
}

/// Whether `event` may follow a state: its own form and the events that it cites first, then the state.
///
/// # Errors
/// The reason, when it may not.
pub fn authorise(
    rules: &RoomVersionRules,
    event: &Pdu,
    auth_event: impl Fn(&EventId) -> Option<Pdu>,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
) -> Result<(), Rejection> {
    check_state_independent_auth_rules(&rules.authorization, event, auth_event).map_err(Rejection::Malformed)?;
    authorise_by_state(rules, event, state)
}

/// Whether a state allows `event`, whose form and citations are known to be good.
///
/// # Errors
/// The reason, when it doesn't.
pub fn authorise_by_state(
    rules: &RoomVersionRules,
    event: &Pdu,
    state: impl Fn(&StateEventType, &str) -> Option<Pdu>,
) -> Result<(), Rejection> {
    check_state_dependent_auth_rules(&rules.authorization, event, state).map_err(Rejection::Forbidden)
}

#[cfg(test)]
mod tests;
