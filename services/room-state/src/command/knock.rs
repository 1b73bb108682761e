//! Asks for an invitation.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_events::room::member::MembershipState;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, profiles::Profile, stage::Stage};

/// See the module.
pub(crate) struct Knock {
    pub(crate) requester: Requester,
    pub(crate) profile: Profile,
    pub(crate) reason: Option<String>,
}

impl Change for Knock {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn without_room(&self) -> RoomError {
        RoomError::not_found("there is no such room")
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let content = content(MembershipState::Knock, Some(&self.profile), self.reason.as_deref());
        self.requester.put_member(stage, &self.requester.user_id, content, next)
    }
}
