//! Bans somebody.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#banning-users-in-a-room>

use polity_core::Seq;
use ruma_common::OwnedUserId;
use ruma_events::room::member::MembershipState;

use super::{Change, Outcome, Requester, member_key};
use crate::{
    error::RoomError,
    membership::{NewMember, content},
    stage::Stage,
};

/// See the module.
pub(crate) struct Ban {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) reason: Option<String>,
}

impl Change for Ban {
    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), member_key(&self.target)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let content = content(MembershipState::Ban, None, self.reason.as_deref());
        stage.put_member(
            NewMember { sender: self.requester.user_id.clone(), target: self.target.clone(), content },
            next,
        )
    }
}
