//! Whether a room stands in the directory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid>

use axum::routing::MethodFilter;
use polity_proto::room_state::ListRoomRequest;
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::None, "/directory/list/room/{room_id}", get).json(
        MethodFilter::PUT,
        Token::Required,
        "/directory/list/room/{room_id}",
        put,
    )
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    let head = call.context.api.head_of(call.context.tenant.id, &call.room_id(0)?).await?;
    let head = head.ok_or_else(|| ApiError::not_found("there is no such room"))?;
    Ok(json!({"visibility": if head.room.listed { "public" } else { "private" }}).into())
}

#[derive(Deserialize)]
struct Put {
    visibility: Option<String>,
}

async fn put(call: Call) -> Result<Answer, ApiError> {
    let (body, context): (Put, _) = (call.json()?, &call.context);
    let listed = match body.visibility.as_deref() {
        None | Some("public") => true,
        Some("private") => false,
        Some(_) => return Err(ApiError::bad_json("visibility must be public or private")),
    };
    let request = ListRoomRequest { requester: context.by()?, room_id: call.room_id(0)?.into(), listed };
    context.rooms().list_room(context.call(request)).await?;
    Ok(json!({}).into())
}
