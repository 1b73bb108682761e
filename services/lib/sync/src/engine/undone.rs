//! Where a timeline has to begin so that a client who takes its state events, one after the other, comes to the right state.
//!
//! What the user may not see may undo what a timeline shows: the new topic that was set while the user was out of a room that hides it, after
//! the old one. The new one stands beside the timeline, which counts as what was before: the old one would win. So the timeline begins
//! after the old one, and whoever wants that asks for what was before.
//!
//! What a client's own filter keeps back makes no timeline shorter: it would cost messages. Who keeps back the state of some senders and not
//! of others ends with the old topic then, unless it asks for the state after the timeline.

use std::{collections::HashMap, sync::Arc};

use polity_core::Seq;
use ruma_common::EventId;

use super::pass::Rendered;
use crate::{page_token::PageToken, read::StoredRow};

impl Rendered {
    /// The same, from where on nothing that it shows is undone by what the user may not see. `to`: the last row that was looked for;
    /// `may_see`: which of the rows the user may see.
    pub(crate) fn without_what_is_undone(mut self, to: Seq, may_see: impl Fn(usize) -> bool) -> Self {
        let first = first(&self.rows, &self.shown, may_see);
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
    /// Whether it is something else by now that the user may not see, and that stands beside the timeline.
    undone: bool,
}

/// The row after the last one that is shown and undone.
fn first(rows: &[Arc<StoredRow>], shown: &[usize], may_see: impl Fn(usize) -> bool) -> usize {
    let mut shows = shown.iter().copied().peekable();
    let mut parts = HashMap::<(&str, &str), Part<'_>>::new();
    for (at, row) in rows.iter().enumerate() {
        let is_shown = shows.next_if_eq(&at).is_some();
        for delta in &row.meta.deltas {
            let part = parts.entry((&delta.event_type, &delta.state_key)).or_default();
            let own = row.event.as_ref().filter(|event| delta.after.as_deref() == Some(&*event.event_id));
            match own {
                Some(event) if is_shown => *part = Part { shown: Some((at, &event.event_id)), undone: false },
                // Kept back by the client's filter.
                Some(_) if may_see(at) => {}
                _ => part.undone = part.shown.is_some_and(|(_, shown)| delta.after.as_deref() != Some(shown)),
            }
        }
    }
    let undone = parts.into_values().filter(|part| part.undone).filter_map(|part| part.shown);
    undone.map(|(at, _)| at + 1).max().unwrap_or(0)
}
