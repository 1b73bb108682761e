//! Which of a room's rows a user may see, decided by the state at each of them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::sync::Arc;

use polity_core::{
    LogKey,
    mutation::{Mutation, planted},
};
use ruma_common::{EventId, UserId};

use crate::{
    engine::SyncError,
    read::{Rooms, StateView, StoredRow},
};

/// Who may see what happens in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    WorldReadable,
    Shared,
    Invited,
    Joined,
}

/// A row and whether the user may see it, with the user's membership there.
pub(crate) struct Seen {
    /// Whether.
    pub visible: bool,
    /// What the user was after the row; for `unsigned.membership`.
    pub membership: String,
}

/// Decides for `rows` (oldest first, without a hole), given the state before the first of them.
///
/// `is_member` says whether the user is in the room now: then shared history is open whenever it was written.
pub(crate) async fn decide(
    rooms: &Rooms,
    key: LogKey,
    user_id: &UserId,
    start: &StateView,
    rows: &[Arc<StoredRow>],
    is_member: bool,
) -> Result<Vec<Seen>, SyncError> {
    let history = rooms.state_event(key, start, "m.room.history_visibility", "").await?;
    let mut history = history.as_deref().map_or(History::Shared, history_of);
    let own = rooms.state_event(key, start, "m.room.member", user_id.as_str()).await?;
    let mut membership = own.as_deref().map_or_else(|| "leave".to_owned(), membership_of);
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let (before_history, before_membership) = (history, membership.clone());
        for delta in &row.meta.deltas {
            let is_own = delta.event_type == "m.room.member" && delta.state_key == user_id.as_str();
            if delta.event_type == "m.room.history_visibility" {
                history = read_back(rooms, key, row, delta.after.as_deref())
                    .await?
                    .as_deref()
                    .map_or(History::Shared, history_of);
            } else if is_own {
                let event = read_back(rooms, key, row, delta.after.as_deref()).await?;
                membership = event.as_deref().map_or_else(|| "leave".to_owned(), membership_of);
            }
        }
        let own_event = row.event.as_ref().is_some_and(|event| event.is_membership_of(user_id));
        let allowed = own_event
            || planted(Mutation::HiddenIsTold)
            || allows(before_history, &before_membership, is_member)
            || (history_changed(row) && allows(history, &membership, is_member));
        out.push(Seen { visible: allowed, membership: membership.clone() });
    }
    Ok(out)
}

fn allows(history: History, membership: &str, is_member: bool) -> bool {
    match history {
        History::WorldReadable => true,
        History::Shared => membership == "join" || is_member,
        History::Invited => matches!(membership, "join" | "invite"),
        History::Joined => membership == "join",
    }
}

fn history_changed(row: &StoredRow) -> bool {
    row.meta.deltas.iter().any(|delta| delta.event_type == "m.room.history_visibility")
}

/// The event of a change: mostly the row's own.
async fn read_back(
    rooms: &Rooms,
    key: LogKey,
    row: &Arc<StoredRow>,
    event_id: Option<&EventId>,
) -> Result<Option<Arc<StoredRow>>, SyncError> {
    match event_id {
        None => Ok(None),
        Some(event_id) if row.event.as_ref().is_some_and(|event| event.event_id == event_id) => {
            Ok(Some(Arc::clone(row)))
        }
        Some(event_id) => Ok(rooms.event(key.tenant, event_id).await?),
    }
}

fn history_of(row: &StoredRow) -> History {
    let value = row.event.as_ref().and_then(|event| event.content_text("history_visibility"));
    match value.as_deref() {
        Some("world_readable") => History::WorldReadable,
        Some("invited") => History::Invited,
        Some("joined") => History::Joined,
        // Unknown values are as good as shared.
        _ => History::Shared,
    }
}

fn membership_of(row: &StoredRow) -> String {
    row.event.as_ref().and_then(|event| event.content_text("membership")).unwrap_or_else(|| "leave".to_owned())
}
