//! `GET /rooms/{roomId}/members` and `GET /rooms/{roomId}/joined_members`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use axum::routing::MethodFilter;
use polity_core::Seq;
use polity_sync::read::{Part, StoredRow};
use serde_json::{Map, Value, json};

use super::{Reader, reader::BATCH, state::Array};
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
        wanted.is_none_or(|wanted| membership.as_deref() == Some(wanted))
            && unwanted.is_none_or(|unwanted| membership.as_deref() != Some(unwanted))
    };
    let mut out = Array::default();
    reader.write_state(&mut out, (&state, Part::Members), is_asked_for).await?;
    Ok(Answer::Bytes([b"{\"chunk\":", &out.finish()[..], b"}"].concat().into()))
}

async fn joined_members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    let mut joined = Map::new();
    for ids in reader.ids_of(&reader.state().await?, Part::Members).await?.chunks(BATCH) {
        for row in reader.rows(ids).await? {
            let Some(event) = &row.event else { continue };
            let content: Map<String, Value> = serde_json::from_str(event.content.get()).unwrap_or_default();
            if content.get("membership") == Some(&json!("join")) {
                let field = |name: &str| content.get(name).cloned().unwrap_or(Value::Null);
                let shown = json!({"display_name": field("displayname"), "avatar_url": field("avatar_url")});
                joined.insert(event.state_key.clone().unwrap_or_default(), shown);
            }
        }
    }
    Ok(json!({"joined": joined}).into())
}
