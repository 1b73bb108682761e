//! Sending events.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>

use axum::routing::MethodFilter;
use polity_proto::room_state::SendEventRequest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    room_client,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/send/{type}/{txn}", send)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/redact/{event_id}/{txn}", redact)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}/{state_key}", state)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}", state)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}/", state)
}

fn request(call: &Call) -> Result<SendEventRequest, ApiError> {
    let requester = call.context.requester()?;
    call.context.api.count(requester, Counted::Message)?;
    let room_id = call.room_id(0)?.to_string();
    Ok(SendEventRequest { requester: room_client::requester(requester), room_id, ..SendEventRequest::default() })
}

async fn answer(call: &Call, request: SendEventRequest) -> Result<Answer, ApiError> {
    Ok(json!({"event_id": call.context.api.rooms.send(request, call.context.within()).await?}).into())
}

async fn send(call: Call) -> Result<Answer, ApiError> {
    let event_type = call.param(1)?.to_owned();
    let content = call.object()?;
    let redacts = if event_type == "m.room.redaction" {
        let content: Map<String, Value> = call.json()?;
        content.get("redacts").and_then(Value::as_str).map(str::to_owned)
    } else {
        None
    };
    // The endpoint is part of what a transaction id is unique within.
    let txn_id = Some(format!("send/{}", call.param(2)?));
    answer(&call, SendEventRequest { event_type, content: content.into(), txn_id, redacts, ..request(&call)? }).await
}

#[derive(Deserialize)]
struct Redact {
    reason: Option<String>,
}

async fn redact(call: Call) -> Result<Answer, ApiError> {
    let body: Redact = call.json()?;
    let content = body.reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
    let request = SendEventRequest {
        event_type: "m.room.redaction".to_owned(),
        content: content.to_string().into(),
        txn_id: Some(format!("redact/{}/{}", call.param(1)?, call.param(2)?)),
        redacts: Some(call.event_id(1)?.to_string()),
        ..request(&call)?
    };
    answer(&call, request).await
}

async fn state(call: Call) -> Result<Answer, ApiError> {
    let request = SendEventRequest {
        event_type: call.param(1)?.to_owned(),
        state_key: Some(call.param(2).unwrap_or_default().to_owned()),
        content: call.object()?.into(),
        ..request(&call)?
    };
    answer(&call, request).await
}
