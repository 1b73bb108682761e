//! Ends a ban, and nothing else.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_common::OwnedUserId;
use ruma_events::room::member::MembershipState;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, stage::Stage};

/// See the module.
pub(crate) struct Unban {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) reason: Option<String>,
}

impl Change for Unban {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), member_key(&self.target)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        stage.expect_joined(&self.requester.user_id)?;
        if stage.membership(&self.target) != Some(MembershipState::Ban) {
            return Err(RoomError::forbidden("the user is not banned"));
        }
        let content = content(MembershipState::Leave, None, self.reason.as_deref());
        self.requester.put_member(stage, &self.target, content, next)
    }
}
