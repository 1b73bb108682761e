//! A room as a plain model has it: a map of events, and the rules of authorisation as the specification tells them.
//!
//! <https://spec.matrix.org/v1.19/rooms/v11/#authorization-rules>

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An event of the state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) content: Value,
    pub(super) redacted: bool,
}

/// An event before it has an id.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) sender: String,
    pub(super) event_type: String,
    pub(super) state_key: Option<String>,
    pub(super) content: Value,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plain {
    /// By type and key.
    pub(super) state: BTreeMap<(String, String), Entry>,
    /// In version 12 who made the room has power without end.
    creator: Option<String>,
}

/// Levels that stand by their own name, and what counts where they don't.
pub(super) const LEVELS: [(&str, i64); 7] = [
    ("users_default", 0),
    ("events_default", 0),
    ("state_default", 50),
    ("ban", 50),
    ("redact", 50),
    ("kick", 50),
    ("invite", 0),
];

impl Said {
    pub(super) fn new(sender: &str, event_type: &str, state_key: Option<&str>, content: Value) -> Self {
        let (sender, event_type) = (sender.to_owned(), event_type.to_owned());
        Self { sender, event_type, state_key: state_key.map(str::to_owned), content }
    }
}

impl Plain {
    pub(super) fn new(creator: Option<String>) -> Self {
        Self { state: BTreeMap::new(), creator }
    }

    pub(super) fn entry(&self, event_type: &str, key: &str) -> Option<&Entry> {
        self.state.get(&(event_type.to_owned(), key.to_owned()))
    }

    fn content(&self, event_type: &str, key: &str) -> Value {
        self.entry(event_type, key).map(|entry| entry.content.clone()).unwrap_or_default()
    }

    pub(super) fn membership(&self, user: &str) -> String {
        self.content("m.room.member", user)["membership"].as_str().unwrap_or("leave").to_owned()
    }

    pub(super) fn joined(&self, user: &str) -> bool {
        self.membership(user) == "join"
    }

    pub(super) fn levels(&self) -> Value {
        self.content("m.room.power_levels", "")
    }

    fn level_of(&self, user: &str) -> i64 {
        if self.creator.as_deref() == Some(user) {
            return i64::MAX;
        }
        let levels = self.levels();
        levels["users"][user].as_i64().or(levels["users_default"].as_i64()).unwrap_or(0)
    }

    fn named(&self, name: &str) -> i64 {
        let usual = LEVELS.iter().find(|(level, _)| *level == name).map_or(0, |(_, usual)| *usual);
        self.levels()[name].as_i64().unwrap_or(usual)
    }

    fn reaches(&self, user: &str, name: &str) -> bool {
        self.level_of(user) >= self.named(name)
    }

    /// Whether somebody may send events of this type.
    fn may_send(&self, user: &str, event_type: &str, is_state: bool) -> bool {
        let usual = if is_state { "state_default" } else { "events_default" };
        let needed = self.levels()["events"][event_type].as_i64().unwrap_or_else(|| self.named(usual));
        self.joined(user) && self.level_of(user) >= needed
    }

    pub(super) fn may_redact_others(&self, user: &str) -> bool {
        self.reaches(user, "redact")
    }

    /// Whether the rules let an event into the room.
    pub(super) fn permits(&self, said: &Said) -> bool {
        let Said { sender, event_type, state_key, content } = said;
        match (event_type.as_str(), state_key) {
            ("m.room.member", Some(target)) => {
                self.permits_member(sender, target, content["membership"].as_str().unwrap_or_default())
            }
            ("m.room.power_levels", Some(_)) => {
                self.may_send(sender, event_type, true) && self.permits_levels(sender, content)
            }
            (_, key) => self.may_send(sender, event_type, key.is_some()),
        }
    }

    fn permits_member(&self, sender: &str, target: &str, membership: &str) -> bool {
        let (was, own) = (self.membership(target), sender == target);
        let rule = self.content("m.room.join_rules", "")["join_rule"].as_str().unwrap_or("invite").to_owned();
        let above = || self.level_of(target) < self.level_of(sender);
        match membership {
            "join" => own && was != "ban" && (rule == "public" || was == "invite" || was == "join"),
            "knock" => own && rule == "knock" && !["ban", "invite", "join"].contains(&was.as_str()),
            "leave" if own => ["join", "invite", "knock"].contains(&was.as_str()),
            "leave" => {
                let lifts = was != "ban" || self.reaches(sender, "ban");
                self.joined(sender) && lifts && self.reaches(sender, "kick") && above()
            }
            "ban" => self.joined(sender) && self.reaches(sender, "ban") && above(),
            "invite" => {
                self.joined(sender) && !["join", "ban"].contains(&was.as_str()) && self.reaches(sender, "invite")
            }
            _ => false,
        }
    }

    /// Nobody changes what is above his own level, or to what is.
    fn permits_levels(&self, sender: &str, new: &Value) -> bool {
        let (old, own) = (self.levels(), self.level_of(sender));
        if self.creator.as_deref().is_some_and(|creator| !new["users"][creator].is_null()) {
            return false;
        }
        let within = |level: Option<i64>| level.is_none_or(|level| level <= own);
        let names = LEVELS.iter().all(|(name, _)| {
            let (old, new) = (old[*name].as_i64(), new[*name].as_i64());
            old == new || (within(old) && within(new))
        });
        let all = |of: &Value| of.as_object().cloned().unwrap_or_default();
        let changed = |name: &str| {
            let (old, new) = (all(&old[name]), all(&new[name]));
            let keys = old.keys().chain(new.keys()).cloned().collect::<std::collections::BTreeSet<String>>();
            let pairs = keys.into_iter().map(move |key| {
                let level = |of: &serde_json::Map<String, Value>| of.get(&key).and_then(Value::as_i64);
                (level(&old), level(&new), key.clone())
            });
            pairs.filter(|(old, new, _)| old != new).collect::<Vec<_>>()
        };
        let events = changed("events").iter().all(|(old, new, _)| within(*old) && within(*new));
        let users = changed("users")
            .iter()
            .all(|(old, new, user)| within(*new) && (user == sender || old.is_none_or(|old| old < own)));
        names && events && users
    }

    /// The event stands in the room.
    pub(super) fn take(&mut self, id: &str, said: &Said) {
        if let Some(key) = &said.state_key {
            let entry = Entry {
                id: id.to_owned(),
                sender: said.sender.clone(),
                content: said.content.clone(),
                redacted: false,
            };
            self.state.insert((said.event_type.clone(), key.clone()), entry);
        }
    }

    /// Nothing is left of an event's content. (Of names: others keep something.)
    pub(super) fn redact(&mut self, id: &str) {
        for entry in self.state.values_mut().filter(|entry| entry.id == id) {
            (entry.content, entry.redacted) = (json!({}), true);
        }
    }
}
