//! History: pages, one event, what stands around it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#syncing>

use std::{collections::BTreeSet, sync::Arc};

use axum::routing::MethodFilter;
use bytes::Bytes;
use polity_core::Seq;
use polity_sync::{
    engine::Settings,
    filter,
    json::Writer,
    page_token::PageToken,
    read::{Part, StoredRow},
};
use ruma_client_api::filter::RoomEventFilter;

use super::Reader;
use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    parser_names,
    routes::Routes,
};

/// Events of a page at most.
const PAGE: usize = 1000;
/// Rows looked at for one page.
const SCAN: usize = 2000;
/// Rows read at once: few, unless those before them were small. What each takes counts only once it is there.
const FEW: usize = 32;
const MANY: usize = 500;
const SMALL: usize = 8 * 1024;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/messages", messages)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/event/{event_id}", event)
        .json(MethodFilter::GET, Token::Required, "/rooms/{room_id}/context/{event_id}", context)
}

/// What a client wants to see: what its filter lets pass, and isn't said by somebody whom its user ignores.
struct Wanted {
    filter: RoomEventFilter,
    settings: Arc<Settings>,
}

impl Wanted {
    async fn of(call: &Call, reader: &Reader) -> Result<Self, ApiError> {
        let filter = match call.query("filter") {
            None => RoomEventFilter::default(),
            Some(text) => {
                parser_names::check(text.as_bytes())?;
                serde_json::from_str(text).map_err(|error| ApiError::bad_json(format!("filter: {error}")))?
            }
        };
        Ok(Self { filter, settings: reader.api.engine.settings(&reader.viewer).await? })
    }

    fn has(&self, row: &StoredRow) -> bool {
        filter::row_passes(&self.filter, row) && !self.settings.hides(row)
    }

    fn is_lazy(&self) -> bool {
        filter::is_lazy(&self.filter)
    }
}

/// A place of the query: a pagination token, or a sync's.
async fn place(call: &Call, reader: &Reader, name: &str) -> Result<Option<PageToken>, ApiError> {
    match call.query(name).filter(|text| !text.is_empty()) {
        Some(text) => reader.place(text).await.map(Some),
        None => Ok(None),
    }
}

async fn messages(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::visitor(&call.context, &call.room_id(0)?).await?;
    let limit = call.query_as::<usize>("limit")?.unwrap_or(10).clamp(1, PAGE);
    let wanted = Wanted::of(&call, &reader).await?;
    let backward = match call.query("dir") {
        Some("b") => true,
        Some("f") => false,
        Some(_) => return Err(ApiError::invalid_param("dir must be b or f")),
        None => return Err(ApiError::missing_param("dir must be b or f")),
    };
    let (start, to) = (place(&call, &reader, "from").await?, place(&call, &reader, "to").await?);
    let default = if backward { PageToken::after(reader.until) } else { PageToken::before(Seq::new(1)) };
    let start = start.unwrap_or(default);
    let (rows, end) = if backward {
        back(&reader, start, to, limit, &wanted).await?
    } else {
        forward(&reader, start, to, limit, &wanted).await?
    };
    let (rows, events) = visible(&reader, rows).await?;
    let members = lazy_members(&reader, &wanted, &rows, backward).await?;
    let mut out = Writer::default();
    out.object(|w| {
        w.events_under("chunk", &events);
        w.key("start").string(&start.to_string());
        if let Some(end) = end {
            w.key("end").string(&end.to_string());
        }
        if let Some(members) = members {
            w.events_under("state", &members);
        }
    });
    Ok(reader.answer(out))
}

/// Those of some rows that the user may see, and their events.
async fn visible(reader: &Reader, rows: Vec<Arc<StoredRow>>) -> Result<(Vec<Arc<StoredRow>>, Vec<Bytes>), ApiError> {
    let rendered = reader.render(&rows).await?;
    reader.hold(rendered.iter().flatten().map(Bytes::len).sum())?;
    Ok(rows.into_iter().zip(rendered).filter_map(|(row, event)| Some((row, event?))).unzip())
}

/// With lazily loaded members: those who sent what is on the page, as they were at its newest row. `rows` are only those that are
/// shown: who sent a hidden one is hidden with it.
async fn lazy_members(
    reader: &Reader,
    wanted: &Wanted,
    rows: &[Arc<StoredRow>],
    backward: bool,
) -> Result<Option<Vec<Bytes>>, ApiError> {
    let newest = if backward { rows.first() } else { rows.last() };
    let (true, Some(newest)) = (wanted.is_lazy(), newest) else { return Ok(None) };
    let state = reader.state_after(newest.seq).await?;
    let senders: BTreeSet<_> = rows.iter().filter_map(|row| row.event.as_ref()).map(|event| &*event.sender).collect();
    let members = reader.members_among(&state, senders).await?;
    reader.render_state(&members).await.map(Some)
}

type Found = (Vec<Arc<StoredRow>>, Option<PageToken>);

/// What was looked at for a page.
#[derive(Default)]
struct Looked {
    rows: usize,
    bytes: usize,
}

impl Looked {
    /// How many rows to read next for `left` events.
    fn next(&self, left: usize) -> usize {
        let small = self.rows > 0 && self.bytes / self.rows <= SMALL;
        left.clamp(10, if small { MANY } else { FEW })
    }

    fn at(&mut self, row: &StoredRow) {
        self.rows += 1;
        self.bytes += row.size();
    }
}

async fn back(
    reader: &Reader,
    start: PageToken,
    to: Option<PageToken>,
    limit: usize,
    wanted: &Wanted,
) -> Result<Found, ApiError> {
    if limit == 0 {
        return Ok((Vec::new(), Some(start)));
    }
    let stop = to.map_or(Seq::new(1), PageToken::next_seq);
    let mut next = Seq::new(start.next_seq().get().saturating_sub(1)).min(reader.until);
    let (mut out, mut looked) = (Vec::new(), Looked::default());
    while next >= stop && next > Seq::ZERO && looked.rows < SCAN {
        let page = reader.api.engine.rooms.back(reader.key, next, looked.next(limit - out.len())).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq < stop {
                return Ok((out, None));
            }
            looked.at(&row);
            next = Seq::new(row.seq.get() - 1);
            if wanted.has(&row) {
                reader.hold(row.size())?;
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
    wanted: &Wanted,
) -> Result<Found, ApiError> {
    if limit == 0 {
        return Ok((Vec::new(), Some(start)));
    }
    let stop = to.map_or(reader.until, |to| Seq::new(to.next_seq().get().saturating_sub(1)).min(reader.until));
    let mut last = Seq::new(start.next_seq().get().saturating_sub(1));
    let (mut out, mut looked) = (Vec::new(), Looked::default());
    while last < stop && looked.rows < SCAN {
        let page = reader.api.engine.rooms.after(reader.key, last, looked.next(limit - out.len())).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq > stop {
                return Ok((out, None));
            }
            looked.at(&row);
            last = row.seq;
            if wanted.has(&row) {
                reader.hold(row.size())?;
                out.push(row);
                if out.len() == limit {
                    return Ok((out, (last < stop).then(|| PageToken::after(last))));
                }
            }
        }
    }
    Ok((out, (last < stop).then(|| PageToken::after(last))))
}

/// An event of this room as the user sees it, and its row.
async fn find(call: &Call, reader: &Reader) -> Result<(Arc<StoredRow>, Bytes), ApiError> {
    let unknown = || ApiError::not_found("there is no such event, or you may not see it");
    let found = reader.api.engine.rooms.event_in(reader.key.tenant, &call.event_id(1)?).await?;
    let found = found.filter(|(log, row)| *log == reader.key.log && row.seq <= reader.until);
    let (_, row) = found.ok_or_else(unknown)?;
    let shown = reader.render(&[Arc::clone(&row)]).await?.into_iter().next().flatten();
    Ok((row, shown.ok_or_else(unknown)?))
}

async fn event(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::of_event(&call.context, &call.room_id(0)?).await?;
    Ok(Answer::Bytes(find(&call, &reader).await?.1))
}

async fn context(call: Call) -> Result<Answer, ApiError> {
    let reader = Reader::of_event(&call.context, &call.room_id(0)?).await?;
    let (row, event) = find(&call, &reader).await?;
    // The event itself counts; what is left is shared between before and after.
    let limit = call.query_as::<usize>("limit")?.unwrap_or(10).min(PAGE);
    let wanted = Wanted::of(&call, &reader).await?;
    let (before, start) = back(&reader, PageToken::before(row.seq), None, limit / 2, &wanted).await?;
    let (after, end) = forward(&reader, PageToken::after(row.seq), None, limit.div_ceil(2), &wanted).await?;
    let ((before, shown_before), (after, shown_after)) =
        (visible(&reader, before).await?, visible(&reader, after).await?);
    let start = start.unwrap_or(PageToken::before(Seq::new(1)));
    let end = end.unwrap_or(PageToken::after(reader.until));
    let newest = after.last().map_or(row.seq, |last| last.seq);
    let mut out = Writer::default();
    out.open(b'{');
    out.key("start").string(&start.to_string());
    out.key("end").string(&end.to_string());
    out.key("event").raw(&event);
    out.events_under("events_before", &shown_before);
    out.events_under("events_after", &shown_after);
    out.key("state").open(b'[');
    let shown = before.iter().chain([&row]).chain(&after);
    write_context_state(&reader, &mut out, &wanted, newest, shown).await?;
    out.close(b']');
    out.close(b'}');
    Ok(reader.answer(out))
}

/// The state at the newest of the events that are shown; with lazily loaded members only those who sent them.
async fn write_context_state(
    reader: &Reader,
    out: &mut Writer,
    wanted: &Wanted,
    newest: Seq,
    rows: impl Iterator<Item = &Arc<StoredRow>>,
) -> Result<(), ApiError> {
    let state = reader.state_after(newest).await?;
    let is_wanted = |row: &StoredRow| wanted.has(row);
    reader.write_state(out, (&state, Part::Entries), is_wanted).await?;
    if !wanted.is_lazy() {
        return reader.write_state(out, (&state, Part::Members), is_wanted).await;
    }
    let senders: BTreeSet<_> = rows.filter_map(|row| row.event.as_ref()).map(|event| &*event.sender).collect();
    let mut members = reader.members_among(&state, senders).await?;
    members.retain(|row| wanted.has(row));
    reader.render_state(&members).await?.iter().for_each(|event| out.raw(event));
    Ok(())
}
