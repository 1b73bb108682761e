//! Founds a room: its id, its first rows in one append, its place in the directory, its invitations.
//!
//! A crash leaves no room, or one with all that it begins with; invitations, each an append of its own, may be missing then.

use std::sync::atomic::Ordering;

use js_int::UInt;
use polity_core::{ErrorKind, LogKey, Position, Seq};
use polity_proto::room_state::{CreateRoomRequest, CreateRoomResponse};
use polity_room_engine::{
    build::{self, EventDraft},
    pdu::Pdu,
};
use polity_store::rooms;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedUserId, RoomVersionId};
use ruma_events::TimelineEventType;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    command::{Change, Command, Create, INITIAL_STATE_MAX, Member, Preset, Requester},
    error::RoomError,
    grpc::{Service, object, requester, user_id},
};

impl Service {
    /// Makes a room.
    pub(crate) async fn found(&self, request: CreateRoomRequest) -> Result<CreateRoomResponse, RoomError> {
        let (listed, is_direct) = (request.listed, request.is_direct);
        let command = self.plan(request)?;
        let (by, room_id) = (command.requester.clone(), command.create.room_id().to_owned());
        // Whoever founds a room is in it.
        let invite: Vec<OwnedUserId> = command.invite.iter().filter(|user| **user != by.user_id).cloned().collect();
        let key = self.deps.names.find_or_make(by.tenant, room_id.as_str()).await?;
        let made = self.submit(key, Command::Create(Box::new(command))).await?;
        if listed {
            let at = Position::new(key.life, Seq::new(made.seq));
            rooms::list_room(&*self.deps.store, key.tenant, &room_id, true, at, 0).await?;
        }
        for target in invite {
            self.invite(key, &by, target, is_direct).await?;
        }
        Ok(CreateRoomResponse { room_id: room_id.to_string() })
    }

    async fn invite(&self, key: LogKey, by: &Requester, who: OwnedUserId, direct: bool) -> Result<(), RoomError> {
        let member = Member {
            requester: by.clone(),
            target: who,
            change: Change::Invite,
            reason: None,
            displayname: None,
            avatar_url: None,
            is_direct: direct,
        };
        self.submit(key, Command::Member(Box::new(member))).await.map(drop)
    }

    /// The command for a request.
    fn plan(&self, request: CreateRoomRequest) -> Result<Create, RoomError> {
        let requester = requester(request.requester)?;
        let version = version(&request.room_version)?;
        let preset = match request.preset.as_str() {
            "private_chat" => Preset::Private,
            "public_chat" => Preset::Public,
            "trusted_private_chat" => Preset::TrustedPrivate,
            _ => return Err(RoomError::bad_json("unknown preset")),
        };
        let invite = request.invite.iter().map(|user| user_id(user)).collect::<Result<Vec<_>, _>>()?;
        if request.initial_state.len() > INITIAL_STATE_MAX {
            return Err(RoomError::new(ErrorKind::Invalid, "M_INVALID_PARAM", "more than 50 initial state events"));
        }
        let mut initial_state = Vec::with_capacity(request.initial_state.len());
        for state in request.initial_state {
            initial_state.push((state.event_type, state.state_key, object(&state.content)?));
        }
        let trusted = if preset == Preset::TrustedPrivate { &*invite } else { &[] };
        let create = self.create_event(&requester, &version, object(&request.creation_content)?, trusted)?;
        let profile = request.profile.unwrap_or_default();
        Ok(Create {
            requester,
            version,
            create,
            preset,
            power_override: object(&request.power_level_content_override)?,
            initial_state,
            name: request.name,
            topic: request.topic,
            canonical_alias: request.canonical_alias,
            displayname: profile.displayname,
            avatar_url: profile.avatar_url,
            invite,
        })
    }

    /// The create event, on which the room's id rests in version 12.
    fn create_event(
        &self,
        requester: &Requester,
        version: &RoomVersionId,
        mut content: Map<String, Value>,
        trusted: &[OwnedUserId],
    ) -> Result<Pdu, RoomError> {
        let rules = version.rules().ok_or_else(|| RoomError::internal("a room version without rules"))?;
        let gone = || RoomError::internal("the tenant is gone");
        let tenant = self.deps.tenants.tenant(requester.tenant).ok_or_else(gone)?;
        content.insert("room_version".to_owned(), Value::from(version.as_str()));
        content.remove("creator");
        if !rules.authorization.use_room_create_sender {
            content.insert("creator".to_owned(), Value::from(requester.user_id.as_str()));
        }
        if rules.authorization.explicitly_privilege_room_creators && !trusted.is_empty() {
            let creators = content.entry("additional_creators").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(creators) = creators {
                creators.extend(trusted.iter().map(|user| Value::from(user.as_str())));
            }
        }
        let room_id = if rules.authorization.room_create_event_id_as_room_id {
            None
        } else {
            let id = format!("!{}:{}", self.deps.random.alphanumeric(18), tenant.identity().server_name());
            Some(OwnedRoomId::try_from(id).map_err(|error| RoomError::internal(error.to_string()))?)
        };
        let raw = RawValue::from_string(Value::Object(content).to_string());
        let draft = EventDraft {
            event_type: TimelineEventType::RoomCreate,
            state_key: Some(String::new()),
            content: raw.map_err(|error| RoomError::internal(error.to_string()))?,
            sender: requester.user_id.clone(),
            redacts: None,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.founding_ms()).unwrap_or(UInt::MAX)),
        };
        let position = build::Position { depth: 1, room_id, ..build::Position::default() };
        Ok(build::build(draft, position, tenant.identity(), &rules)?)
    }

    /// The time, but never the same twice: in version 12 two rooms that a user makes alike at one time would have one id.
    fn founding_ms(&self) -> u64 {
        let now = self.deps.clock.now_ms();
        let before = self
            .founded_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .unwrap_or_else(|last| last);
        now.max(before + 1)
    }
}

fn version(name: &str) -> Result<RoomVersionId, RoomError> {
    match RoomVersionId::try_from(name) {
        Ok(version @ (RoomVersionId::V10 | RoomVersionId::V11 | RoomVersionId::V12)) => Ok(version),
        _ => Err(RoomError::new(
            ErrorKind::Invalid,
            "M_UNSUPPORTED_ROOM_VERSION",
            "rooms of this version can't be made here",
        )),
    }
}
