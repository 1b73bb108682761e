//! Gives a member the profile that the user has.
//!
//! It is read when the command is decided, on the head that its row will follow: whoever waits with a command while a newer profile is given to the
//! room brings no old one back, however late it is and whatever became of who asked for it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_common::UserId;
use ruma_events::room::member::MembershipState;
use serde_json::{Map, Value};

use super::{Change, Done, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, stage::Stage};

/// See the module.
pub(crate) struct SetProfile {
    pub(crate) requester: Requester,
}

impl Change for SetProfile {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn profile_of(&self) -> Option<&UserId> {
        Some(&self.requester.user_id)
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let sender = &self.requester.user_id;
        stage.expect_joined(sender)?;
        let profile = stage.hot.profile(sender)?;
        let content = content(MembershipState::Join, Some(profile), None);
        if let Some(now) = stage.member_event(sender)
            && serde_json::from_str::<Map<String, Value>>(now.content().get()).is_ok_and(|now| now == content)
        {
            return Ok(Outcome::Stands(Done::before(now.event_id())));
        }
        self.requester.put_member(stage, sender, content, next)
    }
}
