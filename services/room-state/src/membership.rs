//! What the commands about memberships have in common.

use polity_core::Seq;
use polity_room_engine::pdu::Pdu;
use ruma_common::{OwnedUserId, UserId};
use ruma_events::{TimelineEventType, room::member::MembershipState};
use serde_json::{Map, Value};

use crate::{command::Outcome, error::RoomError, stage::Stage};

/// A user's profile, as member events have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) displayname: Option<String>,
    pub(crate) avatar_url: Option<String>,
}

/// A member event to be.
pub(crate) struct NewMember {
    /// Who sends it.
    pub(crate) sender: OwnedUserId,
    /// Whose membership it is.
    pub(crate) target: OwnedUserId,
    /// The rest of its content: see [`content`].
    pub(crate) content: Map<String, Value>,
}

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

    /// Takes a member event into the room, if its rules allow it.
    pub(crate) fn put_member(&mut self, member: NewMember, next: Seq) -> Result<Outcome, RoomError> {
        let NewMember { sender, target, content } = member;
        let draft = self.draft(TimelineEventType::RoomMember, Some(target.into()), Value::Object(content), sender)?;
        self.append(draft, next, None)
    }
}
