//! A room as one user may read it: access is checked against the state at a head read after the request arrived.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::sync::Arc;

use bytes::Bytes;
use polity_core::{LogKey, Seq};
use polity_sync::{
    engine::Viewer,
    read::{RoomState, StateView, StoredRow},
};
use ruma_common::{RoomId, UserId};

use crate::{Api, ApiError, call::Call};

/// See the module.
pub(crate) struct Reader {
    pub(crate) api: Arc<Api>,
    pub(crate) viewer: Viewer,
    pub(crate) key: LogKey,
    pub(crate) head: Arc<RoomState>,
    /// Up to where the user may see: the head, or the row by which the user left.
    pub(crate) until: Seq,
}

impl Reader {
    /// For a user who is in the room.
    pub(crate) async fn member(call: &Call, room_id: &RoomId) -> Result<Self, ApiError> {
        let reader = Self::open(call, room_id).await?;
        match reader.membership_of(&reader.viewer.user_id).await?.as_deref() {
            Some("join") => Ok(reader),
            _ => Err(ApiError::forbidden("you are not in this room")),
        }
    }

    /// For a user who is or was in the room: up to the leave then.
    pub(crate) async fn member_or_left(call: &Call, room_id: &RoomId) -> Result<Self, ApiError> {
        let mut reader = Self::open(call, room_id).await?;
        match reader.membership_of(&reader.viewer.user_id).await?.as_deref() {
            Some("join") => Ok(reader),
            Some("leave" | "ban") => {
                let viewer = &reader.viewer;
                let row = polity_store::rooms::membership(&*reader.api.store, viewer.tenant, &viewer.user_id, room_id)
                    .await?;
                let row = row.ok_or_else(|| ApiError::forbidden("you are not in this room"))?;
                let forgotten =
                    polity_store::rooms::forgotten(&*reader.api.store, viewer.tenant, &viewer.user_id, room_id).await?;
                if forgotten.is_some_and(|at| at >= row.position) {
                    return Err(ApiError::forbidden("you have forgotten this room"));
                }
                reader.until = row.position.seq;
                Ok(reader)
            }
            _ => Err(ApiError::forbidden("you are not in this room")),
        }
    }

    async fn open(call: &Call, room_id: &RoomId) -> Result<Self, ApiError> {
        let (api, requester) = (Arc::clone(&call.context.api), call.context.requester()?);
        let hidden = || ApiError::forbidden("you are not in this room");
        let rooms = &api.engine.rooms;
        // A room that isn't here and one that the user isn't in answer alike.
        let key = rooms.key(requester.tenant, room_id).await?.ok_or_else(hidden)?;
        let head = rooms.head(key).await?.ok_or_else(hidden)?;
        let viewer = Api::viewer(&call.context.tenant, requester);
        let until = head.seq;
        Ok(Self { api, viewer, key, head, until })
    }

    /// The state where the user's view ends.
    pub(crate) async fn state(&self) -> Result<StateView, ApiError> {
        if self.until == self.head.seq {
            return Ok(StateView::at_roots(self.head.room.roots));
        }
        Ok(self.api.engine.state_after(self.key, self.until).await?)
    }

    /// A user's membership at the head.
    pub(crate) async fn membership_of(&self, user_id: &UserId) -> Result<Option<String>, ApiError> {
        let state = StateView::at_roots(self.head.room.roots);
        let row = self.api.engine.rooms.state_event(self.key, &state, "m.room.member", user_id.as_str()).await?;
        Ok(row.and_then(|row| row.event.as_ref()?.content_text("membership")))
    }

    /// Rows as the user may see them, rendered with the room's id; `None` for one that may not be seen.
    pub(crate) async fn render(&self, rows: &[Arc<StoredRow>]) -> Result<Vec<Option<Bytes>>, ApiError> {
        Ok(self.api.engine.render_rows(&self.viewer, self.key, &self.head, rows).await?)
    }

    /// Members of the room, each with the event that says so.
    pub(crate) async fn members(&self) -> Result<Vec<Arc<StoredRow>>, ApiError> {
        let (rooms, state) = (&self.api.engine.rooms, self.state().await?);
        let generation = self.head.room.generation;
        let ids = rooms.entries(self.key, generation, &state, polity_sync::read::Part::Members).await?;
        let mut rows = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            rows.extend(rooms.event(self.key.tenant, &id).await?);
        }
        Ok(rows)
    }
}
