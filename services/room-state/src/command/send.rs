//! Sends an event that isn't state.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_events::TimelineEventType;
use serde_json::value::RawValue;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct Send {
    pub(crate) requester: Requester,
    pub(crate) event_type: TimelineEventType,
    pub(crate) content: Box<RawValue>,
    pub(crate) dedup: Option<Dedup>,
}

impl Change for Send {
    fn dedup(&self) -> Option<&Dedup> {
        self.dedup.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let sender = &self.requester.user_id;
        stage.expect_joined(sender)?;
        let draft = stage.draft_raw(self.event_type.clone(), None, self.content.clone(), sender.clone());
        stage.append(draft, next, self.dedup.clone())
    }
}
