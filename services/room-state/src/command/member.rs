//! Changes a membership: join, leave, invite, kick, ban, unban; or the profile in one.

use js_int::UInt;
use polity_core::Seq;
use polity_log::NewRow;
use polity_room_engine::build::EventDraft;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId};
use ruma_events::{TimelineEventType, room::member::MembershipState};
use serde_json::{Map, Value, value::RawValue};

use super::{Done, Requester};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct Member {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) change: Change,
    pub(crate) reason: Option<String>,
    pub(crate) displayname: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) is_direct: bool,
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Join,
    Invite,
    /// A leave of one's own, the decline of an invitation, or a kick.
    Leave,
    Ban,
    /// The end of a ban, and of nothing else.
    Unban,
    /// Another profile for somebody who has joined.
    Profile,
}

impl Member {
    /// Decides it; no row if it is so already.
    pub(crate) fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<(Option<NewRow>, Done), RoomError> {
        let now = stage.hot.state("m.room.member", self.target.as_str()).map(|event| event.pdu.clone());
        let membership = now.as_ref().and_then(polity_room_engine::pdu::Pdu::membership);
        let is = |wanted: MembershipState| membership == Some(wanted);
        if let Some(now) = &now
            && self.change == Change::Leave
            && is(MembershipState::Leave)
            && now.sender() == self.target
            && self.target == self.requester.user_id
        {
            // A repeated request: the leave stands already.
            return Ok((None, Done { event_id: now.event_id().clone(), seq: Seq::ZERO }));
        }
        self.check(&membership)?;
        let content = self.content()?;
        if let Some(now) = &now
            && (is(MembershipState::Join) && self.change == Change::Join || self.change == Change::Profile)
            && (self.change == Change::Join || now.content().get() == content.get())
        {
            return Ok((None, Done { event_id: now.event_id().clone(), seq: Seq::ZERO }));
        }
        let origin_server_ts = MilliSecondsSinceUnixEpoch(UInt::try_from(stage.now_ms).unwrap_or(UInt::MAX));
        let draft = EventDraft {
            event_type: TimelineEventType::RoomMember,
            state_key: Some(self.target.to_string()),
            content,
            sender: self.requester.user_id.clone(),
            redacts: None,
            origin_server_ts,
        };
        let event = stage.build(draft)?;
        let row = stage.accept(&event, next, None)?;
        Ok((Some(row), Done { event_id: event.event_id().clone(), seq: next }))
    }

    /// What the rules of authorisation don't say, because the event would be allowed and mean something else.
    fn check(&self, now: &Option<MembershipState>) -> Result<(), RoomError> {
        let is = |wanted: MembershipState| *now == Some(wanted);
        let own = self.target == self.requester.user_id;
        let there = is(MembershipState::Join) || is(MembershipState::Invite) || is(MembershipState::Knock);
        match self.change {
            Change::Leave if !there => {
                Err(RoomError::forbidden(if own { "you are not in this room" } else { "the user is not in this room" }))
            }
            Change::Unban if !is(MembershipState::Ban) => Err(RoomError::forbidden("the user is not banned")),
            Change::Invite if is(MembershipState::Join) => Err(RoomError::forbidden("the user is already in the room")),
            Change::Profile if !is(MembershipState::Join) => Err(RoomError::forbidden("the user is not in this room")),
            _ => Ok(()),
        }
    }

    fn content(&self) -> Result<Box<RawValue>, RoomError> {
        let mut content = Map::new();
        let membership = match self.change {
            Change::Join | Change::Profile => "join",
            Change::Invite => "invite",
            Change::Leave | Change::Unban => "leave",
            Change::Ban => "ban",
        };
        let profile = matches!(self.change, Change::Join | Change::Invite | Change::Profile);
        for (field, value) in [("avatar_url", &self.avatar_url), ("displayname", &self.displayname)] {
            if let Some(value) = value.as_ref().filter(|_| profile) {
                content.insert(field.to_owned(), Value::from(value.as_str()));
            }
        }
        if self.is_direct && self.change == Change::Invite {
            content.insert("is_direct".to_owned(), Value::Bool(true));
        }
        content.insert("membership".to_owned(), Value::from(membership));
        if let Some(reason) = &self.reason {
            content.insert("reason".to_owned(), Value::from(reason.as_str()));
        }
        RawValue::from_string(Value::Object(content).to_string())
            .map_err(|error| RoomError::internal(error.to_string()))
    }
}
