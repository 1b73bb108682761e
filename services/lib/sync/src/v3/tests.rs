//! What is written is JSON, and what the spec says.

use std::sync::Arc;

use polity_accounts::KeyCounts;
use ruma_common::{owned_event_id, owned_room_id, owned_user_id};
use serde_json::{Value, json};

use super::*;

fn written(answer: Answer) -> Value {
    serde_json::from_slice(&encode(answer)).expect("valid JSON")
}

fn event(n: u8) -> Bytes {
    Bytes::from(format!("{{\"n\":{n}}}"))
}

#[test]
fn an_empty_answer_still_tells_the_token_and_the_keys() {
    let answer = Answer { next_batch: "t\"1".into(), ..Answer::default() };
    let expected =
        json!({"next_batch": "t\"1", "device_one_time_keys_count": {}, "device_unused_fallback_key_types": []});
    assert_eq!(written(answer), expected);
}

#[test]
fn every_section_stands_where_the_spec_has_it() {
    let timeline = Timeline { events: vec![event(1), event(2)], limited: true, prev_batch: Some("p".into()) };
    let joined = JoinedRoom {
        timeline: timeline.clone(),
        state: StateSection::After(vec![event(3)]),
        ephemeral: vec![event(4)],
        account_data: vec![event(5)],
        unread: Unread { notifications: 2, highlights: 1 },
        unread_threads: Some(vec![(owned_event_id!("$t"), Unread { notifications: 1, highlights: 0 })]),
        summary: Some(Summary { joined: 2, invited: 0, heroes: vec![owned_user_id!("@a:b")] }),
    };
    let left = LeftRoom { timeline, state: StateSection::Before(vec![event(6)]), account_data: vec![] };
    let answer = Answer {
        next_batch: "t".into(),
        joined: vec![(owned_room_id!("!j:b"), joined)],
        invited: vec![(owned_room_id!("!i:b"), vec![event(7)])],
        left: vec![(owned_room_id!("!l:b"), left)],
        to_device: vec![event(8)],
        account_data: vec![event(9)],
        devices_changed: vec![owned_user_id!("@c:d")],
        keys: Arc::new(KeyCounts {
            one_time: [("signed_curve25519".into(), 50)].into(),
            unused_fallback: vec!["signed_curve25519".into()],
        }),
        ..Answer::default()
    };
    let timeline = json!({"events": [{"n": 1}, {"n": 2}], "limited": true, "prev_batch": "p"});
    assert_eq!(
        written(answer),
        json!({
            "next_batch": "t",
            "account_data": {"events": [{"n": 9}]},
            "to_device": {"events": [{"n": 8}]},
            "device_lists": {"changed": ["@c:d"], "left": []},
            "device_one_time_keys_count": {"signed_curve25519": 50},
            "device_unused_fallback_key_types": ["signed_curve25519"],
            "rooms": {
                "join": {"!j:b": {
                    "timeline": timeline,
                    "state_after": {"events": [{"n": 3}]},
                    "org.matrix.msc4222.state_after": {"events": [{"n": 3}]},
                    "ephemeral": {"events": [{"n": 4}]},
                    "account_data": {"events": [{"n": 5}]},
                    "unread_notifications": {"notification_count": 2, "highlight_count": 1},
                    "unread_thread_notifications": {"$t": {"notification_count": 1, "highlight_count": 0}},
                    "summary": {"m.heroes": ["@a:b"], "m.joined_member_count": 2, "m.invited_member_count": 0},
                }},
                "invite": {"!i:b": {"invite_state": {"events": [{"n": 7}]}}},
                "leave": {"!l:b": {"timeline": timeline, "state": {"events": [{"n": 6}]}}},
            },
        })
    );
}
