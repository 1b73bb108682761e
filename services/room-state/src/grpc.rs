//! gRPC to commands and back, and nothing else.

use std::future::Future;

use polity_core::{Classified, ErrorKind, TenantId};
use polity_log::Dedup;
use polity_proto::room_state::{
    self as proto, BanUserRequest, BanUserResponse, CreateRoomRequest, CreateRoomResponse, InviteUserRequest,
    InviteUserResponse, JoinRoomRequest, JoinRoomResponse, KickUserRequest, KickUserResponse, KnockRoomRequest,
    KnockRoomResponse, LeaveRoomRequest, LeaveRoomResponse, ListRoomRequest, ListRoomResponse, PurgeRoomRequest,
    PurgeRoomResponse, RedactEventRequest, RedactEventResponse, SendEventRequest, SendEventResponse, SetProfileRequest,
    SetProfileResponse, SetStateRequest, SetStateResponse, UnbanUserRequest, UnbanUserResponse,
    room_state_server::RoomState,
};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use ruma_events::TimelineEventType;
use serde_json::{Map, Value, value::RawValue};
use tonic::{Request, Response, Status};

use crate::{
    command::{Ban, Command, Invite, Kick, Knock, Leave, List, Redact, Requester, Send, SetProfile, SetState, Unban},
    error::RoomError,
    metric,
    rooms::{Placed, Service},
};

/// Bytes of a call's name at most.
const CALL_NAME: usize = 16;

#[tonic::async_trait]
impl RoomState for Service {
    async fn create_room(&self, request: Request<CreateRoomRequest>) -> Result<Response<CreateRoomResponse>, Status> {
        let request = request.into_inner();
        let made = self.outlive(|service| async move { service.found(request).await });
        let room_id = answer("create_room", made.await)?.into();
        Ok(Response::new(CreateRoomResponse { room_id }))
    }

    async fn send_event(&self, request: Request<SendEventRequest>) -> Result<Response<SendEventResponse>, Status> {
        let event = self.change("send_event", request.into_inner(), send).await?;
        Ok(Response::new(SendEventResponse { event: Some(event) }))
    }

    async fn set_state(&self, request: Request<SetStateRequest>) -> Result<Response<SetStateResponse>, Status> {
        let event = self.change("set_state", request.into_inner(), set_state).await?;
        Ok(Response::new(SetStateResponse { event: Some(event) }))
    }

    async fn redact_event(
        &self,
        request: Request<RedactEventRequest>,
    ) -> Result<Response<RedactEventResponse>, Status> {
        let event = self.change("redact_event", request.into_inner(), redact).await?;
        Ok(Response::new(RedactEventResponse { event: Some(event) }))
    }

    async fn join_room(&self, request: Request<JoinRoomRequest>) -> Result<Response<JoinRoomResponse>, Status> {
        let JoinRoomRequest { requester: by, room_id, reason } = request.into_inner();
        let joined = self.outlive(|service| async move { service.join(&room_id, requester(by)?, reason).await });
        let event = answer("join_room", joined.await)?.appended();
        Ok(Response::new(JoinRoomResponse { event: Some(event) }))
    }

    async fn knock_room(&self, request: Request<KnockRoomRequest>) -> Result<Response<KnockRoomResponse>, Status> {
        let KnockRoomRequest { requester: by, room_id, reason } = request.into_inner();
        let knocked = self.outlive(|service| async move {
            let requester = requester(by)?;
            let (tenant, profile) = (requester.tenant, service.profile(requester.tenant, &requester.user_id).await?);
            service.run(tenant, &room_id, Knock { requester, profile, reason }.into()).await
        });
        let event = answer("knock_room", knocked.await)?.appended();
        Ok(Response::new(KnockRoomResponse { event: Some(event) }))
    }

    async fn leave_room(&self, request: Request<LeaveRoomRequest>) -> Result<Response<LeaveRoomResponse>, Status> {
        let event = self.change("leave_room", request.into_inner(), |request| {
            let requester = requester(request.requester)?;
            Ok((requester.tenant, request.room_id, Leave { requester, reason: request.reason }.into()))
        });
        Ok(Response::new(LeaveRoomResponse { event: Some(event.await?) }))
    }

    async fn invite_user(&self, request: Request<InviteUserRequest>) -> Result<Response<InviteUserResponse>, Status> {
        let InviteUserRequest { requester: by, room_id, user_id: target, reason, is_direct } = request.into_inner();
        let invited = self.outlive(|service| async move {
            let (requester, target) = (requester(by)?, user_id(&target)?);
            let (tenant, profile) = (requester.tenant, service.profile(requester.tenant, &target).await?);
            service.run(tenant, &room_id, Invite { requester, target, reason, profile, is_direct }.into()).await
        });
        let event = answer("invite_user", invited.await)?.appended();
        Ok(Response::new(InviteUserResponse { event: Some(event) }))
    }

    async fn kick_user(&self, request: Request<KickUserRequest>) -> Result<Response<KickUserResponse>, Status> {
        let event = self.change("kick_user", request.into_inner(), |request| {
            let (requester, target) = (requester(request.requester)?, user_id(&request.user_id)?);
            Ok((requester.tenant, request.room_id, Kick { requester, target, reason: request.reason }.into()))
        });
        Ok(Response::new(KickUserResponse { event: Some(event.await?) }))
    }

    async fn ban_user(&self, request: Request<BanUserRequest>) -> Result<Response<BanUserResponse>, Status> {
        let event = self.change("ban_user", request.into_inner(), |request| {
            let (requester, target) = (requester(request.requester)?, user_id(&request.user_id)?);
            Ok((requester.tenant, request.room_id, Ban { requester, target, reason: request.reason }.into()))
        });
        Ok(Response::new(BanUserResponse { event: Some(event.await?) }))
    }

    async fn unban_user(&self, request: Request<UnbanUserRequest>) -> Result<Response<UnbanUserResponse>, Status> {
        let event = self.change("unban_user", request.into_inner(), |request| {
            let (requester, target) = (requester(request.requester)?, user_id(&request.user_id)?);
            Ok((requester.tenant, request.room_id, Unban { requester, target, reason: request.reason }.into()))
        });
        Ok(Response::new(UnbanUserResponse { event: Some(event.await?) }))
    }

    async fn set_profile(&self, request: Request<SetProfileRequest>) -> Result<Response<SetProfileResponse>, Status> {
        let event = self.change("set_profile", request.into_inner(), |request| {
            let requester = requester(request.requester)?;
            Ok((requester.tenant, request.room_id, SetProfile { requester }.into()))
        });
        Ok(Response::new(SetProfileResponse { event: Some(event.await?) }))
    }

    async fn list_room(&self, request: Request<ListRoomRequest>) -> Result<Response<ListRoomResponse>, Status> {
        let listed = self.change("list_room", request.into_inner(), |request| {
            let requester = requester(request.requester)?;
            Ok((requester.tenant, request.room_id, List { requester, listed: request.listed }.into()))
        });
        listed.await.map(|_| Response::new(ListRoomResponse {}))
    }

    async fn purge_room(&self, request: Request<PurgeRoomRequest>) -> Result<Response<PurgeRoomResponse>, Status> {
        let PurgeRoomRequest { tenant, room_id } = request.into_inner();
        let purged = self.outlive(|service| async move { service.purge(TenantId::new(tenant), &room_id).await });
        answer("purge_room", purged.await).map(|()| Response::new(PurgeRoomResponse {}))
    }
}

/// A command, and the room that it is for.
type Addressed = (TenantId, String, Command);

impl Service {
    /// Carries out the command that a request stands for.
    fn change<R>(
        &self,
        name: &'static str,
        request: R,
        read: fn(R) -> Result<Addressed, RoomError>,
    ) -> impl Future<Output = Result<proto::Appended, Status>> + use<R> {
        let (service, command) = (self.clone(), read(request));
        async move {
            let done = match command {
                Ok((tenant, room_id, command)) => {
                    service.outlive(|service| async move { service.run(tenant, &room_id, command).await }).await
                }
                Err(error) => Err(error),
            };
            answer(name, done).map(Placed::appended)
        }
    }
}

fn send(request: SendEventRequest) -> Result<Addressed, RoomError> {
    let SendEventRequest { requester: by, room_id, event_type, content, txn_id } = request;
    let requester = requester(by)?;
    let dedup = txn_id.map(|txn| requester.transaction(("send", &event_type), &txn)).transpose()?;
    let dedup = dedup.or_else(|| requester.call.clone());
    let event_type = TimelineEventType::from(event_type);
    if event_type == TimelineEventType::RoomRedaction {
        // Sent like any other event, its target stands in the content.
        let target = object(&content)?.get("redacts").and_then(Value::as_str).map(event_id).transpose()?;
        let target = target.ok_or_else(|| RoomError::bad_json("a redaction without target"))?;
        return Ok((requester.tenant, room_id, redaction(requester, target, raw(&content)?, dedup)));
    }
    let content = raw(&content)?;
    Ok((requester.tenant, room_id, Send { event_type, content, dedup, requester }.into()))
}

fn redact(request: RedactEventRequest) -> Result<Addressed, RoomError> {
    let RedactEventRequest { requester: by, room_id, event_id: target, reason, txn_id } = request;
    let requester = requester(by)?;
    let dedup = txn_id.map(|txn| requester.transaction(("redact", &target), &txn)).transpose()?;
    let dedup = dedup.or_else(|| requester.call.clone());
    let content: Map<String, Value> = reason.into_iter().map(|reason| ("reason".to_owned(), reason.into())).collect();
    let content = raw(Value::Object(content).to_string().as_bytes())?;
    Ok((requester.tenant, room_id, redaction(requester, event_id(&target)?, content, dedup)))
}

fn redaction(requester: Requester, target: OwnedEventId, content: Box<RawValue>, dedup: Option<Dedup>) -> Command {
    Redact { requester, target, content, dedup }.into()
}

fn set_state(request: SetStateRequest) -> Result<Addressed, RoomError> {
    let SetStateRequest { requester: by, room_id, event_type, state_key, content } = request;
    let requester = requester(by)?;
    let event_type = TimelineEventType::from(event_type);
    let content = if event_type == TimelineEventType::RoomMember {
        let mut content = object(&content)?;
        // Only a server may say that it has checked the conditions of a restricted join.
        content.remove("join_authorised_via_users_server");
        raw(Value::Object(content).to_string().as_bytes())?
    } else {
        raw(&content)?
    };
    Ok((requester.tenant, room_id, SetState { requester, event_type, state_key, content }.into()))
}

fn answer<T>(command: &'static str, outcome: Result<T, RoomError>) -> Result<T, Status> {
    metric::count(command, &outcome);
    if let Err(error) = &outcome
        && error.kind() == ErrorKind::Internal
    {
        tracing::error!(command, %error, "a command on a room failed");
    }
    outcome.map_err(|error| error.to_status())
}

pub(crate) fn requester(requester: Option<proto::Requester>) -> Result<Requester, RoomError> {
    let requester = requester.ok_or_else(|| RoomError::bad_json("no requester"))?;
    Ok(Requester {
        tenant: TenantId::new(requester.tenant),
        user_id: user_id(&requester.user_id)?,
        device_id: requester.device_id.into(),
        call: called(&requester.call)?,
    })
}

/// The transaction by which a call that has a name is carried out once.
fn called(name: &[u8]) -> Result<Option<Dedup>, RoomError> {
    if name.len() > CALL_NAME {
        return Err(RoomError::bad_json("a call's name is too long"));
    }
    let txn = || name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // No device is called so: clients aren't shown it.
    Ok((!name.is_empty()).then(|| Dedup { device: "call".into(), txn: txn().into() }))
}

pub(crate) fn user_id(text: &str) -> Result<OwnedUserId, RoomError> {
    UserId::parse(text).map_err(|_| RoomError::invalid_param(format!("{text:?} is no user id")))
}

fn event_id(text: &str) -> Result<OwnedEventId, RoomError> {
    EventId::parse(text).map_err(|_| RoomError::invalid_param(format!("{text:?} is no event id")))
}

/// The content that a client wants to send; whether it is an object is seen when it becomes an event.
fn raw(content: &[u8]) -> Result<Box<RawValue>, RoomError> {
    let text = std::str::from_utf8(content).map_err(|_| RoomError::bad_json("the content is not UTF-8"))?;
    RawValue::from_string(text.to_owned()).map_err(|_| RoomError::bad_json("the content is not JSON"))
}

/// A JSON object; empty bytes are an empty one.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, RoomError> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| RoomError::bad_json(error.to_string()))
}
