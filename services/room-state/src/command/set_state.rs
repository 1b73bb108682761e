//! Sets an entry of the state.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use polity_core::Seq;
use polity_log::Dedup;
use ruma_events::TimelineEventType;
use serde_json::{Value, value::RawValue};

use super::{Change, Done, Outcome, Requester, member_key};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct SetState {
    pub(crate) requester: Requester,
    pub(crate) event_type: TimelineEventType,
    pub(crate) state_key: String,
    pub(crate) content: Box<RawValue>,
}

impl Change for SetState {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        vec![member_key(&self.requester.user_id), (self.event_type.to_string(), self.state_key.clone())]
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let (sender, event_type) = (&self.requester.user_id, &self.event_type);
        // For memberships the rules of authorisation know better: one may join by such an event.
        if *event_type != TimelineEventType::RoomMember {
            stage.expect_joined(sender)?;
        }
        if let Some(now) = stage.hot.state(&event_type.to_string(), &self.state_key)
            && now.pdu.sender() == sender
            // Whoever sets again what was redacted wants an event that isn't.
            && !now.redacted
            && same_json(now.pdu.content(), &self.content)
        {
            // Nothing would change: the event that stands there is the answer.
            return Ok(Outcome::Stands(Done::before(now.pdu.event_id())));
        }
        let state_key = Some(self.state_key.clone());
        let draft = stage.draft_raw(event_type.clone(), state_key, self.content.clone(), sender.clone());
        stage.append(draft, next, self.requester.call.clone())
    }
}

fn same_json(a: &RawValue, b: &RawValue) -> bool {
    let parse = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    a.get() == b.get() || (parse(a).is_some() && parse(a) == parse(b))
}
