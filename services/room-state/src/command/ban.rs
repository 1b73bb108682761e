//! Bans somebody.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#banning-users-in-a-room>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_common::OwnedUserId;
use ruma_events::room::member::MembershipState;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, stage::Stage};

/// See the module.
pub(crate) struct Ban {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) reason: Option<String>,
}

impl Change for Ban {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), member_key(&self.target)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let content = content(MembershipState::Ban, None, self.reason.as_deref());
        self.requester.put_member(stage, &self.target, content, next)
    }
}
