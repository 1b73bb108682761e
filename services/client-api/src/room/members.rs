//! `GET /rooms/{roomId}/members` and `GET /rooms/{roomId}/joined_members`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use axum::routing::MethodFilter;
use polity_core::Seq;
use polity_sync::{
    json::Writer,
    read::{Part, StoredRow},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reader, reader::BATCH};
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/members", members).json(
        MethodFilter::GET,
        Token::Required,
        "/rooms/{room_id}/joined_members",
        joined_members,
    )
}

async fn members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call.context, &call.room_id(0)?).await?;
    let (wanted, unwanted) = (call.query("membership"), call.query("not_membership"));
    let at = match call.query("at").filter(|at| !at.is_empty()) {
        Some(at) => Some(reader.place(at).await?),
        None => None,
    };
    let state = match at.map(|at| at.last_before().unwrap_or(Seq::new(1))).filter(|seq| *seq < reader.until) {
        Some(seq) => reader.state_after(seq).await?,
        None => reader.state().await?,
    };
    let is_asked_for = |row: &StoredRow| {
        let membership = row.event.as_ref().and_then(|event| event.content_text("membership"));
        let is = |name| membership.as_deref() == Some(name);
        match (wanted, unwanted) {
            (None, None) => true,
            // Where both are given, either is enough.
            _ => wanted.is_some_and(is) || unwanted.is_some_and(|unwanted| !is(unwanted)),
        }
    };
    let mut out = Writer::default();
    out.open(b'{');
    out.key("chunk").open(b'[');
    reader.write_state(&mut out, (&state, Part::Members), is_asked_for).await?;
    out.close(b']');
    out.close(b'}');
    Ok(reader.answer(out))
}

/// What is shown of a member.
#[derive(Deserialize)]
struct Shown {
    membership: Option<String>,
    displayname: Option<Value>,
    avatar_url: Option<Value>,
}

async fn joined_members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    let (state, mut out) = (reader.state().await?, Writer::default());
    out.open(b'{');
    out.key("joined").open(b'{');
    for ids in reader.ids_of(&state, Part::Members).await?.chunks(BATCH) {
        let rows = reader.rows(ids).await?;
        let _turn = reader.share().turn().await;
        for row in rows {
            let Some(event) = &row.event else { continue };
            let Ok(shown) = serde_json::from_str::<Shown>(event.content.get()) else { continue };
            let joined = shown.membership.as_deref() == Some("join");
            let Some(user_id) = event.state_key.as_deref().filter(|_| joined) else { continue };
            let profile = json!({"display_name": shown.displayname, "avatar_url": shown.avatar_url}).to_string();
            reader.hold(user_id.len() + profile.len())?;
            out.key(user_id).raw(profile.as_bytes());
        }
    }
    out.close(b'}');
    out.close(b'}');
    Ok(reader.answer(out))
}
