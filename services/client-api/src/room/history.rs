//! History: pages, one event, what stands around it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#syncing>

use std::sync::Arc;

use axum::routing::MethodFilter;
use polity_core::Seq;
use polity_sync::{
    filter::{Facets, is_lazy, passes},
    page_token::PageToken,
    read::StoredRow,
};
use ruma_client_api::filter::RoomEventFilter;
use serde_json::json;

use super::{Reader, state::array};
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    routes::Routes,
};

/// Events of a page at most.
const PAGE: usize = 1000;
/// Rows looked at for one page.
const SCAN: usize = 2000;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/messages", messages)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/event/{event_id}", event)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/context/{event_id}", context)
}

fn filter(call: &Call) -> Result<RoomEventFilter, ApiError> {
    let parse = |text: &str| serde_json::from_str(text).map_err(|error| ApiError::bad_json(format!("filter: {error}")));
    call.query("filter").map_or_else(|| Ok(RoomEventFilter::default()), parse)
}

fn shown(filter: &RoomEventFilter, row: &StoredRow) -> bool {
    row.event.as_ref().is_some_and(|event| {
        let has_url = filter.url_filter.is_some().then(|| event.content_text("url").is_some());
        passes(filter, Facets { event_type: &event.event_type, sender: Some(&event.sender), has_url })
    })
}

async fn messages(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let limit = call.query_as::<usize>("limit")?.unwrap_or(10).clamp(1, PAGE);
    let (filter, to) = (filter(&call)?, reader.place(&call, "to").await?);
    let backward = match call.query("dir") {
        Some("b") => true,
        Some("f") => false,
        _ => return Err(ApiError::missing_param("dir must be b or f")),
    };
    let default = if backward { PageToken::after(reader.until) } else { PageToken::before(Seq::new(1)) };
    let start = reader.place(&call, "from").await?.unwrap_or(default);
    let (rows, end) = if backward {
        back(&reader, start, to, limit, &filter).await?
    } else {
        forward(&reader, start, to, limit, &filter).await?
    };
    let events = reader.render(&rows).await?.into_iter().flatten();
    let mut body = [b"{\"chunk\":", &array(events)[..]].concat();
    body.extend_from_slice(format!(",\"start\":\"{start}\"").as_bytes());
    if let Some(end) = end {
        body.extend_from_slice(format!(",\"end\":\"{end}\"").as_bytes());
    }
    if is_lazy(&filter) {
        body.extend_from_slice(b",\"state\":");
        body.extend_from_slice(&array(reader.senders(&rows).await?));
    }
    body.push(b'}');
    Ok(Answer::Bytes(body.into()))
}

type Found = (Vec<Arc<StoredRow>>, Option<PageToken>);

async fn back(
    reader: &Reader,
    start: PageToken,
    to: Option<PageToken>,
    limit: usize,
    filter: &RoomEventFilter,
) -> Result<Found, ApiError> {
    let stop = to.map_or(Seq::new(1), PageToken::next_seq);
    let mut next = Seq::new(start.next_seq().get().saturating_sub(1)).min(reader.until);
    let (mut out, mut looked) = (Vec::new(), 0);
    while next >= stop && next > Seq::ZERO && looked < SCAN {
        let page = reader.api.engine.rooms.back(reader.key, next, (limit - out.len()).clamp(10, 500)).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq < stop {
                return Ok((out, None));
            }
            looked += 1;
            next = Seq::new(row.seq.get() - 1);
            if shown(filter, &row) {
                out.push(row);
                if out.len() == limit {
                    return Ok((out, (next > Seq::ZERO).then(|| PageToken::after(next))));
                }
            }
        }
    }
    Ok((out, (next >= stop && next > Seq::ZERO).then(|| PageToken::after(next))))
}

async fn forward(
    reader: &Reader,
    start: PageToken,
    to: Option<PageToken>,
    limit: usize,
    filter: &RoomEventFilter,
) -> Result<Found, ApiError> {
    let stop = to.map_or(reader.until, |to| Seq::new(to.next_seq().get().saturating_sub(1)).min(reader.until));
    let mut last = Seq::new(start.next_seq().get().saturating_sub(1));
    let (mut out, mut looked) = (Vec::new(), 0);
    while last < stop && looked < SCAN {
        let page = reader.api.engine.rooms.after(reader.key, last, (limit - out.len()).clamp(10, 500)).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq > stop {
                return Ok((out, None));
            }
            looked += 1;
            last = row.seq;
            if shown(filter, &row) {
                out.push(row);
                if out.len() == limit {
                    return Ok((out, (last < stop).then(|| PageToken::after(last))));
                }
            }
        }
    }
    Ok((out, (last < stop).then(|| PageToken::after(last))))
}

/// The row of an event of this room that the user may see.
async fn find(call: &Call, reader: &Reader) -> Result<Arc<StoredRow>, ApiError> {
    let unknown = || ApiError::not_found("there is no such event, or you may not see it");
    let found = reader.api.engine.rooms.event_in(reader.key.tenant, &call.event_id(1)?).await?;
    let (log, row) = found.ok_or_else(unknown)?;
    if log == reader.key.log && row.seq <= reader.until { Ok(row) } else { Err(unknown()) }
}

async fn event(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let row = find(&call, &reader).await?;
    let event = reader.render(&[row]).await?.into_iter().next().flatten();
    event.map(Answer::Bytes).ok_or_else(|| ApiError::not_found("there is no such event, or you may not see it"))
}

async fn context(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::member_or_left(&call, &call.room_id(0)?).await?;
    let row = find(&call, &reader).await?;
    let limit = call.query_as::<usize>("limit")?.unwrap_or(10).min(PAGE);
    let filter = filter(&call)?;
    let (before, start) = back(&reader, PageToken::before(row.seq), None, limit.div_ceil(2).max(1), &filter).await?;
    let (after, end) = forward(&reader, PageToken::after(row.seq), None, (limit / 2).max(1), &filter).await?;
    let event = reader.render(&[Arc::clone(&row)]).await?.into_iter().next().flatten();
    let event = event.ok_or_else(|| ApiError::not_found("there is no such event, or you may not see it"))?;
    let rendered =
        async |rows: &[Arc<StoredRow>]| Ok::<_, ApiError>(array(reader.render(rows).await?.into_iter().flatten()));
    let (before, after) = (rendered(&before).await?, rendered(&after).await?);
    let last = PageToken::after(reader.until);
    let (start, end) = (start.unwrap_or(PageToken::before(Seq::new(1))), end.unwrap_or(last));
    let state = reader.api.engine.state_after(reader.key, row.seq).await?;
    let mut rows = Vec::new();
    for (_, id) in reader
        .api
        .engine
        .rooms
        .entries(reader.key, reader.head.room.generation, &state, polity_sync::read::Part::Entries)
        .await?
    {
        rows.extend(reader.api.engine.rooms.event(reader.key.tenant, &id).await?);
    }
    let state = array(reader.api.engine.render_state_rows(&reader.viewer, &reader.head, &rows));
    let places = json!({"start": start.to_string(), "end": end.to_string()}).to_string();
    let body = [
        &places.as_bytes()[..places.len() - 1],
        b",\"event\":",
        &event,
        b",\"events_before\":",
        &before,
        b",\"events_after\":",
        &after,
        b",\"state\":",
        &state,
        b"}",
    ];
    Ok(Answer::Bytes(body.concat().into()))
}
