//! What is worked out from a room's rows, against a straightforward replay of them: what lists show of the room, who counts as what since
//! when, and whether it stands in the directory.

use std::collections::BTreeMap;

use polity_core::Seq;
use polity_room_engine::record::{RoomHead, RoomRow};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Journal;

/// Members by whom a room is named, at most.
const HEROES: usize = 6;

/// See the module.
#[derive(Default)]
pub(super) struct Derived {
    /// The contents of the state's events.
    state: BTreeMap<(String, String), Map<String, Value>>,
    /// What each user was last, and since when.
    stretches: BTreeMap<String, (String, Seq)>,
    listed: bool,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
    content: Map<String, Value>,
}

fn is_out(membership: &str) -> bool {
    matches!(membership, "leave" | "ban")
}

impl Derived {
    /// Takes the next row; what is wrong with it.
    pub(super) fn take(&mut self, seq: Seq, row: &RoomRow) -> Result<(), String> {
        self.listed = row.meta.listed.unwrap_or(self.listed);
        let Ok(event) = serde_json::from_slice::<Event>(&row.pdu) else { return Ok(()) };
        let Event { event_type, state_key: Some(key), content } = event else { return Ok(()) };
        let is_member = event_type == "m.room.member";
        let now = content.get("membership").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.state.insert((event_type, key.clone()), content);
        if !is_member {
            return Ok(());
        }
        // A stretch begins with another membership, not with another name, nor with another way of being out.
        let stays = self.stretches.get(&key).filter(|(was, _)| *was == now || (is_out(was) && is_out(&now)));
        let due = (now, stays.map_or(seq, |(_, since)| *since));
        let told = row.meta.membership.as_ref().map(|change| (change.membership.clone(), change.since));
        let right = told.as_ref() == Some(&due);
        let fault = format!("row {seq:?} says that {key} is {told:?}, by the rows before it is {due:?}");
        self.stretches.insert(key, due);
        if right { Ok(()) } else { Err(fault) }
    }

    /// Each user's last membership, and since when.
    pub(super) fn stretches(&self) -> &BTreeMap<String, (String, Seq)> {
        &self.stretches
    }

    /// Whether the room stands in the directory.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// What the head says of the room is what its state does.
    pub(super) fn check(&self, head: &RoomHead, journal: &Journal) {
        let (summary, room) = (&head.summary, head.room_id.as_str());
        let members = |which: &str| self.stretches.values().filter(|(now, _)| now == which).count() as u64;
        let text = |event_type: &str, field: &str| {
            let content = self.state.get(&(event_type.to_owned(), String::new()));
            let text = content.and_then(|content| content.get(field)).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let is = (summary.joined, summary.invited, head.listed);
        let due = (members("join"), members("invite"), self.listed);
        journal.check(is == due, format_args!("of {room} the head says {is:?}, by its rows it is {due:?}"), &[room]);
        for (is, event_type, field) in [
            (&summary.name, "m.room.name", "name"),
            (&summary.topic, "m.room.topic", "topic"),
            (&summary.canonical_alias, "m.room.canonical_alias", "alias"),
            (&summary.join_rule, "m.room.join_rules", "join_rule"),
            (&summary.history_visibility, "m.room.history_visibility", "history_visibility"),
            (&summary.encryption, "m.room.encryption", "algorithm"),
        ] {
            let due = text(event_type, field);
            let fault = format_args!("of {room} the head says {event_type} {is:?}, its state {due:?}");
            journal.check(*is == due, fault, &[room]);
        }
        let there = |user: &str| self.stretches.get(user).is_some_and(|(now, _)| matches!(&**now, "join" | "invite"));
        let heroes = summary.heroes.len() <= HEROES && summary.heroes.iter().all(|hero| there(hero.as_str()));
        journal.check(heroes, format_args!("{room} is named by {:?}, who aren't all there", summary.heroes), &[room]);
    }
}
