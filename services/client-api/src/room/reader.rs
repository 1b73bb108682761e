//! A room as one user may read it: access is checked against the state at a head read after the request arrived.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use polity_core::{LogKey, Position, Seq};
use polity_sync::{
    engine::Viewer,
    page_token::PageToken,
    read::{RoomState, StateView, StoredRow},
};
use ruma_common::{RoomId, UserId};

use crate::{Api, ApiError, call::Call};

/// Changes of one's own membership that are looked back over for the last time that one was joined.
const CHANGES: usize = 100;

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
                reader.until = reader.leave().await?;
                Ok(reader)
            }
            _ => Err(ApiError::forbidden("you are not in this room")),
        }
    }

    /// The row by which the user left: the last one that ended a stretch of being joined. Refused when that is forgotten, and to who
    /// only declined an invitation or was banned without ever being here: they have seen nothing.
    async fn leave(&self) -> Result<Seq, ApiError> {
        let (rooms, viewer, room_id) = (&self.api.engine.rooms, &self.viewer, &*self.head.room.room_id);
        let state = StateView::at_roots(self.head.room.roots);
        let mut own = rooms.state_event(self.key, &state, "m.room.member", viewer.user_id.as_str()).await?;
        for _ in 0..CHANGES {
            let Some(row) = own else { break };
            let change = row.meta.deltas.iter().find(|delta| {
                let own = delta.event_type == "m.room.member" && delta.state_key == viewer.user_id.as_str();
                own && delta.after.is_some()
            });
            let Some(before) = change.and_then(|delta| delta.before.as_deref()) else { break };
            let before = rooms.event(viewer.tenant, before).await?;
            if before.as_deref().is_some_and(is_join) {
                let (store, left) = (&*self.api.store, Position::new(self.key.life, row.seq));
                let forgotten = polity_store::rooms::forgotten(store, viewer.tenant, &viewer.user_id, room_id).await?;
                if forgotten.is_some_and(|at| at >= left) {
                    return Err(ApiError::forbidden("you have forgotten this room"));
                }
                return Ok(row.seq);
            }
            own = before;
        }
        Err(ApiError::forbidden("you were never in this room"))
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

    /// Members of the room in one of its states, each with the event that says so.
    pub(crate) async fn members(&self, state: &StateView) -> Result<Vec<Arc<StoredRow>>, ApiError> {
        let rooms = &self.api.engine.rooms;
        let generation = self.head.room.generation;
        let ids = rooms.entries(self.key, generation, state, polity_sync::read::Part::Members).await?;
        let mut rows = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            rows.extend(rooms.event(self.key.tenant, &id).await?);
        }
        Ok(rows)
    }

    /// A place of the query: a pagination token, or a sync's token.
    pub(crate) async fn place(&self, call: &Call, name: &str) -> Result<Option<PageToken>, ApiError> {
        let Some(text) = call.query(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        if let Ok(place) = text.parse() {
            return Ok(Some(place));
        }
        let (engine, room_id) = (&self.api.engine, &*self.head.room.room_id);
        let row = engine.row_of_token(&self.viewer, text, (room_id, self.key)).await;
        let row = row.map_err(|_| ApiError::invalid_param(format!("{name} is no token of yours")))?;
        if let Some(row) = row {
            return Ok(Some(PageToken::after(row)));
        }
        // The user wasn't in the room by that token: it stands before the joining, or after the leaving.
        let viewer = &self.viewer;
        let row = polity_store::rooms::membership(&*self.api.store, viewer.tenant, &viewer.user_id, room_id).await?;
        let joined = row.filter(|row| row.membership == "join");
        Ok(Some(joined.map_or(PageToken::after(self.until), |row| PageToken::before(row.since))))
    }

    /// The member events of those who sent some rows, as the first of these knows them.
    pub(crate) async fn senders(&self, rows: &[Arc<StoredRow>]) -> Result<Vec<Bytes>, ApiError> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let engine = &self.api.engine;
        let state = engine.state_after(self.key, first.seq).await?;
        let senders: BTreeSet<_> = rows.iter().filter_map(|row| Some(&row.event.as_ref()?.sender)).collect();
        let mut members = Vec::with_capacity(senders.len());
        for sender in senders {
            members.extend(engine.rooms.state_event(self.key, &state, "m.room.member", sender.as_str()).await?);
        }
        Ok(engine.render_state_rows(&self.viewer, &self.head, &members))
    }
}

fn is_join(row: &StoredRow) -> bool {
    row.event.as_ref().and_then(|event| event.content_text("membership")).as_deref() == Some("join")
}
