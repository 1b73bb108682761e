//! `GET /rooms/{roomId}/members` and `GET /rooms/{roomId}/joined_members`.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use axum::routing::MethodFilter;
use polity_core::Seq;
use polity_sync::read::Part;
use serde_json::{Map, Value, json};

use super::{Reader, state::array};
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
    let mut rows = match at.map(|at| at.last_before().unwrap_or(Seq::new(1))).filter(|seq| *seq < reader.until) {
        Some(seq) => {
            let state = reader.api.engine.state_after(reader.key, seq).await?;
            reader.rows_of(&state, Part::Members).await?
        }
        None => reader.rows_of(&reader.state().await?, Part::Members).await?,
    };
    rows.retain(|row| {
        let membership = row.event.as_ref().and_then(|event| event.content_text("membership"));
        wanted.is_none_or(|wanted| membership.as_deref() == Some(wanted))
            && unwanted.is_none_or(|unwanted| membership.as_deref() != Some(unwanted))
    });
    let body = [b"{\"chunk\":", &array(reader.render_state(&rows).await?)[..], b"}"].concat();
    Ok(Answer::Bytes(body.into()))
}

async fn joined_members(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member(&call.context, &call.room_id(0)?).await?;
    let mut joined = Map::new();
    for row in reader.rows_of(&reader.state().await?, Part::Members).await? {
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
