//! The public room directory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use axum::routing::MethodFilter;
use polity_core::Position;
use polity_store::rooms;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    room::Reader,
    routes::Routes,
};

/// Rooms of a page at most.
const PAGE: usize = 500;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Optional, "/publicRooms", get)
        .json(MethodFilter::POST, Token::Required, "/publicRooms", post)
        .json(MethodFilter::GET, Token::None, "/directory/list/room/{room_id}", visibility)
        .json(MethodFilter::PUT, Token::Required, "/directory/list/room/{room_id}", set_visibility)
}

#[derive(Deserialize, Default)]
struct Search {
    limit: Option<usize>,
    since: Option<String>,
    #[serde(default)]
    filter: Terms,
}

#[derive(Deserialize, Default)]
struct Terms {
    generic_search_term: Option<String>,
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    if call.context.requester.is_none() && !call.context.api.public_list_without_auth {
        return Err(ApiError::missing_token());
    }
    let (limit, since) = (call.query_as("limit")?, call.query("since").map(str::to_owned));
    list(&call, Search { limit, since, filter: Terms::default() }).await
}

async fn post(call: Call) -> Result<Answer, ApiError> {
    let search = call.json()?;
    list(&call, search).await
}

async fn list(call: &Call, search: Search) -> Result<Answer, ApiError> {
    let (api, tenant) = (&call.context.api, call.context.tenant.id);
    let mut shown = Vec::new();
    for room_id in rooms::listed_rooms(&*api.store, tenant).await? {
        let Some(key) = api.engine.rooms.key(tenant, &room_id).await? else { continue };
        let Some(head) = api.engine.rooms.head(key).await? else { continue };
        let summary = &head.room.summary;
        let term = search.filter.generic_search_term.as_deref().unwrap_or_default().to_lowercase();
        let texts = [&summary.name, &summary.topic, &summary.canonical_alias];
        if !term.is_empty() && !texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&term)) {
            continue;
        }
        let mut room = json!({
            "room_id": room_id,
            "num_joined_members": summary.joined,
            "world_readable": summary.history_visibility.as_deref() == Some("world_readable"),
            "guest_can_join": summary.guest_access.as_deref() == Some("can_join"),
            "join_rule": summary.join_rule.as_deref().unwrap_or("invite"),
        });
        let fields = [
            ("name", &summary.name),
            ("topic", &summary.topic),
            ("avatar_url", &summary.avatar_url),
            ("canonical_alias", &summary.canonical_alias),
            ("room_type", &summary.room_type),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                room[field] = Value::from(value.as_str());
            }
        }
        shown.push((std::cmp::Reverse(summary.joined), room_id, room));
    }
    shown.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let total = shown.len();
    let start: usize =
        search.since.as_deref().map_or(Ok(0), str::parse).map_err(|_| ApiError::invalid_param("since is malformed"))?;
    let limit = search.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let chunk: Vec<_> = shown.into_iter().skip(start).take(limit).map(|(_, _, room)| room).collect();
    let mut answer = json!({"total_room_count_estimate": total});
    if start + chunk.len() < total {
        answer["next_batch"] = json!((start + chunk.len()).to_string());
    }
    if start > 0 {
        answer["prev_batch"] = json!(start.saturating_sub(limit).to_string());
    }
    answer["chunk"] = Value::Array(chunk);
    Ok(answer.into())
}

async fn visibility(call: Call) -> Result<Answer, ApiError> {
    let (room_id, tenant) = (call.room_id(0)?, call.context.tenant.id);
    let api = &call.context.api;
    if api.engine.rooms.key(tenant, &room_id).await?.is_none() {
        return Err(ApiError::not_found("there is no such room"));
    }
    let listed = rooms::listed_rooms(&*api.store, tenant).await?.contains(&room_id);
    Ok(json!({"visibility": if listed { "public" } else { "private" }}).into())
}

#[derive(Deserialize)]
struct Set {
    visibility: Option<String>,
}

async fn set_visibility(call: Call) -> Result<Answer, ApiError> {
    let (body, room_id): (Set, _) = (call.json()?, call.room_id(0)?);
    let reader = Reader::member(&call, &room_id).await?;
    let listed = match body.visibility.as_deref() {
        None | Some("public") => true,
        Some("private") => false,
        Some(_) => return Err(ApiError::bad_json("visibility must be public or private")),
    };
    let creator = reader.head.room.create_event.clone();
    let create = reader.api.engine.rooms.event(reader.key.tenant, &creator).await?;
    let is_creator = create.is_some_and(|row| row.event.as_ref().is_some_and(|e| e.sender == reader.viewer.user_id));
    if !is_creator {
        return Err(ApiError::forbidden("only the room's creator may list it"));
    }
    let at = Position::new(reader.key.life, reader.head.seq);
    // Of changes at one position the later one must be the greater.
    let change = u8::try_from(reader.api.clock.now_ms() / 1000 % 200).unwrap_or(0) + 1;
    rooms::list_room(&*reader.api.store, reader.key.tenant, &room_id, listed, at, change).await?;
    Ok(json!({}).into())
}
