//! `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid>

use axum::routing::MethodFilter;
use polity_proto::room_state::RedactEventRequest;
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    room_client::event_id,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::PUT, Token::RequiredAlone, "/rooms/{room_id}/redact/{event_id}/{txn}", redact)
}

#[derive(Deserialize)]
struct Redact {
    reason: Option<String>,
}

async fn redact(call: Call) -> Result<Answer, ApiError> {
    let body: Redact = call.json()?;
    let context = &call.context;
    context.api.count(context.requester()?, Counted::Message)?;
    let request = RedactEventRequest {
        requester: context.by()?,
        room_id: call.room_id(0)?.into(),
        event_id: call.event_id(1)?.into(),
        reason: body.reason,
        txn_id: Some(call.param(2)?.to_owned()),
    };
    let answer = context.rooms().redact_event(context.call(request)).await?.into_inner();
    Ok(json!({"event_id": event_id(answer.event)?}).into())
}
