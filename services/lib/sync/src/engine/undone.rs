//! Where a timeline has to begin so that a client who takes its state events, one after the other, comes to the right state.
//!
//! What the user may not see, or doesn't want to, may undo what a timeline shows: the new topic that was set while the user was out of a room
//! that hides it, after the old one. The new one stands beside the timeline, which counts as what was before: the old one would win. So the
//! timeline begins after the old one, and whoever wants that asks for what was before.

use std::{collections::HashMap, sync::Arc};

use polity_core::Seq;
use ruma_common::EventId;

use super::pass::Rendered;
use crate::{page_token::PageToken, read::StoredRow};

impl Rendered {
    /// The same, from where on nothing that it shows is undone by what it doesn't. `to`: the last row that was looked for.
    pub(crate) fn without_what_is_undone(mut self, to: Seq) -> Self {
        let first = first(&self.rows, &self.shown);
        if first == 0 {
            return self;
        }
        let gone = self.shown.partition_point(|at| *at < first);
        self.timeline.events.drain(..gone);
        self.shown.drain(..gone);
        self.shown.iter_mut().for_each(|at| *at -= first);
        for row in self.rows.drain(..first) {
            self.start = self.start.after(&row);
        }
        let next = self.rows.first().map_or_else(|| to.next(), |row| row.seq);
        self.timeline.prev_batch = Some(PageToken::before(next).to_string());
        self.timeline.limited = true;
        self
    }
}

/// What became of a part of the state in a timeline.
#[derive(Default)]
struct Part<'a> {
    /// Where it is shown last, and as what.
    shown: Option<(usize, &'a EventId)>,
    /// What it is in the end.
    now: Option<&'a EventId>,
}

/// The row after the last one that is shown and undone.
fn first(rows: &[Arc<StoredRow>], shown: &[usize]) -> usize {
    let mut shows = shown.iter().copied().peekable();
    let (mut parts, mut unseen) = (HashMap::<(&str, &str), Part<'_>>::new(), false);
    for (at, row) in rows.iter().enumerate() {
        let event = row.event.as_ref().filter(|_| shows.next_if_eq(&at).is_some());
        for delta in &row.meta.deltas {
            let part = parts.entry((&delta.event_type, &delta.state_key)).or_default();
            part.now = delta.after.as_deref();
            match event.filter(|event| delta.after.as_deref() == Some(&*event.event_id)) {
                Some(event) => part.shown = Some((at, &event.event_id)),
                None => unseen = true,
            }
        }
    }
    if !unseen {
        return 0;
    }
    let undone = parts.into_values().filter_map(|part| part.shown.filter(|(_, shown)| Some(*shown) != part.now));
    undone.map(|(at, _)| at + 1).max().unwrap_or(0)
}
