//! Makes a room: its first group of rows, or none.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use js_int::UInt;
use polity_core::Seq;
use polity_log::NewRow;
use polity_room_engine::{
    auth,
    build::{EventDraft, SigningIdentity},
    pdu::Pdu,
    record::{Counts, RoomHead, Roots, Summary},
};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, RoomVersionId};
use serde_json::{Map, Value, json, value::RawValue};

use super::{Done, Requester};
use crate::{error::RoomError, hot::Hot, stage::Stage};

/// Initial state events beside those that every room has: all must fit into one append.
pub(crate) const INITIAL_STATE_MAX: usize = 50;

/// See the module.
pub(crate) struct Create {
    pub(crate) requester: Requester,
    pub(crate) version: RoomVersionId,
    /// Built by the caller: in version 12 the room's id is its hash.
    pub(crate) create: Pdu,
    pub(crate) preset: Preset,
    pub(crate) power_override: Map<String, Value>,
    pub(crate) initial_state: Vec<(String, String, Map<String, Value>)>,
    pub(crate) name: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) canonical_alias: Option<String>,
    pub(crate) displayname: Option<String>,
    pub(crate) avatar_url: Option<String>,
    /// Who is invited: `trusted_private_chat` gives them power.
    pub(crate) invite: Vec<OwnedUserId>,
}

/// The settings that a room begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    Private,
    Public,
    TrustedPrivate,
}

impl Create {
    /// Decides it: the room and its first rows.
    pub(crate) fn decide(
        &self,
        identity: &SigningIdentity,
        now_ms: u64,
        first: Seq,
    ) -> Result<(Hot, Vec<NewRow>, Done), RoomError> {
        let rules = self.version.rules().ok_or_else(|| RoomError::internal("a room version without rules"))?;
        let head = RoomHead {
            room_id: self.create.room_id().to_owned(),
            version: self.version.clone(),
            create_event: self.create.event_id().clone(),
            extremities: Vec::new(),
            depth: 0,
            roots: Roots::default(),
            generation: 0,
            counts: Counts::default(),
            summary: Summary::default(),
            redactions: 0,
            last_event_ms: now_ms,
        };
        auth::authorise(&rules, &self.create, |_| None, |_, _| None)
            .map_err(|why| RoomError::from(why).of_initial_state())?;
        let mut hot = Hot::new(head, rules);
        let mut stage = Stage { hot: &mut hot, identity, now_ms };
        let mut rows = vec![stage.accept(&self.create, first, None)?];
        for (event_type, state_key, content) in
            self.events(stage.hot.rules.authorization.explicitly_privilege_room_creators)
        {
            let content = RawValue::from_string(Value::Object(content).to_string());
            let draft = EventDraft {
                event_type: event_type.into(),
                state_key: Some(state_key),
                content: content.map_err(|error| RoomError::internal(error.to_string()))?,
                sender: self.requester.user_id.clone(),
                redacts: None,
                origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(now_ms).unwrap_or(UInt::MAX)),
            };
            let event = stage.build(draft).map_err(RoomError::of_initial_state)?;
            let row = stage.accept(&event, first.plus(rows.len() as u64), None)?;
            rows.push(row);
        }
        let done = Done { event_id: self.create.event_id().clone(), seq: first };
        Ok((hot, rows, done))
    }

    /// The state after the create event, in the specification's order: what comes later wins.
    fn events(&self, creators_have_power: bool) -> Vec<(String, String, Map<String, Value>)> {
        let mut events: Vec<(String, String, Map<String, Value>)> = Vec::new();
        let mut add = |event_type: &str, state_key: &str, content: Value| {
            if let Value::Object(content) = content {
                events.push((event_type.to_owned(), state_key.to_owned(), content));
            }
        };
        let mut member = json!({"membership": "join"});
        for (field, value) in [("displayname", &self.displayname), ("avatar_url", &self.avatar_url)] {
            if let Some(value) = value {
                member[field] = Value::from(value.as_str());
            }
        }
        add("m.room.member", self.requester.user_id.as_str(), member);
        add("m.room.power_levels", "", Value::Object(self.power_levels(creators_have_power)));
        if let Some(alias) = &self.canonical_alias {
            add("m.room.canonical_alias", "", json!({"alias": alias}));
        }
        let (join_rule, guests) = match self.preset {
            Preset::Public => ("public", "forbidden"),
            Preset::Private | Preset::TrustedPrivate => ("invite", "can_join"),
        };
        let overridden =
            |event_type: &str| self.initial_state.iter().any(|(t, key, _)| t == event_type && key.is_empty());
        for (event_type, content) in [
            ("m.room.join_rules", json!({"join_rule": join_rule})),
            ("m.room.history_visibility", json!({"history_visibility": "shared"})),
            ("m.room.guest_access", json!({"guest_access": guests})),
        ] {
            if !overridden(event_type) {
                add(event_type, "", content);
            }
        }
        for (event_type, state_key, content) in &self.initial_state {
            add(event_type, state_key, Value::Object(content.clone()));
        }
        if let Some(name) = &self.name {
            add("m.room.name", "", json!({"name": name}));
        }
        if let Some(topic) = &self.topic {
            let text = json!({"m.text": [{"body": topic}]});
            add("m.room.topic", "", json!({"topic": topic, "m.topic": text}));
        }
        events
    }

    fn power_levels(&self, creators_have_power: bool) -> Map<String, Value> {
        let trusted = self.preset == Preset::TrustedPrivate;
        let mut users = Map::new();
        if !creators_have_power {
            let invited = self.invite.iter().filter(|_| trusted);
            for user in [&self.requester.user_id].into_iter().chain(invited) {
                users.insert(user.to_string(), json!(100));
            }
        }
        // Since version 12 an upgrade must be out of the reach of ordinary moderators.
        let tombstone = if creators_have_power { 150 } else { 100 };
        let levels = json!({
            "ban": 50, "kick": 50, "redact": 50, "invite": 0,
            "events_default": 0, "state_default": 50, "users_default": 0,
            "events": {
                "m.room.avatar": 50, "m.room.canonical_alias": 50, "m.room.encryption": 100,
                "m.room.history_visibility": 100, "m.room.name": 50, "m.room.power_levels": 100,
                "m.room.server_acl": 100, "m.room.tombstone": tombstone,
            },
            "users": users,
        });
        let mut levels = if let Value::Object(levels) = levels { levels } else { Map::new() };
        levels.extend(self.power_override.clone());
        levels
    }
}
