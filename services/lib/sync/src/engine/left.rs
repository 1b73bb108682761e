//! The sections of rooms that the user has left, and of those that the user is invited to or knocks on.

use bytes::Bytes;
use polity_core::Seq;

use super::{SyncError, joined::Known, pass::RoomPass, visibility::Seen};
use crate::{
    engine::LeftRoom,
    read::{StateView, render_stripped},
};

/// State that somebody who isn't in a room may see of it.
const STRIPPED: &[&str] = &[
    "m.room.create",
    "m.room.join_rules",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.encryption",
];

impl RoomPass<'_> {
    /// What happened up to the row that took the user out.
    pub(crate) async fn left(&self, after: Seq, leave: Seq) -> Result<LeftRoom, SyncError> {
        let rendered = self.timeline(after, leave, true).await?;
        let known = if after == Seq::ZERO { Known::Nothing } else { Known::UpTo(after) };
        let state = self.state(known, &rendered, self.request.full_state).await?;
        Ok(LeftRoom { timeline: rendered.timeline, state, account_data: Vec::new() })
    }

    /// The one row that ended an invitation or a knock: nothing else of the room is the user's to see.
    pub(crate) async fn declined(&self, leave: Seq) -> Result<LeftRoom, SyncError> {
        let mut room = LeftRoom::default();
        if let Some(row) = self.engine.rooms.back(self.key, leave, 1).await?.pop() {
            let seen = Seen { visible: true, membership: "leave".to_owned() };
            room.timeline.events.extend(self.render(&row, &seen, None).await?);
        }
        Ok(room)
    }

    /// The stripped state of an invitation or a knock, as it stands at the head, with who invited.
    pub(crate) async fn stripped(&self) -> Result<Vec<Bytes>, SyncError> {
        let rooms = &self.engine.rooms;
        let state = StateView::at_roots(self.head.room.roots);
        let mut out = Vec::new();
        for event_type in STRIPPED {
            let row = rooms.state_event(self.key, &state, event_type, "").await?;
            out.extend(row.as_deref().and_then(|row| row.event.as_ref()).map(render_stripped));
        }
        let user_id = self.request.viewer.user_id.as_str();
        if let Some(own) = rooms.state_event(self.key, &state, "m.room.member", user_id).await?
            && let Some(event) = &own.event
        {
            if event.sender != self.request.viewer.user_id {
                let inviter = rooms.state_event(self.key, &state, "m.room.member", event.sender.as_str()).await?;
                out.extend(inviter.as_deref().and_then(|row| row.event.as_ref()).map(render_stripped));
            }
            out.push(render_stripped(event));
        }
        Ok(out)
    }
}
