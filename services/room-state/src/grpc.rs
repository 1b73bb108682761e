//! gRPC to commands and back.

use std::sync::{Arc, atomic::AtomicU64};

use polity_core::{Classified, ErrorKind, LogKey, TenantId, tasks};
use polity_log::{Dedup, Env, Logs};
use polity_proto::{
    Detail, Transport, local,
    room_state::{
        CreateRoomRequest, CreateRoomResponse, EventResponse, SendEventRequest, SetMembershipRequest,
        room_state_server::{RoomState, RoomStateServer},
    },
    to_status,
};
use ruma_common::{OwnedEventId, OwnedUserId, UserId};
use ruma_events::TimelineEventType;
use serde_json::{Map, Value, value::RawValue};
use tonic::{Request, Response, Status};

use crate::{
    command::{Change, Command, Done, Member, Requester, Send},
    deps::Deps,
    error::RoomError,
    machine::Room,
    metric,
};

/// The name under which rooms' logs stand in the registry.
pub const ROOM_LOG: &str = "room";

/// The room-state service.
#[derive(Clone)]
pub struct Service {
    pub(crate) deps: Arc<Deps>,
    rooms: Logs<Room>,
    /// When the last room was founded: see `found`.
    pub(crate) founded_ms: Arc<AtomicU64>,
}

impl Service {
    /// The service on these logs; at most `max_loaded` idle rooms stay in memory.
    #[must_use]
    pub fn new(deps: Arc<Deps>, env: Env, max_loaded: usize) -> Self {
        let machine_deps = Arc::clone(&deps);
        let rooms = Logs::new(env, ROOM_LOG, max_loaded, move || Room::new(Arc::clone(&machine_deps)));
        Self { deps, rooms, founded_ms: Arc::default() }
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
        self.deps.nodes.tell_size();
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
    pub(crate) async fn submit(&self, key: LogKey, command: Command) -> Result<EventResponse, RoomError> {
        let rooms = self.rooms.clone();
        let answer = tasks::spawn(async move { rooms.submit(key, command).await });
        let Done { event_id, seq } =
            answer.await.map_err(|_| RoomError::internal("a command's task has died"))???;
        Ok(EventResponse { event_id: event_id.to_string(), life: key.life.get().into(), seq: seq.get() })
    }

    async fn send(&self, request: SendEventRequest) -> Result<EventResponse, RoomError> {
        let requester = requester(request.requester)?;
        let event_type = TimelineEventType::from(request.event_type);
        let content = content_of(&event_type, &request.content)?;
        let mut redacts = request.redacts;
        if redacts.is_none() && event_type == TimelineEventType::RoomRedaction {
            // Sent like any other event: since version 11 its target stands in the content.
            redacts = object(&request.content)?.get("redacts").and_then(Value::as_str).map(str::to_owned);
        }
        let redacts = redacts.map(OwnedEventId::try_from).transpose();
        let send = Send {
            dedup: request.txn_id.map(|txn| Dedup { device: requester.device(), txn: txn.into() }),
            event_type,
            state_key: request.state_key,
            content,
            redacts: redacts.map_err(|_| RoomError::bad_json("redacts is no event id"))?,
            requester,
        };
        self.run(send.requester.tenant, &request.room_id, Command::Send(Box::new(send))).await
    }

    async fn member(&self, request: SetMembershipRequest) -> Result<EventResponse, RoomError> {
        let requester = requester(request.requester)?;
        let change = match request.membership.as_str() {
            "join" if request.profile_only => Change::Profile,
            "join" => Change::Join,
            "invite" => Change::Invite,
            "leave" => Change::Leave,
            "ban" => Change::Ban,
            "unban" => Change::Unban,
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
        // In a task of its own: a caller that hangs up leaves no room without its invitations.
        let (service, request) = (self.clone(), request.into_inner());
        let made = tasks::spawn(async move { service.found(request).await });
        answer(
            "create_room",
            made.await.unwrap_or_else(|_| Err(RoomError::internal("the founding of a room has died"))),
        )
    }

    async fn send_event(&self, request: Request<SendEventRequest>) -> Result<Response<EventResponse>, Status> {
        answer("send_event", self.send(request.into_inner()).await)
    }

    async fn set_membership(&self, request: Request<SetMembershipRequest>) -> Result<Response<EventResponse>, Status> {
        answer("set_membership", self.member(request.into_inner()).await)
    }
}

fn answer<T>(command: &'static str, outcome: Result<T, RoomError>) -> Result<Response<T>, Status> {
    metric::count(command, &outcome);
    if let Err(error) = &outcome
        && error.kind() == ErrorKind::Internal
    {
        tracing::error!(command, %error, "a command on a room failed");
    }
    outcome.map(Response::new).map_err(|error| to_status(&Detail::from(&error)))
}

pub(crate) fn requester(requester: Option<polity_proto::room_state::Requester>) -> Result<Requester, RoomError> {
    let requester = requester.ok_or_else(|| RoomError::bad_json("no requester"))?;
    Ok(Requester {
        tenant: TenantId::new(requester.tenant),
        user_id: user_id(&requester.user_id)?,
        device_id: requester.device_id.into(),
    })
}

pub(crate) fn user_id(text: &str) -> Result<OwnedUserId, RoomError> {
    let invalid = |_| RoomError::new(ErrorKind::Invalid, "M_INVALID_PARAM", format!("{text:?} is no user id"));
    UserId::parse(text).map_err(invalid)
}

/// The content that a client wants to send.
fn content_of(event_type: &TimelineEventType, content: &[u8]) -> Result<Box<RawValue>, RoomError> {
    let text = std::str::from_utf8(content).map_err(|_| RoomError::bad_json("the content is not UTF-8"))?;
    let raw = match event_type {
        TimelineEventType::RoomMember => {
            let mut content = object(content)?;
            // Only a server may say that it has checked the conditions of a restricted join.
            content.remove("join_authorised_via_users_server");
            RawValue::from_string(Value::Object(content).to_string())
        }
        _ => RawValue::from_string(text.to_owned()),
    };
    raw.map_err(|_| RoomError::bad_json("the content is not JSON"))
}

/// A JSON object; empty bytes are an empty one.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, RoomError> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| RoomError::bad_json(error.to_string()))
}
