//! `GET /rooms/{roomId}/state`: all of it, or one entry.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use axum::routing::MethodFilter;
use polity_sync::read::Part;
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

/// A JSON array of events that are written already.
#[derive(Default)]
pub(crate) struct Array(Vec<u8>);

impl Array {
    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = bytes::Bytes>) {
        for event in events {
            self.0.push(if self.0.is_empty() { b'[' } else { b',' });
            self.0.extend_from_slice(&event);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        self.0
    }
}

pub(super) fn array(events: impl IntoIterator<Item = bytes::Bytes>) -> Vec<u8> {
    let mut out = Array::default();
    out.extend(events);
    out.finish()
}

async fn all(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::visitor(&call.context, &call.room_id(0)?).await?;
    let state = reader.state().await?;
    let mut out = Array::default();
    for part in [Part::Entries, Part::Members] {
        reader.write_state(&mut out, (&state, part), |_| true).await?;
    }
    Ok(Answer::Bytes(out.finish().into()))
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
