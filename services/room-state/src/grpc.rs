//! gRPC to commands and back.

use std::sync::Arc;

use js_int::UInt;
use polity_core::{ErrorKind, LogKey, TenantId, tasks};
use polity_log::{Dedup, Env, Logs};
use polity_proto::{
    Detail, Transport, local,
    room_state::{
        CreateRoomRequest, CreateRoomResponse, EventResponse, SendEventRequest, SetMembershipRequest,
        room_state_server::{RoomState, RoomStateServer},
    },
    to_status,
};
use polity_room_engine::build::{self, EventDraft, Position};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, value::RawValue};
use tonic::{Request, Response, Status};

use crate::{
    command::{Command, Create, Done, Member, Requester, Send},
    deps::Deps,
    error::RoomError,
    machine::Room,
};

/// The name under which rooms' logs stand in the registry.
pub const ROOM_LOG: &str = "room";

/// The room-state service.
#[derive(Clone)]
pub struct Service {
    deps: Arc<Deps>,
    rooms: Logs<Room>,
}

impl Service {
    /// The service on these logs; at most `max_loaded` idle rooms stay in memory.
    #[must_use]
    pub fn new(deps: Arc<Deps>, env: Env, max_loaded: usize) -> Self {
        let machine_deps = Arc::clone(&deps);
        let rooms = Logs::new(env, ROOM_LOG, max_loaded, move || Room::new(Arc::clone(&machine_deps)));
        Self { deps, rooms }
    }

    /// The service for callers in this process.
    #[must_use]
    pub fn transport(&self) -> Transport {
        local(RoomStateServer::new(self.clone()))
    }

    /// Its loaded rooms, for recovery.
    #[must_use]
    pub fn recover(&self) -> Arc<dyn polity_log::Recover> {
        Arc::new(self.rooms.clone())
    }

    /// Unloads idle rooms. Call it every few seconds.
    pub fn sweep(&self) {
        self.rooms.sweep();
    }

    /// Ends all rooms' tasks; says whether they ended in time.
    pub async fn drain(&self, limit: std::time::Duration) -> bool {
        self.rooms.drain(limit).await
    }

    async fn run(&self, tenant: TenantId, room_id: &str, command: Command) -> Result<EventResponse, RoomError> {
        let key = self.deps.names.find(tenant, room_id).await?;
        let key = key.ok_or_else(|| RoomError::not_found("there is no such room"))?;
        self.submit(key, command).await
    }

    /// In a task of its own: a caller that hangs up doesn't cut a write.
    async fn submit(&self, key: LogKey, command: Command) -> Result<EventResponse, RoomError> {
        let rooms = self.rooms.clone();
        let answer = tasks::spawn(async move { rooms.submit(key, command).await });
        let Done { event_id, seq } =
            answer.await.map_err(|_| RoomError::internal("a command's task has died"))???;
        Ok(EventResponse { event_id: event_id.to_string(), life: key.life.get().into(), seq: seq.get() })
    }

    async fn create(&self, request: CreateRoomRequest) -> Result<CreateRoomResponse, RoomError> {
        let requester = requester(request.requester)?;
        let version = RoomVersionId::try_from(request.room_version.as_str()).ok();
        let version = version.filter(|v| matches!(v, RoomVersionId::V10 | RoomVersionId::V11 | RoomVersionId::V12));
        let unsupported =
            || RoomError::new(ErrorKind::Invalid, "M_UNSUPPORTED_ROOM_VERSION", "rooms of this version can't be made");
        let version = version.ok_or_else(unsupported)?;
        let preset = match request.preset.as_str() {
            "private_chat" => crate::command::Preset::PrivateChat,
            "public_chat" => crate::command::Preset::PublicChat,
            "trusted_private_chat" => crate::command::Preset::TrustedPrivateChat,
            _ => return Err(RoomError::bad_json("unknown preset")),
        };
        let invite = request.invite.iter().map(|user| user_id(user)).collect::<Result<Vec<_>, _>>()?;
        let mut initial_state = Vec::with_capacity(request.initial_state.len());
        for state in request.initial_state {
            initial_state.push((state.event_type, state.state_key, object(&state.content)?));
        }
        if initial_state.len() > crate::command::INITIAL_STATE_MAX {
            return Err(RoomError::new(ErrorKind::Invalid, "M_INVALID_PARAM", "more than 50 initial state events"));
        }
        let trusted = preset == crate::command::Preset::TrustedPrivateChat;
        let extra = object(&request.creation_content)?;
        let create = self.create_event(&requester, &version, extra, if trusted { &invite } else { &[] })?;
        let room_id = create.room_id().to_owned();
        let profile = request.profile.unwrap_or_default();
        let command = Create {
            requester: requester.clone(),
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
            invite: invite.clone(),
        };
        let key = self.deps.names.find_or_make(requester.tenant, room_id.as_str()).await?;
        let made = self.submit(key, Command::Create(Box::new(command))).await?;
        if request.listed {
            let at = polity_core::Position::new(key.life, polity_core::Seq::new(made.seq));
            polity_store::rooms::list_room(&*self.deps.store, key.tenant, &room_id, true, at, 0).await?;
        }
        for target in invite {
            let member = Member {
                requester: requester.clone(),
                target,
                change: crate::command::Change::Invite,
                reason: None,
                displayname: None,
                avatar_url: None,
                is_direct: request.is_direct,
            };
            self.submit(key, Command::Member(Box::new(member))).await?;
        }
        Ok(CreateRoomResponse { room_id: room_id.to_string() })
    }

    /// The create event, on which the room's id rests in version 12.
    fn create_event(
        &self,
        requester: &Requester,
        version: &RoomVersionId,
        mut content: Map<String, Value>,
        trusted: &[OwnedUserId],
    ) -> Result<polity_room_engine::pdu::Pdu, RoomError> {
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
            event_type: ruma_events::TimelineEventType::RoomCreate,
            state_key: Some(String::new()),
            content: raw.map_err(|error| RoomError::internal(error.to_string()))?,
            sender: requester.user_id.clone(),
            redacts: None,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.deps.clock.now_ms()).unwrap_or(UInt::MAX)),
        };
        Ok(build::build(draft, Position { depth: 1, room_id, ..Position::default() }, tenant.identity(), &rules)?)
    }

    async fn send(&self, request: SendEventRequest) -> Result<EventResponse, RoomError> {
        let requester = requester(request.requester)?;
        let content =
            std::str::from_utf8(&request.content).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let redacts = request.redacts.map(OwnedEventId::try_from).transpose();
        let send = Send {
            dedup: request.txn_id.map(|txn| Dedup { device: requester.device(), txn: txn.into() }),
            event_type: request.event_type.into(),
            state_key: request.state_key,
            content: content.ok_or_else(|| RoomError::bad_json("the content is not JSON"))?,
            redacts: redacts.map_err(|_| RoomError::bad_json("redacts is no event id"))?,
            requester,
        };
        self.run(send.requester.tenant, &request.room_id, Command::Send(Box::new(send))).await
    }

    async fn member(&self, request: SetMembershipRequest) -> Result<EventResponse, RoomError> {
        let requester = requester(request.requester)?;
        let change = match request.membership.as_str() {
            "join" if request.profile_only => crate::command::Change::Profile,
            "join" => crate::command::Change::Join,
            "invite" => crate::command::Change::Invite,
            "leave" => crate::command::Change::Leave,
            "ban" => crate::command::Change::Ban,
            "unban" => crate::command::Change::Unban,
            _ => return Err(RoomError::bad_json("unknown membership")),
        };
        let profile = request.profile.unwrap_or_default();
        let member = Member {
            target: user_id(&request.target)?,
            change,
            reason: request.reason,
            displayname: profile.displayname,
            avatar_url: profile.avatar_url,
            is_direct: request.is_direct,
            requester,
        };
        self.run(member.requester.tenant, &request.room_id, Command::Member(Box::new(member))).await
    }
}

#[tonic::async_trait]
impl RoomState for Service {
    async fn create_room(&self, request: Request<CreateRoomRequest>) -> Result<Response<CreateRoomResponse>, Status> {
        answer(self.create(request.into_inner()).await)
    }

    async fn send_event(&self, request: Request<SendEventRequest>) -> Result<Response<EventResponse>, Status> {
        answer(self.send(request.into_inner()).await)
    }

    async fn set_membership(&self, request: Request<SetMembershipRequest>) -> Result<Response<EventResponse>, Status> {
        answer(self.member(request.into_inner()).await)
    }
}

fn answer<T>(outcome: Result<T, RoomError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| to_status(&Detail::from(&error)))
}

fn requester(requester: Option<polity_proto::room_state::Requester>) -> Result<Requester, RoomError> {
    let requester = requester.ok_or_else(|| RoomError::bad_json("no requester"))?;
    Ok(Requester {
        tenant: TenantId::new(requester.tenant),
        user_id: user_id(&requester.user_id)?,
        device_id: requester.device_id.into(),
    })
}

fn user_id(text: &str) -> Result<OwnedUserId, RoomError> {
    let invalid = |_| RoomError::new(ErrorKind::Invalid, "M_INVALID_PARAM", format!("{text:?} is no user id"));
    UserId::parse(text).map(Into::into).map_err(invalid)
}

/// A JSON object; empty bytes are an empty one.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, RoomError> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| RoomError::bad_json(error.to_string()))
}
