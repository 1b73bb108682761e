//! Makes a room: its first group of rows, or none.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use polity_core::{ErrorKind, Seq};
use polity_log::{GROUP_BYTES, GROUP_ROWS, NewRow};
use polity_proto::Reason;
use polity_room_engine::{
    auth,
    build::SigningIdentity,
    pdu::Pdu,
    record::{Counts, RoomHead, Roots, Summary},
};
use ruma_common::{OwnedRoomAliasId, OwnedUserId, RoomVersionId};
use ruma_events::room::member::MembershipState;
use serde_json::{Map, Value, json};

use super::{Done, Requester};
use crate::{error::RoomError, hot::Hot, membership, profiles::Profile, stage::Stage};

/// Initial state events beside those that every room has.
pub(crate) const INITIAL_STATE_MAX: usize = 50;
/// Rows that a room begins with at most, beside initial state and invitations: see [`Create::events`].
const OWN_ROWS: usize = 10;
/// Users invited from the beginning.
pub(crate) const INVITE_MAX: usize = 100;

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
    pub(crate) canonical_alias: Option<OwnedRoomAliasId>,
    pub(crate) profile: Profile,
    /// Who is invited: `trusted_private_chat` gives them power.
    pub(crate) invite: Vec<(OwnedUserId, Profile)>,
    pub(crate) is_direct: bool,
    /// Whether it stands in the directory.
    pub(crate) listed: bool,
}

/// The settings that a room begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    Private,
    Public,
    TrustedPrivate,
}

impl Create {
    /// Decides it: the room and its first rows, with as many of its invitations as one append takes.
    pub(crate) fn decide(
        &self,
        identity: &SigningIdentity,
        now_ms: u64,
        first: Seq,
    ) -> Result<(Hot, Vec<NewRow>, Done), RoomError> {
        let rules = self.version.rules().ok_or_else(|| RoomError::internal("a room version without rules"))?;
        auth::authorise(&rules, &self.create, |_| None, |_, _| None)
            .map_err(|why| RoomError::from(why).of_initial_state())?;
        let creators_have_power = rules.authorization.explicitly_privilege_room_creators;
        let mut hot = Hot::new(self.head(now_ms), rules);
        let mut stage = Stage { hot: &mut hot, identity, now_ms };
        let mut rows = vec![stage.accept(&self.create, first, None)?];
        let mut events = self.events(creators_have_power);
        events.extend(self.invitations().take(self.early()));
        for (event_type, state_key, content) in events {
            let sender = self.requester.user_id.clone();
            let draft = stage.draft(event_type.into(), Some(state_key), Value::Object(content), sender)?;
            let event = stage.build(draft).map_err(RoomError::of_initial_state)?;
            let row = stage.accept(&event, first.plus(rows.len() as u64), None)?;
            rows.push(row);
        }
        if self.listed {
            let row = stage.list(true, first.plus(rows.len() as u64))?;
            rows.push(row);
        }
        if rows.len() > GROUP_ROWS || rows.iter().map(NewRow::size).sum::<usize>() > GROUP_BYTES {
            let message = "the room begins with more than can be written at once";
            return Err(RoomError::new(ErrorKind::TooLarge, Reason::TooLarge, message));
        }
        let done = Done { event_id: Some(self.create.event_id().clone()), seq: first, anew: true };
        Ok((hot, rows, done))
    }

    fn head(&self, now_ms: u64) -> RoomHead {
        RoomHead {
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
            listed: false,
        }
    }

    /// How many of the invitations stand in the first append.
    fn early(&self) -> usize {
        (GROUP_ROWS - OWN_ROWS).saturating_sub(self.initial_state.len()).min(self.invite.len())
    }

    /// Who is to be invited after the first append.
    pub(crate) fn late_invitations(&self) -> &[(OwnedUserId, Profile)] {
        &self.invite[self.early()..]
    }

    fn invitations(&self) -> impl Iterator<Item = (String, String, Map<String, Value>)> {
        self.invite.iter().map(|(user, profile)| {
            let mut content = membership::content(MembershipState::Invite, Some(profile), None);
            if self.is_direct {
                content.insert("is_direct".to_owned(), Value::Bool(true));
            }
            ("m.room.member".to_owned(), user.to_string(), content)
        })
    }

    /// The state after the create event, in the specification's order: what comes later wins.
    fn events(&self, creators_have_power: bool) -> Vec<(String, String, Map<String, Value>)> {
        let mut events: Vec<(String, String, Map<String, Value>)> = Vec::new();
        let mut add = |event_type: &str, state_key: &str, content: Value| {
            if let Value::Object(content) = content {
                events.push((event_type.to_owned(), state_key.to_owned(), content));
            }
        };
        let member = membership::content(MembershipState::Join, Some(&self.profile), None);
        add("m.room.member", self.requester.user_id.as_str(), Value::Object(member));
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
            let invited = self.invite.iter().map(|(user, _)| user).filter(|_| trusted);
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
