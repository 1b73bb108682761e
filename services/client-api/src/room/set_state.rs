//! `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use std::collections::BTreeSet;

use axum::routing::MethodFilter;
use http::StatusCode;
use polity_proto::room_state::SetStateRequest;
use polity_sync::read::StateView;
use ruma_common::RoomId;
use serde::Deserialize;
use serde_json::json;

use super::Reader;
use crate::{
    ApiError,
    call::{Answer, Call},
    directory,
    endpoint::{Context, Token},
    limits::Counted,
    room_client::event_id,
    routes::Routes,
};

/// Aliases of one event that are looked up.
const ALIASES: usize = 100;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}/{state_key}", set_state)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}", set_state)
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/state/{type}/", set_state)
}

async fn set_state(call: Call) -> Result<Answer, ApiError> {
    let context = &call.context;
    let room_id = call.room_id(0)?;
    context.api.count(context.requester()?, Counted::Message)?;
    let (event_type, content) = (call.param(1)?.to_owned(), call.object()?);
    if event_type == "m.room.canonical_alias" {
        check_aliases(context, &room_id, call.json()?).await?;
    }
    let request = SetStateRequest {
        requester: context.by()?,
        room_id: room_id.into(),
        event_type,
        state_key: call.param(2).unwrap_or_default().to_owned(),
        content: content.into(),
    };
    let answer = context.rooms().set_state(context.call(request)).await?.into_inner();
    Ok(json!({"event_id": event_id(answer.event)?}).into())
}

/// The aliases of an `m.room.canonical_alias`.
#[derive(Deserialize, Default)]
struct Aliases {
    alias: Option<String>,
    #[serde(default)]
    alt_aliases: Vec<String>,
}

impl Aliases {
    fn all(self) -> BTreeSet<String> {
        self.alt_aliases.into_iter().chain(self.alias.filter(|alias| !alias.is_empty())).collect()
    }
}

/// Refuses aliases that don't point to the room. Those that the room has already are left alone: they may have gone since.
async fn check_aliases(context: &Context, room_id: &RoomId, wanted: Aliases) -> Result<(), ApiError> {
    let reader = Reader::member(context, room_id).await?;
    let state = StateView::at_roots(reader.head.room.roots);
    let now = reader.api.engine.rooms.state_event(reader.key, &state, "m.room.canonical_alias", "").await?;
    let now = now.and_then(|row| serde_json::from_str::<Aliases>(row.event.as_ref()?.content.get()).ok());
    let (now, wanted) = (now.unwrap_or_default().all(), wanted.all());
    let new: Vec<_> = wanted.difference(&now).collect();
    if new.len() > ALIASES {
        return Err(ApiError::invalid_param(format!("more than {ALIASES} new aliases")));
    }
    for alias in new {
        let alias = directory::parse(alias)?;
        if directory::resolve(context, &alias).await?.as_deref() != Some(room_id) {
            let message = format!("{alias} doesn't point to this room");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_ALIAS", message));
        }
    }
    Ok(())
}
