//! `GET /rooms/{roomId}/state`: all of it, or one entry.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use axum::routing::MethodFilter;
use polity_sync::{json::Writer, read::Part};
use serde::Deserialize;
use serde_json::value::RawValue;

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
}

async fn all(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::visitor(&call.context, &call.room_id(0)?).await?;
    let (state, mut out) = (reader.state().await?, Writer::default());
    out.open(b'[');
    for part in [Part::Entries, Part::Members] {
        reader.write_state(&mut out, (&state, part), |_| true).await?;
    }
    out.close(b']');
    Ok(reader.answer(out))
}

async fn one(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::visitor(&call.context, &call.room_id(0)?).await?;
    let (event_type, state_key) = (call.param(1)?, call.param(2).unwrap_or_default());
    let state = reader.state().await?;
    let row = reader.api.engine.rooms.state_event(reader.key, &state, event_type, state_key).await?;
    let event = match row {
        Some(row) => reader.render_state(&[row]).await?.pop(),
        None => None,
    };
    let event = event.ok_or_else(|| ApiError::not_found("there is no such state"))?;
    if call.query("format") == Some("event") {
        return Ok(Answer::Bytes(event));
    }
    // From what is shown, not from what is stored: it may be redacted.
    let shown: Shown = serde_json::from_slice(&event)
        .map_err(|error| ApiError::of_kind(polity_core::ErrorKind::Internal, error.to_string()))?;
    Ok(Answer::Bytes(shown.content.get().to_owned().into()))
}

#[derive(Deserialize)]
struct Shown {
    content: Box<RawValue>,
}
