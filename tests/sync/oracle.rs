//! Unread counts, counted the plain way.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::TrueRow;

/// A receipt: the number of its row, its thread (empty: none).
pub(crate) type Receipt = (usize, String);

/// Notifications and highlights by thread (empty: the main timeline).
pub(crate) type Counts = BTreeMap<String, (u64, u64)>;

/// What is unread for a user who is in the room. The admin alone may call for everybody.
pub(crate) fn unread(rows: &[TrueRow], user: &str, admin: &str, receipts: &[Receipt]) -> Counts {
    let mut since = 0;
    let mut was = false;
    for (at, row) in rows.iter().enumerate() {
        if row.event["type"] == "m.room.member" && row.event["state_key"] == user {
            let joined = row.event["content"]["membership"] == "join";
            if joined && !was {
                since = at + 1;
            }
            was = joined;
        }
    }
    let redacted: Vec<&str> = rows.iter().filter_map(|row| row.event["content"]["redacts"].as_str()).collect();
    let mut counts = Counts::new();
    for (at, row) in rows.iter().enumerate() {
        let event = &row.event;
        let thread = thread_of(event);
        let read = |(read, scope): &Receipt| {
            at < *read && (scope.is_empty() || *scope == thread || (scope == "main" && thread.is_empty()))
        };
        let mine = event["sender"] == user;
        if at < since || mine || receipts.iter().any(read) || redacted.contains(&row.event_id.as_str()) {
            continue;
        }
        let content = &event["content"];
        if event["type"] != "m.room.message" || content["msgtype"] == "m.notice" {
            continue;
        }
        let edit = content["m.relates_to"]["rel_type"] == "m.replace";
        let named = content["m.mentions"]["user_ids"].as_array().is_some_and(|users| users.iter().any(|u| u == user));
        let rings = content["m.mentions"]["room"] == true && event["sender"] == admin;
        if !edit || named || rings {
            let count = counts.entry(thread).or_default();
            count.0 += 1;
            count.1 += u64::from(named || rings);
        }
    }
    counts
}

/// The thread of an event: empty for none.
pub(crate) fn thread_of(event: &Value) -> String {
    let relation = &event["content"]["m.relates_to"];
    let is_thread = relation["rel_type"] == "m.thread";
    if is_thread { relation["event_id"].as_str().unwrap_or_default().to_owned() } else { String::new() }
}

/// The counts of a section of an answer that was asked for with threads apart.
pub(crate) fn told(section: &Value) -> Counts {
    let read =
        |count: &Value| (count["notification_count"].as_u64().unwrap(), count["highlight_count"].as_u64().unwrap());
    let threads = section["unread_thread_notifications"].as_object().expect("threads were asked for");
    let mut counts: Counts = threads.iter().map(|(root, count)| (root.clone(), read(count))).collect();
    counts.insert(String::new(), read(&section["unread_notifications"]));
    counts.retain(|_, count| *count != (0, 0));
    counts
}
