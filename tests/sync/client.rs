//! A client that believes what it is told, and complains about what can't be.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{TrueRow, membership_of, state_of};

/// What a client believes of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// `join`, `invite`, `leave`, or nothing.
    pub(crate) section: String,
    /// How many of the room's rows it has, without a gap up to there since it was told that there is one.
    rows: usize,
    /// Where its timeline begins.
    begins: usize,
    state: BTreeMap<(String, String), String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) token: Option<String>,
    pub(crate) rooms: BTreeMap<String, Known>,
}

pub(crate) type Truth = BTreeMap<String, Vec<TrueRow>>;

impl Client {
    /// Takes an answer in.
    pub(crate) fn take(&mut self, answer: &Value, truth: &Truth) {
        self.token = Some(answer["next_batch"].as_str().unwrap().to_owned());
        for (room, section) in each(&answer["rooms"]["leave"]) {
            self.left(room, section, &truth[room]);
        }
        for (room, section) in each(&answer["rooms"]["join"]) {
            self.joined(room, section, &truth[room]);
        }
        for (room, _) in each(&answer["rooms"]["invite"]) {
            let known = self.rooms.entry(room.clone()).or_default();
            assert_ne!(known.section, "join", "MISSED: an invitation replaces a room whose leave is untold");
            known.section = "invite".into();
        }
    }

    fn joined(&mut self, room: &str, section: &Value, rows: &[TrueRow]) {
        let known = self.rooms.entry(room.to_owned()).or_default();
        if known.section != "join" {
            // Whatever it had is of an earlier stretch.
            *known = Known { section: "join".into(), ..Known::default() };
            assert!(section["timeline"]["events"].as_array().is_some_and(|events| !events.is_empty()), "BARE");
            known.rows = usize::MAX;
        }
        known.apply(section, rows);
        assert_ne!(known.rows, usize::MAX, "a new room without rows");
        assert_eq!(membership_of(&rows[..known.rows], &self.user), "join", "ZOMBIE: at the end of what was told");
    }

    fn left(&mut self, room: &str, section: &Value, rows: &[TrueRow]) {
        let known = self.rooms.entry(room.to_owned()).or_default();
        match known.section.as_str() {
            "join" => {
                known.apply(section, rows);
                let leave = &rows[known.rows - 1];
                assert_eq!(leave.event["state_key"], self.user, "a leave ends with the row that took the user out");
                let out = membership_of(&rows[..known.rows], &self.user);
                assert!(out == "leave" || out == "ban", "told as left at a {out}");
            }
            "invite" => {
                let events = section["timeline"]["events"].as_array().cloned().unwrap_or_default();
                assert!(
                    events.iter().all(|event| event["state_key"] == self.user),
                    "LEAK: rows of a room never joined"
                );
            }
            other => panic!("LEAVE TWICE: a leave of a room that is {other:?}"),
        }
        known.section = "leave".into();
    }

    /// Whether what it believes is what is.
    pub(crate) fn check(&self, truth: &Truth) {
        for (room, rows) in truth {
            let known = self.rooms.get(room).cloned().unwrap_or_default();
            let is = membership_of(rows, &self.user);
            match is.as_str() {
                "join" => {
                    assert_eq!(known.section, "join", "STUCK: {room}");
                    assert_eq!(known.rows, rows.len(), "MISSED: the newest rows of {room}");
                    assert_eq!(known.state, state_of(rows), "the state of {room}");
                }
                "invite" => assert_eq!(known.section, "invite", "STUCK: {room}"),
                _ => assert!(matches!(known.section.as_str(), "" | "leave"), "STUCK: {room} is {is}, {known:?}"),
            }
        }
    }
}

impl Known {
    fn apply(&mut self, section: &Value, rows: &[TrueRow]) {
        let empty = Vec::new();
        let events = section["timeline"]["events"].as_array().unwrap_or(&empty);
        let place = |event: &Value| {
            let id = event["event_id"].as_str().unwrap();
            rows.iter().position(|row| row.event_id == id).expect("an event of the room")
        };
        let limited = section["timeline"]["limited"] == true;
        for event in section["state"]["events"].as_array().unwrap_or(&empty) {
            self.set(event);
        }
        if let Some(first) = events.first() {
            let first = place(first);
            if self.rows == usize::MAX || limited {
                assert!(self.rows == usize::MAX || first >= self.rows, "TWICE: row {first}, has {}", self.rows);
                self.rows = first;
                self.begins = first;
            }
        }
        for event in events {
            let at = place(event);
            assert!(at <= self.rows, "MISSED: row {at} after {}", self.rows);
            assert!(at >= self.rows, "TWICE: row {at} of {}", self.rows);
            self.rows = at + 1;
            if section.get("state_after").is_none() && event.get("state_key").is_some() {
                self.set(event);
            }
        }
        for event in section["state_after"]["events"].as_array().unwrap_or(&empty) {
            self.set(event);
        }
    }

    fn set(&mut self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        self.state.insert((text("type"), text("state_key")), text("event_id"));
    }
}

fn each(section: &Value) -> impl Iterator<Item = (&String, &Value)> {
    section.as_object().into_iter().flatten()
}
