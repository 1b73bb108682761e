//! `GET /_matrix/client/v3/sync`: how the engine's answer is written for it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use bytes::Bytes;

use crate::{
    engine::{Answer, JoinedRoom, LeftRoom, StateSection, Summary, Timeline, Unread},
    json::Writer,
};

/// The unstable name of `state_after`, the only one that matrix-js-sdk reads (MSC4222).
const STATE_AFTER_UNSTABLE: &str = "org.matrix.msc4222.state_after";

/// The body of a response, which holds the answer's share of memory until it is sent.
#[must_use]
pub fn encode(mut answer: Answer) -> Bytes {
    let share = answer.share.take();
    let written = write(&answer);
    drop(answer);
    match share {
        Some(share) => share.written(written),
        None => written.into(),
    }
}

fn write(answer: &Answer) -> Vec<u8> {
    let mut writer = Writer::with_capacity(answer.size_hint());
    writer.object(|w| {
        w.key("next_batch").string(&answer.next_batch);
        w.events("account_data", &answer.account_data);
        w.events("to_device", &answer.to_device);
        device_lists(w, answer);
        w.key("device_one_time_keys_count").object(|w| {
            for (algorithm, count) in &answer.keys.one_time {
                w.key(algorithm).number(*count);
            }
        });
        w.key("device_unused_fallback_key_types")
            .array(|w| answer.keys.unused_fallback.iter().for_each(|a| w.string(a)));
        if answer.has_rooms() {
            w.key("rooms").object(|w| rooms(w, answer));
        }
    });
    writer.finish()
}

fn device_lists(w: &mut Writer, answer: &Answer) {
    if answer.devices_changed.is_empty() && answer.devices_left.is_empty() {
        return;
    }
    w.key("device_lists").object(|w| {
        w.key("changed").array(|w| answer.devices_changed.iter().for_each(|user| w.string(user.as_str())));
        w.key("left").array(|w| answer.devices_left.iter().for_each(|user| w.string(user.as_str())));
    });
}

fn rooms(w: &mut Writer, answer: &Answer) {
    if !answer.joined.is_empty() {
        w.key("join").object(|w| {
            for (room_id, room) in &answer.joined {
                w.key(room_id.as_str()).object(|w| joined(w, room));
            }
        });
    }
    for (name, rooms, state) in [("invite", &answer.invited, "invite_state"), ("knock", &answer.knocked, "knock_state")]
    {
        if !rooms.is_empty() {
            w.key(name).object(|w| {
                for (room_id, stripped) in rooms {
                    w.key(room_id.as_str()).object(|w| {
                        w.key(state).object(|w| w.events_under("events", stripped));
                    });
                }
            });
        }
    }
    if !answer.left.is_empty() {
        w.key("leave").object(|w| {
            for (room_id, room) in &answer.left {
                w.key(room_id.as_str()).object(|w| left(w, room));
            }
        });
    }
}

fn joined(w: &mut Writer, room: &JoinedRoom) {
    timeline(w, &room.timeline);
    state(w, &room.state);
    w.events("ephemeral", &room.ephemeral);
    w.events("account_data", &room.account_data);
    w.key("unread_notifications").object(|w| unread(w, room.unread));
    if let Some(threads) = &room.unread_threads {
        w.key("unread_thread_notifications").object(|w| {
            for (root, count) in threads {
                w.key(root.as_str()).object(|w| unread(w, *count));
            }
        });
    }
    if let Some(summary) = &room.summary {
        w.key("summary").object(|w| self::summary(w, summary));
    }
}

fn unread(w: &mut Writer, count: Unread) {
    w.key("notification_count").number(count.notifications);
    w.key("highlight_count").number(count.highlights);
}

fn left(w: &mut Writer, room: &LeftRoom) {
    timeline(w, &room.timeline);
    state(w, &room.state);
    w.events("account_data", &room.account_data);
}

fn timeline(w: &mut Writer, timeline: &Timeline) {
    w.key("timeline").object(|w| {
        w.events_under("events", &timeline.events);
        w.key("limited").boolean(timeline.limited);
        if let Some(prev_batch) = &timeline.prev_batch {
            w.key("prev_batch").string(prev_batch);
        }
    });
}

fn state(w: &mut Writer, state: &StateSection) {
    match state {
        StateSection::Before(events) => w.events("state", events),
        StateSection::After(events) => {
            // An empty section still says that the timeline's state is not to be applied.
            for name in ["state_after", STATE_AFTER_UNSTABLE] {
                w.key(name).object(|w| w.events_under("events", events));
            }
        }
    }
}

fn summary(w: &mut Writer, summary: &Summary) {
    if !summary.heroes.is_empty() {
        w.key("m.heroes").array(|w| summary.heroes.iter().for_each(|user| w.string(user.as_str())));
    }
    w.key("m.joined_member_count").number(summary.joined);
    w.key("m.invited_member_count").number(summary.invited);
}

#[cfg(test)]
mod tests;
