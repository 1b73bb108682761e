//! What lists show of a room, kept with every change of its state.

use polity_room_engine::{pdu::Pdu, record::Summary};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value};

/// Members by whom a nameless room is named; clients show five others.
const HEROES: usize = 6;

/// Takes a state event into the summary. `before` is what the user was, for a member event.
pub(crate) fn update(summary: &mut Summary, event: &Pdu, before: Option<&str>) {
    let content: Map<String, Value> = serde_json::from_str(event.content().get()).unwrap_or_default();
    let text =
        |field: &str| content.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    match (event.event_type().to_string().as_str(), event.state_key()) {
        ("m.room.member", Some(user)) => {
            let now = text("membership");
            member(summary, user, before, now.as_deref());
        }
        ("m.room.name", Some("")) => summary.name = text("name"),
        ("m.room.topic", Some("")) => summary.topic = text("topic"),
        ("m.room.avatar", Some("")) => summary.avatar_url = text("url"),
        ("m.room.canonical_alias", Some("")) => summary.canonical_alias = text("alias"),
        ("m.room.join_rules", Some("")) => summary.join_rule = text("join_rule"),
        ("m.room.history_visibility", Some("")) => summary.history_visibility = text("history_visibility"),
        ("m.room.guest_access", Some("")) => summary.guest_access = text("guest_access"),
        // Encrypted, whatever it says: clients take no room back.
        ("m.room.encryption", Some("")) => summary.encryption = Some(text("algorithm").unwrap_or_default()),
        ("m.room.create", Some("")) => summary.room_type = text("type"),
        _ => {}
    }
}

fn member(summary: &mut Summary, user: &str, before: Option<&str>, now: Option<&str>) {
    let count = |membership: Option<&str>, what: &str| u64::from(membership == Some(what));
    summary.joined = summary.joined + count(now, "join") - count(before, "join").min(summary.joined);
    summary.invited = summary.invited + count(now, "invite") - count(before, "invite").min(summary.invited);
    let Ok(user_id) = <&UserId>::try_from(user).map(OwnedUserId::from) else { return };
    let there = matches!(now, Some("join" | "invite"));
    if !there {
        summary.heroes.retain(|hero| *hero != user_id);
    } else if summary.heroes.len() < HEROES && !summary.heroes.contains(&user_id) {
        summary.heroes.push(user_id);
    }
}
