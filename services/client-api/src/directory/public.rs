//! The public room directory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use std::{cmp::Reverse, sync::Arc};

use axum::routing::MethodFilter;
use polity_sync::read::RoomState;
use ruma_common::OwnedServerName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::list::place;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Rooms of a page at most.
const PAGE: usize = 500;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::Optional, "/publicRooms", get).json(
        MethodFilter::POST,
        Token::Required,
        "/publicRooms",
        post,
    )
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
    /// `null` in it stands for rooms without a type.
    room_types: Option<Vec<Option<String>>>,
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
    let (api, tenant) = (&call.context.api, &call.context.tenant);
    if call.query_as::<OwnedServerName>("server")?.is_some_and(|server| server != tenant.server_name) {
        return Err(ApiError::not_found("the directories of other servers can't be asked"));
    }
    let list = api.listed(tenant.id).await?;
    let since = search.since.as_deref().filter(|since| !since.is_empty()).map(Since::parse).transpose()?;
    let limit = search.limit.filter(|limit| *limit > 0).unwrap_or(PAGE).min(PAGE);
    let wanted: Vec<_> = list.iter().filter(|room| search.filter.lets_pass(room)).collect();
    let total = wanted.len();
    // Places, not numbers: rooms that come and go in the meantime move nobody's page.
    let start = match &since {
        None => 0,
        Some(since) if since.forward => wanted.partition_point(|room| place(room) <= since.place()),
        Some(since) => wanted.partition_point(|room| place(room) < since.place()).saturating_sub(limit),
    };
    let page = &wanted[start..total.min(start + limit)];
    let mut answer = json!({"total_room_count_estimate": total});
    if let Some(last) = page.last().filter(|_| start + page.len() < total) {
        answer["next_batch"] = Value::from(Since::of(last, true));
    }
    if let Some(first) = page.first().filter(|_| start > 0) {
        answer["prev_batch"] = Value::from(Since::of(first, false));
    }
    answer["chunk"] = page.iter().map(|room| shown(room)).collect();
    Ok(answer.into())
}

/// A place in the list, and which way to go from there.
struct Since {
    forward: bool,
    joined: u64,
    room_id: String,
}

impl Since {
    fn of(room: &RoomState, forward: bool) -> String {
        format!("{}{}_{}", if forward { 'n' } else { 'p' }, room.room.summary.joined, room.room.room_id)
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let read = || {
            let (joined, room_id) = text.get(1..)?.split_once('_')?;
            let forward = [("n", true), ("p", false)].into_iter().find(|(way, _)| text.starts_with(way))?.1;
            Some(Self { forward, joined: joined.parse().ok()?, room_id: room_id.to_owned() })
        };
        read().ok_or_else(|| ApiError::invalid_param("since is malformed"))
    }

    fn place(&self) -> (Reverse<u64>, &str) {
        (Reverse(self.joined), &self.room_id)
    }
}

impl Terms {
    fn lets_pass(&self, room: &RoomState) -> bool {
        let summary = &room.room.summary;
        let term = self.generic_search_term.as_deref().unwrap_or_default().to_lowercase();
        let texts = [&summary.name, &summary.topic, &summary.canonical_alias];
        let found = term.is_empty() || texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&term));
        let types = self.room_types.as_ref();
        found && types.is_none_or(|types| types.contains(&summary.room_type))
    }
}

fn shown(room: &Arc<RoomState>) -> Value {
    let summary = &room.room.summary;
    let mut out = json!({
        "room_id": room.room.room_id,
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
            out[field] = Value::from(value.as_str());
        }
    }
    out
}
