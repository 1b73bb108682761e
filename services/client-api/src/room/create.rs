//! `POST /createRoom`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use axum::routing::MethodFilter;
use polity_proto::room_state::{CreateRoomRequest, InitialState, Preset};
use ruma_common::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::invite;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
};

/// Users invited from the beginning, as many as a room takes: more aren't worth counting.
const INVITE_MAX: usize = 100;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::POST, Token::Required, "/createRoom", create)
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    visibility: Visibility,
    room_alias_name: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    invite: Vec<OwnedUserId>,
    #[serde(default)]
    invite_3pid: Vec<Value>,
    room_version: Option<String>,
    #[serde(default)]
    creation_content: Map<String, Value>,
    #[serde(default)]
    initial_state: Vec<State>,
    preset: Option<String>,
    #[serde(default)]
    is_direct: bool,
    #[serde(default)]
    power_level_content_override: Map<String, Value>,
}

#[derive(Deserialize, Default, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    #[default]
    Private,
}

#[derive(Deserialize)]
struct State {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: String,
    content: Map<String, Value>,
}

async fn create(call: Call) -> Result<Answer, ApiError> {
    let body: Create = call.json()?;
    let context = &call.context;
    let (api, requester) = (&context.api, context.requester()?);
    api.count(requester, Counted::Join)?;
    if !body.invite_3pid.is_empty() {
        return Err(invite::third_party());
    }
    let public = body.visibility == Visibility::Public;
    let preset = match body.preset.as_deref() {
        Some("private_chat") => Preset::PrivateChat,
        Some("public_chat") => Preset::PublicChat,
        Some("trusted_private_chat") => Preset::TrustedPrivateChat,
        Some(_) => return Err(ApiError::bad_json("unknown preset")),
        None if public => Preset::PublicChat,
        None => Preset::PrivateChat,
    };
    if body.invite.len() > INVITE_MAX {
        return Err(ApiError::invalid_param(format!("more than {INVITE_MAX} invitations")));
    }
    for _ in &body.invite {
        api.count(requester, Counted::Invite)?;
    }
    let initial_state = body.initial_state.into_iter().map(|state| InitialState {
        event_type: state.kind,
        state_key: state.state_key,
        content: Value::Object(state.content).to_string().into(),
    });
    let request = CreateRoomRequest {
        requester: context.by()?,
        room_version: body.room_version.unwrap_or_else(|| api.default_room_version.to_string()),
        preset: preset.into(),
        creation_content: Value::Object(body.creation_content).to_string().into(),
        power_level_content_override: Value::Object(body.power_level_content_override).to_string().into(),
        initial_state: initial_state.collect(),
        name: body.name,
        topic: body.topic,
        alias: body.room_alias_name.map(|name| format!("#{name}:{}", context.tenant.server_name)),
        invite: body.invite.into_iter().map(Into::into).collect(),
        is_direct: body.is_direct,
        listed: public,
    };
    let answer = context.rooms().create_room(context.call(request)).await?.into_inner();
    Ok(json!({"room_id": answer.room_id}).into())
}
