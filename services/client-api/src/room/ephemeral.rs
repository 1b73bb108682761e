//! Typing, receipts, read markers.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>, <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use std::sync::Arc;

use axum::routing::MethodFilter;
use polity_bus::{Subject, SubjectKind};
use polity_core::{
    Position,
    mutation::{Mutation, planted},
};
use polity_store::users::{self, DisplayReceipt};
use polity_sync::{
    ephemeral::{EphemeralEvent, Receipt},
    read::StoredRow,
};
use ruma_common::{EventId, OwnedEventId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Reader;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Nobody types for longer without saying so again.
const TYPING_MAX_MS: u64 = 120_000;

/// An event may be in a thread by so many relations: a reaction to an edit of a message in it.
const RELATIONS: usize = 3;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::PUT, Token::Required, "/rooms/{room_id}/typing/{user_id}", typing)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/receipt/{kind}/{event_id}", receipt)
        .json(MethodFilter::POST, Token::Required, "/rooms/{room_id}/read_markers", read_markers)
}

#[derive(Deserialize)]
struct Typing {
    typing: bool,
    timeout: Option<u64>,
}

async fn typing(call: Call) -> Result<Answer, ApiError> {
    let body: Typing = call.json()?;
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    if call.user_id(1)? != reader.viewer.user_id {
        return Err(ApiError::forbidden("that is another user"));
    }
    let timeout = if body.typing { body.timeout.unwrap_or(30_000).min(TYPING_MAX_MS) } else { 0 };
    let event = EphemeralEvent::Typing {
        user_id: reader.viewer.user_id.clone(),
        timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
    };
    announce(&reader, event);
    Ok(json!({}).into())
}

fn announce(reader: &Reader, event: EphemeralEvent) {
    let subject = Subject::new(SubjectKind::RoomEphemeral, reader.key.tenant, reader.key.log);
    // Here at once, elsewhere by the bus: who asks this process next sees it.
    let room = (reader.key.tenant, reader.key.log);
    let engine = &reader.api.engine;
    engine.ephemeral.apply(room, event.clone(), reader.api.clock.monotonic(), || engine.interest.wake(subject));
    if planted(Mutation::ReceiptUntold) {
        return;
    }
    reader.api.bus.publish(subject, event.encode());
    if !engine.writers.is_none() {
        engine.ephemeral.repeat(room, event);
    }
}

async fn receipt(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    let body: Map<String, Value> = call.json()?;
    let thread = match body.get("thread_id") {
        None => None,
        Some(Value::String(thread)) if !thread.is_empty() => Some(thread.clone()),
        Some(_) => return Err(ApiError::invalid_param("thread_id must be a string that isn't empty")),
    };
    match call.param(1)? {
        "m.fully_read" if thread.is_some() => {
            return Err(ApiError::invalid_param("m.fully_read is of the room, not of a thread"));
        }
        "m.fully_read" => fully_read(&reader, &call.event_id(2)?).await?,
        kind @ ("m.read" | "m.read.private") => read(&reader, kind, thread, call.event_id(2)?).await?,
        _ => return Err(ApiError::invalid_param("unknown kind of receipt")),
    }
    Ok(json!({}).into())
}

async fn read(reader: &Reader, kind: &str, thread: Option<String>, event_id: OwnedEventId) -> Result<(), ApiError> {
    let row = event_of(reader, &event_id).await?;
    if let Some(thread) = &thread
        && !is_in_thread(reader, &row, thread).await?
    {
        return Err(ApiError::invalid_param("the event isn't in that thread"));
    }
    let (store, viewer) = (&*reader.api.store, &reader.viewer);
    let position = Position::new(reader.key.life, row.seq);
    let room_id = &reader.head.room.room_id;
    let in_thread = thread.clone().unwrap_or_default();
    users::put_own_receipt(store, viewer.tenant, &viewer.user_id, room_id, (kind, &in_thread), (&event_id, position))
        .await?;
    let at_ms = reader.api.clock.now_ms();
    let shown = DisplayReceipt {
        user_id: viewer.user_id.clone(),
        event_id: event_id.clone(),
        thread: in_thread,
        kind: kind.to_owned(),
        at_ms,
    };
    users::put_display_receipt(store, reader.key, &shown, position).await?;
    let private = kind == "m.read.private" && !planted(Mutation::PrivateIsShown);
    let receipt = Receipt { user_id: viewer.user_id.clone(), event_id, thread, private, at_ms };
    announce(reader, EphemeralEvent::Receipt(receipt));
    Ok(())
}

/// An event of this room.
async fn event_of(reader: &Reader, event_id: &EventId) -> Result<Arc<StoredRow>, ApiError> {
    let found = reader.api.engine.rooms.event_in(reader.key.tenant, event_id).await?;
    let found = found.filter(|(log, _)| *log == reader.key.log);
    Ok(found.ok_or_else(|| ApiError::not_found("there is no such event in this room"))?.1)
}

/// Whether an event is in a thread (`main`, or its root), itself or by what it relates to.
async fn is_in_thread(reader: &Reader, row: &StoredRow, thread: &str) -> Result<bool, ApiError> {
    if thread == "main" {
        return Ok(row.meta.thread.is_none());
    }
    let rooms = &reader.api.engine.rooms;
    let mut next = row.event.as_ref().map(|event| event.event_id.clone());
    for _ in 0..=RELATIONS {
        let Some(event_id) = next else { break };
        if event_id == thread {
            return Ok(true);
        }
        let row = rooms.event(reader.viewer.tenant, &event_id).await?;
        next = row.and_then(|row| related(row.event.as_ref()?.content.get()));
    }
    Ok(false)
}

/// The event that a content relates to.
fn related(content: &str) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: Related,
    }
    #[derive(Deserialize)]
    struct Related {
        event_id: OwnedEventId,
    }
    serde_json::from_str::<Content>(content).ok().map(|content| content.relates_to.event_id)
}

async fn fully_read(reader: &Reader, event_id: &EventId) -> Result<(), ApiError> {
    event_of(reader, event_id).await?;
    let content = json!({"event_id": event_id}).to_string().into_bytes();
    let (viewer, scope) = (&reader.viewer, reader.head.room.room_id.as_str());
    let name = (scope, "m.fully_read");
    Ok(reader.api.accounts.set_account_data(viewer.tenant, &viewer.user_id, name, content).await?)
}

#[derive(Deserialize)]
struct ReadMarkers {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<OwnedEventId>,
    #[serde(rename = "m.read")]
    read: Option<OwnedEventId>,
    #[serde(rename = "m.read.private")]
    private: Option<OwnedEventId>,
}

async fn read_markers(call: Call) -> Result<Answer, ApiError> {
    let body: ReadMarkers = call.json()?;
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    if let Some(event_id) = body.fully_read {
        fully_read(&reader, &event_id).await?;
    }
    for (kind, event_id) in [("m.read", body.read), ("m.read.private", body.private)] {
        if let Some(event_id) = event_id {
            read(&reader, kind, None, event_id).await?;
        }
    }
    Ok(json!({}).into())
}
