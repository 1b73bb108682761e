//! Filters and their globs.

use std::time::{Duration, Instant};

use polity_sync::filter::{self, Facets};
use ruma_client_api::filter::{FilterDefinition, RoomEventFilter};
use ruma_common::{RoomId, UserId, room_id, user_id};

use super::text;

/// Nothing that a client can send takes longer to be matched, in the slowest build. (It takes some milliseconds.)
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose and what the event is on the first line, the filter behind it.
pub(super) fn filters(bytes: &[u8]) {
    let text = text(bytes);
    let (event, json) = text.split_once('\n').unwrap_or(("", &text));
    let (event_type, sender) = event.split_once(' ').unwrap_or((event, "@a:b"));
    let sender = <&UserId>::try_from(sender).unwrap_or(user_id!("@a:b"));
    let room = <&RoomId>::try_from(event_type).unwrap_or(room_id!("!a:b"));
    if let Ok(of_sync) = serde_json::from_str::<FilterDefinition>(json) {
        assert!((1..=100).contains(&filter::timeline_limit(&of_sync)));
        if filter::concerns(&of_sync, room) {
            assert!(!of_sync.room.not_rooms.iter().any(|other| other == room), "exclusions win");
        }
        passes(&of_sync.room.timeline, event_type, sender, room);
        passes(&of_sync.room.state, event_type, sender, room);
    }
    if let Ok(of_events) = serde_json::from_str::<RoomEventFilter>(json) {
        passes(&of_events, event_type, sender, room);
    }
}

fn passes(of_events: &RoomEventFilter, event_type: &str, sender: &UserId, room: &RoomId) {
    for has_url in [None, Some(false), Some(true)] {
        if filter::passes(of_events, Facets { event_type, sender: Some(sender), has_url }) {
            assert!(!of_events.not_senders.iter().any(|other| other == sender), "exclusions win");
            assert!(!of_events.not_types.iter().any(|other| other == event_type || other == "*"), "exclusions win");
            assert!(of_events.types.as_ref().is_none_or(|types| !types.is_empty()), "of no type");
        }
    }
    if filter::room_passes(of_events, room) {
        assert!(!of_events.not_rooms.iter().any(|other| other == room), "exclusions win");
    }
    let _ = (filter::wants_url(of_events), filter::is_lazy(of_events), filter::repeats_members(of_events));
}

/// A pattern and a text, a line each: what a table of all beginnings says, and not much later.
pub(super) fn globs(bytes: &[u8]) {
    let text = text(bytes);
    let (pattern, text) = text.split_once('\n').unwrap_or((&text, ""));
    let began = Instant::now();
    let found = filter::type_passes(Some(&[pattern.to_owned()]), &[], text);
    assert!(began.elapsed() < PATIENCE, "a glob of {} on {} bytes", pattern.len(), text.len());
    assert_eq!(found, matches(pattern.as_bytes(), text.as_bytes()), "{pattern:?} on {text:?}");
    assert_eq!(!found, filter::type_passes(None, &[pattern.to_owned()], text));
}

/// `row[t]`: whether the pattern so far matches the first `t` bytes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for sign in pattern {
        let mut next = vec![false; row.len()];
        for t in 0..row.len() {
            next[t] = match sign {
                b'*' => row[t] || (t > 0 && next[t - 1]),
                sign => t > 0 && row[t - 1] && text[t - 1] == *sign,
            };
        }
        row = next;
    }
    row[text.len()]
}
