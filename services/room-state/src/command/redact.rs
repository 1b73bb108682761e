//! Redacts an event.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use polity_core::Seq;
use polity_log::Dedup;
use polity_room_engine::build::EventDraft;
use ruma_common::{EventId, OwnedEventId};
use ruma_events::TimelineEventType;
use serde_json::value::RawValue;

use super::{Change, Outcome, Requester, member_key};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct Redact {
    pub(crate) requester: Requester,
    pub(crate) target: OwnedEventId,
    pub(crate) content: Box<RawValue>,
    pub(crate) dedup: Option<Dedup>,
}

impl Change for Redact {
    fn dedup(&self) -> Option<&Dedup> {
        self.dedup.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id)]
    }

    fn redacts(&self) -> Option<&EventId> {
        Some(&self.target)
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let sender = &self.requester.user_id;
        stage.expect_joined(sender)?;
        let known = stage.hot.targets.get(&self.target).and_then(Option::as_ref);
        let known = known.ok_or_else(|| RoomError::not_found("the event to redact is not in this room"))?;
        let own = known.pdu.sender() == sender;
        if !own && !stage.levels().is_some_and(|levels| levels.user_can_redact_event_of_other(sender)) {
            return Err(RoomError::forbidden("not enough power to redact events of others"));
        }
        let draft = stage.draft_raw(TimelineEventType::RoomRedaction, None, self.content.clone(), sender.clone());
        let redacts = Some(self.target.clone());
        stage.append(EventDraft { redacts, ..draft }, next, self.dedup.clone())
    }
}
