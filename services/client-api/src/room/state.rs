//! State and members.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use axum::routing::MethodFilter;
use polity_core::Seq;
use polity_sync::read::Part;
use serde_json::{Map, Value, json};

use super::Reader;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/state", all)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/state/{type}/{state_key}", one)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/state/{type}", one)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/state/{type}/", one)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/members", members)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/joined_members", joined_members)
}

/// A JSON array of events that are written already.
pub(super) fn array(events: impl IntoIterator<Item = bytes::Bytes>) -> Vec<u8> {
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&event);
    }
    out.push(b']');
    out
}

async fn all(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let (rooms, state) = (&reader.api.engine.rooms, reader.state().await?);
    let generation = reader.head.room.generation;
    let mut rows = Vec::new();
    for part in [Part::Entries, Part::Members] {
        for (_, id) in rooms.entries(reader.key, generation, &state, part).await? {
            rows.extend(rooms.event(reader.key.tenant, &id).await?);
        }
    }
    let events = reader.api.engine.render_state_rows(&reader.viewer, &reader.head, &rows);
    Ok(Answer::Bytes(array(events).into()))
}

async fn one(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let (event_type, state_key) = (call.param(1)?, call.param(2).unwrap_or_default());
    let state = reader.state().await?;
    let row = reader.api.engine.rooms.state_event(reader.key, &state, event_type, state_key).await?;
    let row = row.filter(|row| row.event.is_some());
    let row = row.ok_or_else(|| ApiError::not_found("there is no such state"))?;
    if call.query("format") == Some("event") {
        let events = reader.api.engine.render_state_rows(&reader.viewer, &reader.head, &[row]);
        return events
            .into_iter()
            .next()
            .map(Answer::Bytes)
            .ok_or_else(|| ApiError::not_found("there is no such state"));
    }
    let content = row.event.as_ref().map(|event| event.content.get().to_owned()).unwrap_or_default();
    Ok(Answer::Bytes(content.into()))
}

async fn members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let (wanted, unwanted) = (call.query("membership"), call.query("not_membership"));
    let state = match reader.place(&call, "at").await? {
        Some(at) if at.next_seq() <= reader.until => {
            // No state was before the room.
            let row = Seq::new(at.next_seq().get().saturating_sub(1)).max(Seq::new(1));
            reader.api.engine.state_after(reader.key, row).await?
        }
        _ => reader.state().await?,
    };
    let mut rows = reader.members(&state).await?;
    rows.retain(|row| {
        let membership = row.event.as_ref().and_then(|event| event.content_text("membership"));
        wanted.is_none_or(|wanted| membership.as_deref() == Some(wanted))
            && unwanted.is_none_or(|unwanted| membership.as_deref() != Some(unwanted))
    });
    let events = reader.api.engine.render_state_rows(&reader.viewer, &reader.head, &rows);
    let body = [b"{\"chunk\":", &array(events)[..], b"}"].concat();
    Ok(Answer::Bytes(body.into()))
}

async fn joined_members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member(&call, &call.room_id(0)?).await?;
    let mut joined = Map::new();
    for row in reader.members(&reader.state().await?).await? {
        let Some(event) = &row.event else { continue };
        let content: Map<String, Value> = serde_json::from_str(event.content.get()).unwrap_or_default();
        if content.get("membership") == Some(&json!("join")) {
            let field = |name: &str| content.get(name).cloned().unwrap_or(Value::Null);
            let shown = json!({"display_name": field("displayname"), "avatar_url": field("avatar_url")});
            joined.insert(event.state_key.clone().unwrap_or_default(), shown);
        }
    }
    Ok(json!({"joined": joined}).into())
}
