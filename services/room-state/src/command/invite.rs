//! Invites somebody.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_common::OwnedUserId;
use ruma_events::room::member::MembershipState;
use serde_json::Value;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, profiles::Profile, stage::Stage};

/// See the module.
pub(crate) struct Invite {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedUserId,
    pub(crate) reason: Option<String>,
    /// The target's.
    pub(crate) profile: Profile,
    pub(crate) is_direct: bool,
}

impl Change for Invite {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), member_key(&self.target)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let mut content = content(MembershipState::Invite, Some(&self.profile), self.reason.as_deref());
        if self.is_direct {
            content.insert("is_direct".to_owned(), Value::Bool(true));
        }
        self.requester.put_member(stage, &self.target, content, next)
    }
}
