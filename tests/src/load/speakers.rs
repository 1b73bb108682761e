//! Members that are loaded lazily: a client knows everybody who speaks, and as who it was then.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::collections::HashMap;

use serde_json::Value;

use super::{
    check::Stored,
    reader::Manner,
    told::events,
    world::{World, text},
};

/// Of one room: the member event of each user, and which one was known of the sender of each event of a timeline.
#[derive(Default)]
pub(super) struct Speakers {
    known: HashMap<String, String>,
    spoke: Vec<(String, Option<String>)>,
}

impl Speakers {
    /// Takes a section of a sync, with the state before or after its timeline.
    pub(super) fn take(&mut self, section: &Value, is_after: bool) {
        for event in events(&section[if is_after { "state_after" } else { "state" }]) {
            self.learn(event);
        }
        for event in events(&section["timeline"]) {
            if !is_after {
                self.learn(event);
            }
            self.spoke.push((text(event, "event_id").to_owned(), self.known.get(text(event, "sender")).cloned()));
        }
    }

    fn learn(&mut self, event: &Value) {
        if let Some(user) = member(event) {
            self.known.insert(user.to_owned(), text(event, "event_id").to_owned());
        }
    }

    /// Each was known, and (where the state is told in order) by the event that made it so.
    pub(super) fn check(&self, world: &World, room: &str, stored: &Stored, manner: Manner) {
        let (name, mut members) = (manner.name, HashMap::new());
        let mut was = HashMap::new();
        for event in &stored.events {
            if let Some(user) = member(event) {
                members.insert(user, text(event, "event_id"));
            }
            was.insert(text(event, "event_id"), members.get(text(event, "sender")).copied());
        }
        for (event_id, known) in &self.spoke {
            let due = was.get(&**event_id).copied().flatten();
            let right = if manner.is_told_in_order() { known.as_deref() == due } else { known.is_some() };
            let fault = format_args!("{name} knows who sent {event_id} in {room} by {known:?}, and not by {due:?}");
            world.journal.check(right, fault, &[name, event_id]);
        }
    }
}

/// Whose member event it is, if it is one.
fn member(event: &Value) -> Option<&str> {
    event["state_key"].as_str().filter(|_| text(event, "type") == "m.room.member")
}
