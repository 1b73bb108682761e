//! The requester leaves, declines an invitation or takes a knock back.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#leaving-rooms>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_events::room::member::MembershipState;

use super::{Change, Done, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, stage::Stage};

/// See the module.
pub(crate) struct Leave {
    pub(crate) requester: Requester,
    pub(crate) reason: Option<String>,
}

impl Change for Leave {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let sender = &self.requester.user_id;
        match (stage.membership(sender), stage.member_event(sender)) {
            (Some(MembershipState::Join | MembershipState::Invite | MembershipState::Knock), _) => {}
            // A repeated request: the leave stands already.
            (Some(MembershipState::Leave), Some(leave)) if leave.sender() == sender => {
                return Ok(Outcome::Stands(Done::before(leave.event_id())));
            }
            _ => return Err(RoomError::forbidden("you are not in this room")),
        }
        let content = content(MembershipState::Leave, None, self.reason.as_deref());
        self.requester.put_member(stage, sender, content, next)
    }
}
