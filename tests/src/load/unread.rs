//! Unread counts, against a straightforward count.

use std::collections::HashSet;

use serde_json::Value;

use super::world::text;

/// The count that a sync tells of a room.
pub(super) fn told(joined: &Value) -> Option<u64> {
    joined["unread_notifications"]["notification_count"].as_u64()
}

/// How many texts of others a user hadn't read when the room ended with each of these events; `read` is the place of the last one that
/// the user has read. What was redacted by then isn't counted.
pub(super) fn counts(events: &[Value], user: &str, read: Option<usize>) -> Vec<u64> {
    let mut counted = HashSet::new();
    let count = |(place, event): (usize, &Value)| {
        if let Some(target) = redacts(event) {
            counted.remove(target);
        }
        let is_new = read.is_none_or(|read| place > read);
        if is_new && text(event, "type") == "m.room.message" && text(event, "sender") != user {
            counted.insert(text(event, "event_id").to_owned());
        }
        u64::try_from(counted.len()).unwrap_or(u64::MAX)
    };
    events.iter().enumerate().map(count).collect()
}

fn redacts(event: &Value) -> Option<&str> {
    event["content"]["redacts"].as_str().or_else(|| event["redacts"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_was_read_is_own_or_is_redacted_by_then_is_not_counted() {
        let event = |id: &str, kind: &str, sender: &str| json!({"event_id": id, "type": kind, "sender": sender});
        let texts = [("$0", "@a:t"), ("$1", "@b:t"), ("$2", "@a:t"), ("$3", "@a:t")];
        let mut events = texts.map(|(id, sender)| event(id, "m.room.message", sender)).to_vec();
        let mut redaction = event("$4", "m.room.redaction", "@a:t");
        redaction["content"] = json!({"redacts": "$2"});
        events.push(redaction);
        assert_eq!(super::counts(&events, "@b:t", None), [1, 1, 2, 3, 2]);
        assert_eq!(super::counts(&events, "@b:t", Some(0)), [0, 0, 1, 2, 1]);
        assert_eq!(super::counts(&events, "@b:t", Some(3)), [0, 0, 0, 0, 0]);
    }
}
