//! `PUT /rooms/{roomId}/send/{eventType}/{txnId}`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use axum::routing::MethodFilter;
use polity_proto::room_state::SendEventRequest;
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
    routes.json(MethodFilter::PUT, Token::RequiredAlone, "/rooms/{room_id}/send/{type}/{txn}", send)
}

async fn send(call: Call) -> Result<Answer, ApiError> {
    let context = &call.context;
    context.api.count(context.requester()?, Counted::Message)?;
    let request = SendEventRequest {
        requester: context.by()?,
        room_id: call.room_id(0)?.into(),
        event_type: call.param(1)?.to_owned(),
        content: call.object()?.into(),
        txn_id: Some(call.param(2)?.to_owned()),
    };
    let answer = context.rooms().send_event(context.call(request)).await?.into_inner();
    Ok(json!({"event_id": event_id(answer.event)?}).into())
}
