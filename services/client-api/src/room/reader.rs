//! A room as one user may read it: access is checked against the state at a head read after the request arrived.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::sync::Arc;

use bytes::Bytes;
use polity_core::{
    LogKey, Position, Seq,
    mutation::{Mutation, planted},
};
use polity_store::rooms;
use polity_sync::{
    engine::{Share, Viewer},
    json::Writer,
    page_token::PageToken,
    read::{Part, RoomState, StateView, StoredRow},
};
use ruma_common::{OwnedEventId, RoomId, UserId};

use crate::{
    Api, ApiError,
    call::Answer,
    endpoint::{Context, Token},
};

/// Changes of one's own membership that are looked back over for the last time that one was joined.
const CHANGES: usize = 100;

/// State events that are held at once: of the others only their ids, and what is written of them.
pub(crate) const BATCH: usize = 250;
/// Bytes that an entry of a state takes while all of them are listed, about.
const ENTRY: usize = 256;

/// See the module.
pub(crate) struct Reader {
    pub(crate) api: Arc<Api>,
    pub(crate) viewer: Viewer,
    pub(crate) key: LogKey,
    pub(crate) head: Arc<RoomState>,
    /// Up to where the user may see: the head, or the row by which the user left.
    pub(crate) until: Seq,
    /// Whether the user is in the room, or was up to `until`.
    is_member: bool,
    /// The memory of the answer.
    share: Arc<Share>,
}

impl Reader {
    /// For a user who is in the room.
    pub(crate) async fn member(context: &Context, room_id: &RoomId) -> Result<Self, ApiError> {
        let reader = Self::open(context, room_id).await?;
        match reader.membership_of(&reader.viewer.user_id).await?.as_deref() {
            Some("join") => Ok(reader),
            _ => Err(not_in_this_room()),
        }
    }

    /// For a user who is or was in the room: up to the leave then.
    pub(crate) async fn member_or_left(context: &Context, room_id: &RoomId) -> Result<Self, ApiError> {
        let mut reader = Self::open(context, room_id).await?;
        match reader.membership_of(&reader.viewer.user_id).await?.as_deref() {
            Some("join") => Ok(reader),
            Some("leave" | "ban") => {
                reader.until = reader.leave().await?;
                Ok(reader)
            }
            _ => Err(not_in_this_room()),
        }
    }

    /// For everybody, if the room is open to the world; else as [`Self::member_or_left`].
    pub(crate) async fn visitor(context: &Context, room_id: &RoomId) -> Result<Self, ApiError> {
        let mut reader = Self::open(context, room_id).await?;
        let membership = reader.membership_of(&reader.viewer.user_id).await?;
        if membership.as_deref() == Some("join") {
            return Ok(reader);
        }
        if reader.head.room.summary.history_visibility.as_deref() == Some("world_readable") {
            reader.is_member = false;
            return Ok(reader);
        }
        match membership.as_deref() {
            Some("leave" | "ban") => {
                reader.until = reader.leave().await?;
                Ok(reader)
            }
            _ => Err(not_in_this_room()),
        }
    }

    /// As [`Self::visitor`], for one event: who may not see the room may not see the event, and isn't told which of the two it is.
    pub(crate) async fn of_event(context: &Context, room_id: &RoomId) -> Result<Self, ApiError> {
        let unseen = |error: ApiError| {
            if error.is_forbidden() {
                ApiError::not_found("there is no such event, or you may not see it")
            } else {
                error
            }
        };
        Self::visitor(context, room_id).await.map_err(unseen)
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

    async fn open(context: &Context, room_id: &RoomId) -> Result<Self, ApiError> {
        debug_assert_ne!(
            context.token,
            Token::RequiredAlone,
            "an endpoint that hasn't asked who writes rooms reads one"
        );
        let (api, requester) = (Arc::clone(&context.api), context.requester()?);
        let rooms = &api.engine.rooms;
        // A room that isn't here and one that the user isn't in answer alike.
        let key = rooms.key(requester.tenant, room_id).await?.ok_or_else(not_in_this_room)?;
        let head = rooms.fresh_head(key).await?.ok_or_else(not_in_this_room)?;
        let viewer = Api::viewer(&context.tenant, requester);
        let (until, share) = (head.seq, api.engine.answers.share((viewer.tenant, viewer.user_id.clone())));
        Ok(Self { api, viewer, key, head, until, is_member: true, share })
    }

    /// The state where the user's view ends.
    pub(crate) async fn state(&self) -> Result<StateView, ApiError> {
        if self.until == self.head.seq || planted(Mutation::ExMemberReads) {
            return Ok(StateView::at_roots(self.head.room.roots));
        }
        self.state_after(self.until).await
    }

    /// The state after a row. Refused to who may not see that row: who was there then is part of what is hidden, and any number makes
    /// a place.
    pub(crate) async fn state_after(&self, seq: Seq) -> Result<StateView, ApiError> {
        let state = self.api.engine.state_seen_after(&self.viewer, self.key, seq, self.is_member).await?;
        state.ok_or_else(|| ApiError::forbidden("you may not see this room as it was then"))
    }

    /// A user's membership at the head.
    pub(crate) async fn membership_of(&self, user_id: &UserId) -> Result<Option<String>, ApiError> {
        let state = StateView::at_roots(self.head.room.roots);
        let row = self.api.engine.rooms.state_event(self.key, &state, "m.room.member", user_id.as_str()).await?;
        Ok(row.and_then(|row| row.event.as_ref()?.content_text("membership")))
    }

    /// The place in this room that a client's token means: a pagination token, or a sync's.
    pub(crate) async fn place(&self, text: &str) -> Result<PageToken, ApiError> {
        if let Ok(place) = text.parse() {
            return Ok(place);
        }
        let (engine, room_id) = (&self.api.engine, &*self.head.room.room_id);
        let row = engine.row_of_token(&self.viewer, text, (room_id, self.key)).await;
        if let Some(row) = row.map_err(|_| ApiError::invalid_param("that is no token of yours"))? {
            return Ok(PageToken::after(row));
        }
        // The user wasn't in the room by that token: it stands before the joining, or after the leaving.
        let viewer = &self.viewer;
        let row = rooms::membership(&*self.api.store, viewer.tenant, &viewer.user_id, room_id).await?;
        let joined = row.filter(|row| row.membership == "join");
        Ok(joined.map_or(PageToken::after(self.until), |row| PageToken::before(row.since)))
    }

    /// Rows as the user may see them, rendered with the room's id; `None` for one that may not be seen.
    pub(crate) async fn render(&self, rows: &[Arc<StoredRow>]) -> Result<Vec<Option<Bytes>>, ApiError> {
        Ok(self.api.engine.render_rows(&self.viewer, self.key, &self.head, rows, self.is_member).await?)
    }

    /// State events, rendered with the room's id.
    pub(crate) async fn render_state(&self, rows: &[Arc<StoredRow>]) -> Result<Vec<Bytes>, ApiError> {
        Ok(self.api.engine.render_state_rows(&self.viewer, self.key, &self.head, rows, &self.share).await?)
    }

    /// Notes that the answer holds so many bytes more: refused when there are too many large ones.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), ApiError> {
        Ok(self.share.grow(bytes)?)
    }

    /// What the answer takes of the memory of answers.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// The answer, which takes its share of memory until it is sent.
    pub(crate) fn answer(self, written: Writer) -> Answer {
        Answer::Bytes(self.share.written(written.finish()))
    }

    /// The events of a part of a state, by their ids: see [`BATCH`].
    pub(crate) async fn ids_of(&self, state: &StateView, part: Part) -> Result<Vec<OwnedEventId>, ApiError> {
        let (rooms, summary) = (&self.api.engine.rooms, &self.head.room.summary);
        // Counted before they are read: it is members who are many.
        let expected = match part {
            Part::Members => usize::try_from(summary.joined.saturating_add(summary.invited)).unwrap_or(usize::MAX),
            Part::Entries => 0,
        };
        self.hold(expected.saturating_mul(ENTRY))?;
        let entries = rooms.entries(self.key, self.head.room.generation, state, part).await?;
        self.hold(entries.len().saturating_sub(expected).saturating_mul(ENTRY))?;
        Ok(entries.into_iter().map(|(_, id)| id).collect())
    }

    /// Some events of a state, as they may be read.
    pub(crate) async fn rows(&self, ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredRow>>, ApiError> {
        let rows = self.api.engine.rooms.events_of_state(self.key, ids).await?;
        Ok(self.api.engine.as_redacted(self.key, &self.head, rows).await?)
    }

    /// Writes those events of a part of a state that `wanted` lets pass.
    pub(crate) async fn write_state(
        &self,
        out: &mut Writer,
        (state, part): (&StateView, Part),
        wanted: impl Fn(&StoredRow) -> bool,
    ) -> Result<(), ApiError> {
        for ids in self.ids_of(state, part).await?.chunks(BATCH) {
            let mut rows = self.api.engine.rooms.events_of_state(self.key, ids).await?;
            rows.retain(|row| wanted(row));
            for event in self.render_state(&rows).await? {
                self.hold(event.len())?;
                out.raw(&event);
            }
        }
        Ok(())
    }

    /// The member events of some users in a state.
    pub(crate) async fn members_among(
        &self,
        state: &StateView,
        users: impl IntoIterator<Item = &UserId>,
    ) -> Result<Vec<Arc<StoredRow>>, ApiError> {
        let mut rows = Vec::new();
        for user in users {
            let row = self.api.engine.rooms.state_event(self.key, state, "m.room.member", user.as_str()).await?;
            rows.extend(row);
        }
        Ok(rows)
    }
}

fn not_in_this_room() -> ApiError {
    ApiError::forbidden("you are not in this room")
}

fn is_join(row: &StoredRow) -> bool {
    row.event.as_ref().and_then(|event| event.content_text("membership")).as_deref() == Some("join")
}
