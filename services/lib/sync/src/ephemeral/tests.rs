//! Typing ends by itself, receipts are never lost silently, private ones are seen by their maker only.

use polity_core::sync_token::EphemeralPosition;
use ruma_common::{OwnedUserId, owned_event_id, owned_user_id, user_id};
use serde_json::{Value, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn room() -> (TenantId, LogId) {
    (TenantId::new(1), LogId::new([1; 16]))
}

fn typing(timeout_ms: u32) -> EphemeralEvent {
    EphemeralEvent::Typing { user_id: owned_user_id!("@a:b"), timeout_ms }
}

/// Takes an event in; whether that woke anybody.
fn apply(ephemeral: &Ephemeral, event: EphemeralEvent, now: Duration) -> bool {
    let mut woken = false;
    ephemeral.apply(room(), event, now, || woken = true);
    woken
}

fn expired(ephemeral: &Ephemeral, now: Duration) -> Vec<(TenantId, LogId)> {
    let mut rooms = Vec::new();
    ephemeral.expire(now, |room| rooms.push(room));
    rooms
}

fn receipt(user_id: OwnedUserId, private: bool) -> Receipt {
    Receipt { user_id, event_id: owned_event_id!("$e"), thread: None, private, at_ms: 5 }
}

#[test]
fn typing_is_told_once_and_ends_by_itself() {
    let ephemeral = Ephemeral::new(7);
    let start = ephemeral.position();
    assert!(apply(&ephemeral, typing(30_000), SECOND));
    assert!(!apply(&ephemeral, typing(30_000), SECOND * 2), "still typing is no news");
    assert_eq!(ephemeral.since(room(), start).typing, Some(vec![owned_user_id!("@a:b")]));
    let told = ephemeral.position();
    assert_eq!(ephemeral.since(room(), told), Changes::default());
    assert!(expired(&ephemeral, SECOND * 31).is_empty() && ephemeral.anybody_types());
    assert_eq!(expired(&ephemeral, SECOND * 33), [room()]);
    assert_eq!(ephemeral.since(room(), told).typing, Some(vec![]));
    assert!(!ephemeral.anybody_types());
}

#[test]
fn who_was_away_too_long_or_elsewhere_is_sent_to_the_store() {
    let ephemeral = Ephemeral::new(7);
    let start = ephemeral.position();
    let read = |at_ms| EphemeralEvent::Receipt(Receipt { at_ms, ..receipt(owned_user_id!("@a:b"), false) });
    for at_ms in 0..RECEIPTS as u64 {
        assert!(apply(&ephemeral, read(at_ms), SECOND));
        assert!(!apply(&ephemeral, read(at_ms), SECOND), "by the bus again");
    }
    assert!(ephemeral.moved(room(), start) && !ephemeral.moved(room(), ephemeral.position()));
    let changes = ephemeral.since(room(), start);
    assert_eq!((changes.receipts.len(), changes.receipts_incomplete), (RECEIPTS, false));
    apply(&ephemeral, read(RECEIPTS as u64), SECOND);
    assert!(ephemeral.since(room(), start).receipts_incomplete);
    let elsewhere = EphemeralPosition { instance: 8, counter: u64::MAX };
    assert!(ephemeral.since(room(), elsewhere).receipts_incomplete);
    assert!(ephemeral.since((TenantId::new(2), room().1), elsewhere).receipts.is_empty());
}

fn numbered(n: usize) -> (TenantId, LogId) {
    (TenantId::new(1), LogId::derived(TenantId::new(1), "room", &n.to_string()))
}

#[test]
fn what_was_dropped_is_told_to_who_may_have_missed_it() {
    let ephemeral = Ephemeral::new(7);
    let read = || EphemeralEvent::Receipt(receipt(owned_user_id!("@a:b"), false));
    ephemeral.apply(numbered(0), typing(30_000), SECOND, || {});
    let typed = ephemeral.position();
    for n in 1..=ROOMS {
        ephemeral.apply(numbered(n), read(), SECOND, || {});
    }
    let now = ephemeral.position();
    // The oldest without typing are gone, the others not.
    assert_eq!(
        ephemeral.since(numbered(0), EphemeralPosition { counter: 0, ..now }).typing,
        Some(vec![owned_user_id!("@a:b")])
    );
    let (gone, kept) = (numbered(1), numbered(DROPPED + 1));
    let missed = Changes { typing: Some(vec![]), receipts: vec![], receipts_incomplete: true };
    assert!(ephemeral.moved(gone, typed));
    assert_eq!(ephemeral.since(gone, typed), missed);
    assert_eq!(ephemeral.since(kept, typed).receipts.len(), 1);
    // Whoever knew all of that has missed nothing.
    assert!(!ephemeral.moved(gone, now));
    assert_eq!(ephemeral.since(gone, now), Changes::default());
    // Nor does a restart make everybody read everything.
    let elsewhere = EphemeralPosition { instance: 8, counter: 1 };
    assert!(!ephemeral.moved(gone, elsewhere));
    // Heard of again, it is still known to have been dropped.
    ephemeral.apply(gone, read(), SECOND, || {});
    assert_eq!(ephemeral.since(gone, typed).typing, Some(vec![]));
    assert!(ephemeral.since(gone, typed).receipts_incomplete);
    assert_eq!(ephemeral.since(gone, now).typing, None);
}

#[test]
fn where_everybody_types_the_ones_who_typed_first_go() {
    let ephemeral = Ephemeral::new(7);
    for n in 0..ROOMS {
        ephemeral.apply(numbered(n), typing(30_000), SECOND, || {});
    }
    let now = ephemeral.position();
    ephemeral.apply(numbered(ROOMS), typing(30_000), SECOND, || {});
    // Told of typing that nobody will end.
    assert!(ephemeral.moved(numbered(0), now));
    assert_eq!(ephemeral.since(numbered(0), now).typing, Some(vec![]));
    assert!(!ephemeral.moved(numbered(DROPPED), now));
    let told = ephemeral.position();
    assert!(!ephemeral.moved(numbered(0), told));
}

#[test]
fn receipts_are_rendered_for_who_may_see_them() {
    let receipts = [receipt(owned_user_id!("@a:b"), true), receipt(owned_user_id!("@c:d"), false)];
    let seen = |viewer| -> Option<Value> {
        receipts_event(&receipts, viewer).map(|event| serde_json::from_slice(&event).expect("JSON"))
    };
    let public = json!({"@c:d": {"ts": 5}});
    assert_eq!(seen(user_id!("@c:d")), Some(json!({"type": "m.receipt", "content": {"$e": {"m.read": public}}})));
    let both = json!({"m.read": public, "m.read.private": {"@a:b": {"ts": 5}}});
    assert_eq!(seen(user_id!("@a:b")), Some(json!({"type": "m.receipt", "content": {"$e": both}})));
    assert!(receipts_event(&receipts[..1], user_id!("@c:d")).is_none());
}

#[test]
fn events_come_back_from_the_bus() {
    for event in [typing(3), EphemeralEvent::Receipt(receipt(owned_user_id!("@a:b"), true))] {
        assert_eq!(EphemeralEvent::decode(&event.encode()), Ok(event));
    }
    assert!(EphemeralEvent::decode(&[]).is_err() && EphemeralEvent::decode(&[1, 99]).is_err());
}

#[test]
fn what_others_may_have_missed_is_told_once_more_as_it_is_now() {
    let ephemeral = Ephemeral::new(7);
    let stopped = owned_user_id!("@b:b");
    let stops = EphemeralEvent::Typing { user_id: stopped.clone(), timeout_ms: 0 };
    let starts = EphemeralEvent::Typing { user_id: stopped, timeout_ms: 9_000 };
    let read = EphemeralEvent::Receipt(receipt(owned_user_id!("@a:b"), false));
    for event in [typing(30_000), starts, stops.clone(), read.clone()] {
        apply(&ephemeral, event.clone(), SECOND);
        ephemeral.repeat(room(), event);
    }
    let told: Vec<_> = ephemeral.repeats(SECOND * 2).into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [typing(29_000), stops.clone(), stops, read]);
    assert_eq!(ephemeral.repeats(SECOND * 3), []);
    for _ in 0..=REPEATED {
        ephemeral.repeat(room(), typing(1));
    }
    assert_eq!(ephemeral.repeats(SECOND * 3).len(), REPEATED);
}
