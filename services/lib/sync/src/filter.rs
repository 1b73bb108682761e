//! Filters: what a client wants to see of a sync or a page.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma_client_api::filter::{FilterDefinition, LazyLoadOptions, RoomEventFilter, UrlFilter};
use ruma_common::{RoomId, UserId};

use crate::read::StoredRow;

/// How many events a timeline has when the filter doesn't say.
const TIMELINE_DEFAULT: usize = 10;
/// How many it has at most.
const TIMELINE_MAX: usize = 100;

/// The parts of an event that filters look at.
#[derive(Debug, Clone, Copy)]
pub struct Facets<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Who sent it, where somebody did.
    pub sender: Option<&'a UserId>,
    /// Whether its content has a `url`; only looked at when a filter asks.
    pub has_url: Option<bool>,
}

/// Whether a filter for room events lets an event pass.
#[must_use]
pub fn passes(filter: &RoomEventFilter, facets: Facets<'_>) -> bool {
    let sender_in =
        |list: &[ruma_common::OwnedUserId]| facets.sender.is_some_and(|sender| list.iter().any(|u| u == sender));
    let url = match filter.url_filter {
        Some(UrlFilter::EventsWithUrl) => facets.has_url == Some(true),
        Some(UrlFilter::EventsWithoutUrl) => facets.has_url != Some(true),
        _ => true,
    };
    url && type_passes(filter.types.as_deref(), &filter.not_types, facets.event_type)
        && filter.senders.as_deref().is_none_or(sender_in)
        && !sender_in(&filter.not_senders)
}

/// Whether a row has an event that a filter for room events lets pass.
#[must_use]
pub fn row_passes(filter: &RoomEventFilter, row: &StoredRow) -> bool {
    row.event.as_ref().is_some_and(|event| {
        let has_url = wants_url(filter).then(|| event.content_text("url").is_some());
        passes(filter, Facets { event_type: &event.event_type, sender: Some(&event.sender), has_url })
    })
}

/// Whether lists of types (with `*` as wildcard) let a type pass.
#[must_use]
pub fn type_passes(types: Option<&[String]>, not_types: &[String], event_type: &str) -> bool {
    types.is_none_or(|types| types.iter().any(|pattern| glob(pattern, event_type)))
        && !not_types.iter().any(|pattern| glob(pattern, event_type))
}

/// Whether lists of rooms let a room pass.
#[must_use]
pub fn room_passes(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == room_id))
        && !filter.not_rooms.iter().any(|room| room == room_id)
}

/// Whether the filter of a sync is about a room at all.
#[must_use]
pub fn concerns(filter: &FilterDefinition, room_id: &RoomId) -> bool {
    filter.room.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == room_id))
        && !filter.room.not_rooms.iter().any(|room| room == room_id)
}

/// Whether a filter looks at `url`, which costs reading the content.
#[must_use]
pub fn wants_url(filter: &RoomEventFilter) -> bool {
    filter.url_filter.is_some()
}

/// Whether members are loaded lazily.
#[must_use]
pub fn is_lazy(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

/// Whether members that were sent before are sent again.
#[must_use]
pub fn repeats_members(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { include_redundant_members: true })
}

/// Whether a filter may keep members back.
#[must_use]
pub fn narrows_members(filter: &RoomEventFilter) -> bool {
    let by_sender = filter.senders.is_some() || !filter.not_senders.is_empty();
    by_sender || wants_url(filter) || !type_passes(filter.types.as_deref(), &filter.not_types, "m.room.member")
}

/// How many events a timeline has at most.
#[must_use]
pub fn timeline_limit(filter: &FilterDefinition) -> usize {
    let asked = filter.room.timeline.limit.and_then(|limit| usize::try_from(u64::from(limit)).ok());
    asked.unwrap_or(TIMELINE_DEFAULT).clamp(1, TIMELINE_MAX)
}

/// `*` stands for any number of characters; everything else for itself. Takes time in proportion to the product of the lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest doesn't match: the last star and how much it has taken.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;
    use serde_json::json;

    use super::*;

    fn filter(value: serde_json::Value) -> RoomEventFilter {
        serde_json::from_value(value).unwrap()
    }

    fn facets(event_type: &str) -> Facets<'_> {
        Facets { event_type, sender: Some(user_id!("@a:b")), has_url: Some(false) }
    }

    #[test]
    fn globs_match_as_a_whole() {
        for (pattern, text, matches) in [
            ("m.room.*", "m.room.message", true),
            ("*", "", true),
            ("*.message", "m.room.message", true),
            ("m.*.m*e", "m.room.message", true),
            ("m.room", "m.room.message", false),
            ("", "a", false),
            ("a*b*c", "axxbyyb", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} on {text}");
        }
        // No exponential backtracking.
        assert!(!glob(&"*a".repeat(100), &"b".repeat(10_000)));
    }

    #[test]
    fn exclusions_win_and_an_empty_list_lets_nothing_pass() {
        let message = facets("m.room.message");
        assert!(passes(&filter(json!({})), message));
        assert!(!passes(&filter(json!({"types": []})), message));
        assert!(passes(&filter(json!({"types": ["m.room.*"]})), message));
        assert!(!passes(&filter(json!({"types": ["m.room.*"], "not_types": ["*.message"]})), message));
        assert!(!passes(&filter(json!({"senders": ["@c:d"]})), message));
        assert!(!passes(&filter(json!({"not_senders": ["@a:b"]})), message));
        assert!(!passes(&filter(json!({"contains_url": true})), message));
        assert!(passes(&filter(json!({"contains_url": false})), message));
    }

    #[test]
    fn limits_are_bounded() {
        let limit =
            |n: u64| timeline_limit(&serde_json::from_value(json!({"room": {"timeline": {"limit": n}}})).unwrap());
        assert_eq!((limit(0), limit(7), limit(1_000_000)), (1, 7, TIMELINE_MAX));
        assert_eq!(timeline_limit(&FilterDefinition::default()), TIMELINE_DEFAULT);
    }
}
