//! Deciding one event on a room in memory: authorise, build, note its effects.

use js_int::UInt;
use polity_core::Seq;
use polity_log::{Dedup, NewRow};
use polity_room_engine::{
    auth,
    build::{self, EventDraft, Position, SigningIdentity},
    pdu::Pdu,
    power::{PowerLevels, power_levels},
    record::{MembershipChange, RoomRow, RowMeta, row_kind},
    redact,
};
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UserId};
use ruma_events::{TimelineEventType, room::member::MembershipState};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    command::{Done, Outcome},
    error::RoomError,
    hot::{Hot, Target},
    summary,
};

/// Users with power by name of whom anything is asked.
const NAMED: usize = 1000;

/// What an event is decided with.
pub(crate) struct Stage<'a> {
    pub(crate) hot: &'a mut Hot,
    pub(crate) identity: &'a SigningIdentity,
    pub(crate) now_ms: u64,
}

impl Stage<'_> {
    /// What somebody wants to send, now.
    pub(crate) fn draft(
        &self,
        event_type: TimelineEventType,
        state_key: Option<String>,
        content: Value,
        sender: OwnedUserId,
    ) -> Result<EventDraft, RoomError> {
        let content = RawValue::from_string(content.to_string());
        let content = content.map_err(|error| RoomError::internal(error.to_string()))?;
        Ok(self.draft_raw(event_type, state_key, content, sender))
    }

    /// The same with content that is JSON already.
    pub(crate) fn draft_raw(
        &self,
        event_type: TimelineEventType,
        state_key: Option<String>,
        content: Box<RawValue>,
        sender: OwnedUserId,
    ) -> EventDraft {
        let origin_server_ts = MilliSecondsSinceUnixEpoch(UInt::try_from(self.now_ms).unwrap_or(UInt::MAX));
        EventDraft { event_type, state_key, content, sender, redacts: None, origin_server_ts }
    }

    /// Builds an event and takes it into the room as its next row, if the rules allow it.
    pub(crate) fn append(&mut self, draft: EventDraft, next: Seq, dedup: Option<Dedup>) -> Result<Outcome, RoomError> {
        let event = self.build(draft)?;
        let row = self.accept(&event, next, dedup)?;
        Ok(Outcome::Append(row, Done { event_id: Some(event.event_id().clone()), seq: next, anew: true }))
    }

    /// Builds an event at the room's end and checks that the state allows it. Changes nothing.
    pub(crate) fn build(&self, draft: EventDraft) -> Result<Pdu, RoomError> {
        let hot = &*self.hot;
        let types = auth::auth_types(&draft, &hot.rules).map_err(|why| RoomError::bad_json(why.to_string()))?;
        let cited: Vec<Pdu> = types
            .iter()
            .filter_map(|(event_type, key)| hot.state(&event_type.to_string(), key))
            .map(|event| event.pdu.clone())
            .collect();
        let position = Position {
            prev_events: hot.head.extremities.clone(),
            auth_events: cited.iter().map(|event| event.event_id().clone()).collect(),
            depth: hot.head.depth + 1,
            room_id: Some(hot.head.room_id.clone()),
        };
        let event = build::build(draft, position, self.identity, &hot.rules)?;
        let create = hot.state("m.room.create", "").map(|event| event.pdu.clone());
        let cites = |id: &EventId| -> Option<Pdu> {
            let of_create = || create.clone().filter(|create| *create.event_id() == *id);
            cited.iter().find(|event| *event.event_id() == *id).cloned().or_else(of_create)
        };
        auth::authorise(&hot.rules, &event, cites, |event_type, key| {
            hot.state(&event_type.to_string(), key).map(|event| event.pdu.clone())
        })?;
        Ok(event)
    }

    /// Refuses whoever isn't in the room, before anything of the room is told.
    pub(crate) fn expect_joined(&self, user_id: &UserId) -> Result<(), RoomError> {
        let member = self.hot.state("m.room.member", user_id.as_str()).and_then(|event| event.pdu.membership());
        let joined = member == Some(MembershipState::Join);
        if joined { Ok(()) } else { Err(RoomError::forbidden("you are not in this room")) }
    }

    /// Takes an allowed event into the room as the row `seq`.
    pub(crate) fn accept(&mut self, event: &Pdu, seq: Seq, dedup: Option<Dedup>) -> Result<NewRow, RoomError> {
        let (group_first, roots) = self.hot.group(seq);
        let mut meta = RowMeta { group_first, roots, received_ms: self.now_ms, ..RowMeta::default() };
        if event.state_key().is_some() {
            self.state_effects(event, seq, &mut meta);
        }
        meta.redacts = self.redaction(event);
        meta.thread = thread_of(event);
        let rings = self.rings(event);
        meta.notifies = meta.redacts.is_none() && (rings || notifies(event));
        if let Some((target, Some(_))) = &meta.redacts {
            self.note_redaction(target)?;
        }
        let head = &mut self.hot.head;
        head.counts.notifying += u64::from(meta.notifies);
        head.counts.highlights += u64::from(rings);
        meta.counts = head.counts;
        head.extremities = vec![event.event_id().clone()];
        head.depth = event.depth();
        head.last_event_ms = self.now_ms;
        let kind = if event.state_key().is_some() { row_kind::STATE } else { row_kind::EVENT };
        let body =
            RoomRow { meta, pdu: event.json().clone() }.encode().map_err(|e| RoomError::internal(e.to_string()))?;
        let (device, txn) = dedup.map(|dedup| (dedup.device, dedup.txn)).unzip();
        Ok(NewRow { kind, event_id: Some(event.event_id().as_str().into()), device, txn, body })
    }

    fn state_effects(&mut self, event: &Pdu, seq: Seq, meta: &mut RowMeta) {
        let member = event.event_type().to_string() == "m.room.member";
        let key = event.state_key().unwrap_or_default();
        let before = self.hot.state(&event.event_type().to_string(), key).cloned();
        let was = before.as_ref().and_then(|event| event.pdu.membership()).map(|m| m.to_string());
        summary::update(&mut self.hot.head.summary, event, was.as_deref());
        let mut since = Seq::ZERO;
        if member && let Some(now) = event.membership().map(|membership| membership.to_string()) {
            let changed = was.as_deref() != Some(&*now);
            // Who is out stays out, whatever keeps him there: a ban brings no room back that was left and forgotten.
            let out = |membership: &str| matches!(membership, "leave" | "ban");
            let begins = changed && !(out(&now) && was.as_deref().is_some_and(out));
            since = if begins { seq } else { before.map_or(seq, |event| event.since) };
            if let Ok(user_id) = ruma_common::OwnedUserId::try_from(key) {
                meta.membership = Some(MembershipChange { user_id, membership: now, since, changed });
            }
        }
        meta.deltas.push(self.hot.set_state(event, since));
    }

    /// Whether an event highlights for everybody by the default push rules.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#default-override-rules>
    fn rings(&self, event: &Pdu) -> bool {
        let closes = *event.event_type() == TimelineEventType::RoomTombstone && event.state_key() == Some("");
        // The levels are read only for the few events that call for everybody.
        let calls = || {
            mentions_room(event)
                && self.levels().is_some_and(|levels| levels.user_can_trigger_room_notification(event.sender()))
        };
        closes || calls()
    }

    /// Counts an effective redaction. Only the first one of an event takes it out of the counts, and what it takes away out of the
    /// state and the summary.
    fn note_redaction(&mut self, id: &EventId) -> Result<(), RoomError> {
        self.hot.head.redactions += 1;
        let target = self.hot.targets.get_mut(id).and_then(Option::as_mut).filter(|target| !target.redacted);
        let Some(target) = target else { return Ok(()) };
        target.redacted = true;
        self.hot.head.counts.redacted += u64::from(target.notifies);
        if let Some(left) = self.hot.redact_state(id)? {
            let membership = left.membership().map(|membership| membership.to_string());
            summary::update(&mut self.hot.head.summary, &left, membership.as_deref());
        }
        Ok(())
    }

    /// The target of a redaction, with its row if the redaction takes effect.
    fn redaction(&self, event: &Pdu) -> Option<(OwnedEventId, Option<Seq>)> {
        let id = event.redacts()?;
        let target: Option<&Target> = self.hot.targets.get(id).and_then(Option::as_ref);
        let effective =
            target.filter(|target| self.levels().is_some_and(|levels| redact::may_redact(event, &target.pdu, &levels)));
        Some((id.clone(), effective.map(|target| target.seq)))
    }

    pub(crate) fn levels(&self) -> Option<PowerLevels> {
        let create = self.hot.state("m.room.create", "")?;
        let levels = self.hot.state("m.room.power_levels", "").map(|event| &event.pdu);
        power_levels(&create.pdu, levels, &self.hot.rules).ok()
    }

    /// Who may invite by name, the most powerful first: creators, then by level.
    pub(crate) fn may_invite_by_name(&self) -> Vec<OwnedUserId> {
        let Some(levels) = self.levels() else { return Vec::new() };
        let mut named: Vec<_> = levels.users.iter().filter(|(_, level)| **level >= levels.invite).collect();
        named.sort_by(|a, b| b.1.cmp(a.1));
        let creators = levels.rules.privileged_creators.iter().flatten();
        creators.chain(named.into_iter().map(|(user, _)| user)).take(NAMED).cloned().collect()
    }

    /// Whether members without a level of their own may invite.
    pub(crate) fn anybody_may_invite(&self) -> bool {
        self.levels().is_some_and(|levels| levels.users_default >= levels.invite)
    }
}

fn content_of(event: &Pdu) -> Map<String, Value> {
    serde_json::from_str(event.content().get()).unwrap_or_default()
}

/// The thread that an event belongs to, by its root.
fn thread_of(event: &Pdu) -> Option<OwnedEventId> {
    // Most events have no relation: looking for the word is cheaper than reading them.
    if !event.content().get().contains("m.thread") {
        return None;
    }
    let content = content_of(event);
    let relation = content.get("m.relates_to")?;
    let is_thread = relation.get("rel_type").and_then(Value::as_str) == Some("m.thread");
    relation.get("event_id").filter(|_| is_thread)?.as_str()?.try_into().ok()
}

/// Whether an event notifies everybody by the default push rules.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#default-underride-rules>
fn notifies(event: &Pdu) -> bool {
    let event_type = event.event_type().to_string();
    match event_type.as_str() {
        "m.room.encrypted" | "m.call.invite" => true,
        "m.room.message" => {
            let content = content_of(event);
            let edit = content.get("m.relates_to").and_then(|relation| relation.get("rel_type"))
                == Some(&Value::from("m.replace"));
            content.get("msgtype") != Some(&Value::from("m.notice")) && !edit
        }
        _ => false,
    }
}

/// Whether an event mentions the whole room. A notice doesn't: the rule that keeps it silent stands before that of mentions.
fn mentions_room(event: &Pdu) -> bool {
    // Hardly any content has mentions: looking for the word is cheaper than reading it all.
    if !event.content().get().contains("m.mentions") {
        return false;
    }
    let content = content_of(event);
    let is_notice = *event.event_type() == TimelineEventType::RoomMessage
        && content.get("msgtype") == Some(&Value::from("m.notice"));
    !is_notice && content.get("m.mentions").and_then(|mentions| mentions.get("room")) == Some(&Value::Bool(true))
}
