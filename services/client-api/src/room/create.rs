//! `POST /createRoom`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use axum::routing::MethodFilter;
use polity_proto::room_state::{CreateRoomRequest, InitialState};
use ruma_common::{OwnedUserId, RoomAliasId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    directory,
    endpoint::Token,
    limits::Counted,
    room_client,
    routes::Routes,
};

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
    let (api, requester) = (&call.context.api, call.context.requester()?);
    api.count(requester, Counted::Join)?;
    if !body.invite_3pid.is_empty() {
        return Err(ApiError::invalid_param("invitations by third-party identifiers are not supported"));
    }
    let public = body.visibility == Visibility::Public;
    let preset = body.preset.unwrap_or_else(|| if public { "public_chat" } else { "private_chat" }.to_owned());
    if !matches!(preset.as_str(), "private_chat" | "public_chat" | "trusted_private_chat") {
        return Err(ApiError::bad_json("unknown preset"));
    }
    let alias = match &body.room_alias_name {
        Some(name) => {
            let text = format!("#{name}:{}", call.context.tenant.server_name);
            let alias =
                RoomAliasId::parse(text).map_err(|_| ApiError::invalid_param("room_alias_name is malformed"))?;
            directory::check_free(api, requester.tenant, &alias).await?;
            Some(alias)
        }
        None => None,
    };
    let initial_state = body.initial_state.into_iter().map(|state| InitialState {
        event_type: state.kind,
        state_key: state.state_key,
        content: Value::Object(state.content).to_string().into(),
    });
    let request = CreateRoomRequest {
        requester: room_client::requester(requester),
        room_version: body.room_version.unwrap_or_else(|| api.default_room_version.to_string()),
        preset,
        creation_content: Value::Object(body.creation_content).to_string().into(),
        power_level_content_override: Value::Object(body.power_level_content_override).to_string().into(),
        initial_state: initial_state.collect(),
        name: body.name,
        topic: body.topic,
        canonical_alias: alias.as_ref().map(ToString::to_string),
        invite: body.invite.iter().map(ToString::to_string).collect(),
        is_direct: body.is_direct,
        profile: Some(api.profile_of(requester, &requester.user_id).await?),
        listed: public,
    };
    let room_id = api.rooms.create(request, call.context.within()).await?;
    if let Some(alias) = alias {
        directory::make_alias(api, requester, &alias, &room_id).await?;
    }
    Ok(json!({"room_id": room_id}).into())
}
