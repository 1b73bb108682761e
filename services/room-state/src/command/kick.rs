//! Puts somebody out, or takes an invitation back.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_common::OwnedUserId;
use ruma_events::room::member::MembershipState;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, stage::Stage};

/// See the module.
pub(crate) struct Kick {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) reason: Option<String>,
}

impl Change for Kick {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), member_key(&self.target)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        // A ban isn't lifted by a kick, and who isn't in the room learns nothing of who is.
        stage.expect_joined(&self.requester.user_id)?;
        match stage.membership(&self.target) {
            Some(MembershipState::Join | MembershipState::Invite | MembershipState::Knock) => {}
            _ => return Err(RoomError::forbidden("the user is not in this room")),
        }
        let content = content(MembershipState::Leave, None, self.reason.as_deref());
        self.requester.put_member(stage, &self.target, content, next)
    }
}
