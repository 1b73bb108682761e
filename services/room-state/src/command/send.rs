//! Sends an event: a message, state, a redaction.

use js_int::UInt;
use polity_core::Seq;
use polity_log::{Dedup, NewRow};
use polity_room_engine::build::EventDraft;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId};
use ruma_events::TimelineEventType;
use serde_json::value::RawValue;

use super::{Done, Requester};
use crate::{error::RoomError, stage::Stage};

/// See the module.
pub(crate) struct Send {
    pub(crate) requester: Requester,
    pub(crate) event_type: TimelineEventType,
    pub(crate) state_key: Option<String>,
    pub(crate) content: Box<RawValue>,
    pub(crate) redacts: Option<OwnedEventId>,
    pub(crate) dedup: Option<Dedup>,
}

impl Send {
    /// Decides it; no row if the state has that event already.
    pub(crate) fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<(Option<NewRow>, Done), RoomError> {
        let Self { requester, event_type, state_key, content, redacts, dedup } = self;
        let sender = &requester.user_id;
        // For memberships the rules of authorisation know better: one may join by such an event.
        if *event_type != TimelineEventType::RoomMember {
            stage.expect_joined(sender)?;
        }
        if let Some(key) = state_key
            && let Some(now) = stage.hot.state(&event_type.to_string(), key)
            && now.pdu.sender() == sender
            && same_json(now.pdu.content(), content)
        {
            // Nothing would change: the event that stands there is the answer.
            return Ok((None, Done { event_id: now.pdu.event_id().clone(), seq: Seq::ZERO }));
        }
        if let Some(target) = redacts {
            let known = stage.hot.targets.get(target).and_then(Option::as_ref);
            let known = known.ok_or_else(|| RoomError::not_found("the event to redact is not in this room"))?;
            let own = known.pdu.sender() == sender;
            if !own && !stage.levels().is_some_and(|levels| levels.user_can_redact_event_of_other(sender)) {
                return Err(RoomError::forbidden("not enough power to redact events of others"));
            }
        }
        let origin_server_ts = MilliSecondsSinceUnixEpoch(UInt::try_from(stage.now_ms).unwrap_or(UInt::MAX));
        let event = stage.build(EventDraft {
            event_type: event_type.clone(),
            state_key: state_key.clone(),
            content: content.clone(),
            sender: sender.clone(),
            redacts: redacts.clone(),
            origin_server_ts,
        })?;
        let row = stage.accept(&event, next, dedup.clone())?;
        Ok((Some(row), Done { event_id: event.event_id().clone(), seq: next }))
    }
}

fn same_json(a: &RawValue, b: &RawValue) -> bool {
    let parse = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get()).ok();
    a.get() == b.get() || (parse(a).is_some() && parse(a) == parse(b))
}
