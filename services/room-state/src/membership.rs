//! What the commands about memberships have in common.

use polity_core::Seq;
use polity_room_engine::pdu::Pdu;
use ruma_common::UserId;
use ruma_events::{TimelineEventType, room::member::MembershipState};
use serde_json::{Map, Value};

use crate::{
    command::{Outcome, Requester},
    error::RoomError,
    profiles::Profile,
    stage::Stage,
};

/// The content of a member event.
pub(crate) fn content(
    membership: MembershipState,
    profile: Option<&Profile>,
    reason: Option<&str>,
) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("membership".to_owned(), Value::from(membership.as_str()));
    let profile =
        profile.map_or([None, None], |profile| [profile.displayname.as_deref(), profile.avatar_url.as_deref()]);
    for (field, value) in [("displayname", profile[0]), ("avatar_url", profile[1]), ("reason", reason)] {
        if let Some(value) = value {
            content.insert(field.to_owned(), Value::from(value));
        }
    }
    content
}

impl Stage<'_> {
    /// A user's member event as it stands.
    pub(crate) fn member_event(&self, user_id: &UserId) -> Option<&Pdu> {
        self.hot.state("m.room.member", user_id.as_str()).map(|event| &event.pdu)
    }

    /// What a user is in the room.
    pub(crate) fn membership(&self, user_id: &UserId) -> Option<MembershipState> {
        self.member_event(user_id).and_then(Pdu::membership)
    }
}

impl Requester {
    /// Takes a member event of `target` that this user sends into the room as the row `next`, if the rules allow it. Its content: see
    /// [`content`].
    pub(crate) fn put_member(
        &self,
        stage: &mut Stage<'_>,
        target: &UserId,
        content: Map<String, Value>,
        next: Seq,
    ) -> Result<Outcome, RoomError> {
        let (state_key, sender) = (Some(target.to_string()), self.user_id.clone());
        let draft = stage.draft(TimelineEventType::RoomMember, state_key, Value::Object(content), sender)?;
        stage.append(draft, next, self.call.clone())
    }
}
