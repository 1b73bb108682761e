//! A room does what a plain model of it does: the same is allowed, the state at every event is what a replay of the rows gives, whatever
//! shared a group, and the projections say the same.

use polity_log::LogRow;
use polity_proto::room_state::RedactEventRequest;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    plain::{LEVELS, Plain, Said},
    states::check_states,
    *,
};

pub(super) const USERS: [&str; 4] = [ALICE, BOB, "@carol:t7.test", "@dave:t7.test"];

/// What a user tries.
#[derive(Debug, Clone)]
enum Act {
    Says,
    Names(u8),
    Rules(&'static str),
    Empowers(usize, i64),
    Levels(&'static str, i64),
    Member(&'static str, usize),
    /// The message or name so far back.
    Redacts(usize),
}

type Op = (usize, Act);

fn op() -> impl Strategy<Value = Op> {
    let user = 0..USERS.len();
    let level = prop::sample::select(vec![-1_i64, 0, 1, 49, 50, 51, 99, 100, 101]);
    let member = prop::sample::select(vec!["join", "join", "leave", "invite", "kick", "ban", "unban", "knock"]);
    let act = prop_oneof![
        3 => Just(Act::Says),
        2 => (0..3_u8).prop_map(Act::Names),
        1 => prop::sample::select(vec!["public", "invite", "knock"]).prop_map(Act::Rules),
        2 => (user.clone(), level.clone()).prop_map(|(user, level)| Act::Empowers(user, level)),
        1 => (0..LEVELS.len(), level).prop_map(|(at, level)| Act::Levels(LEVELS[at].0, level)),
        8 => (member, user.clone()).prop_map(|(what, target)| Act::Member(what, target)),
        1 => (0..4_usize).prop_map(Act::Redacts),
    ];
    // Who made the room more often than others.
    (prop_oneof![1 => Just(0_usize), 2 => user], act)
}

/// The room, its model, and what was put into it.
struct Play {
    world: World,
    room: String,
    plain: Plain,
    rows: usize,
    /// Messages and names, which may be redacted: id and sender.
    said: Vec<(String, String)>,
}

impl Play {
    async fn new(version: &str, preset: Preset) -> Self {
        let mut world = world().await;
        let room = world.create(version, preset).await;
        let creator = (version == "12").then(|| ALICE.to_owned());
        let mut play = Self { world, room, plain: Plain::new(creator), rows: 0, said: Vec::new() };
        // A room begins with whatever it begins with.
        play.take(false).await;
        play
    }

    /// The event that an act comes to, if it comes to one, and whether the room answers at once that it is so already.
    fn event(&self, (by, act): &Op) -> Option<(Said, bool)> {
        let sender = USERS[*by];
        let said = |event_type: &str, key: Option<&str>, content: Value| Said::new(sender, event_type, key, content);
        let mut levels = self.plain.levels();
        let event = match act {
            Act::Says => said("m.room.message", None, json!({"msgtype": "m.text", "body": "x"})),
            Act::Names(name) => said("m.room.name", Some(""), json!({"name": name.to_string()})),
            Act::Rules(rule) => said("m.room.join_rules", Some(""), json!({"join_rule": rule})),
            Act::Empowers(user, level) => {
                levels["users"][USERS[*user]] = json!(level);
                said("m.room.power_levels", Some(""), levels)
            }
            Act::Levels(name, level) => {
                levels[*name] = json!(level);
                said("m.room.power_levels", Some(""), levels)
            }
            Act::Member(what, target) => return self.member_event(sender, what, USERS[*target]),
            Act::Redacts(back) => {
                let (id, by) = self.said.iter().rev().nth(*back)?;
                let may = by == sender || self.plain.may_redact_others(sender);
                return may.then(|| (said("m.room.redaction", None, json!({"redacts": id})), false));
            }
        };
        let stands = event.state_key.as_deref().and_then(|key| self.plain.entry(&event.event_type, key));
        let same = |entry: &plain::Entry| !entry.redacted && entry.sender == sender && entry.content == event.content;
        let stands = self.plain.joined(sender) && stands.is_some_and(same);
        Some((event, stands))
    }

    /// Who is put out or let back must be where that is possible; who has joined has.
    fn member_event(&self, sender: &str, what: &str, target: &str) -> Option<(Said, bool)> {
        let target = if ["join", "leave", "knock"].contains(&what) { sender } else { target };
        let was = self.plain.membership(target);
        let left = was == "leave" && self.plain.entry("m.room.member", target).is_some_and(|e| e.sender == sender);
        let stands = (what == "join" && was == "join") || (what == "leave" && left);
        let possible = match what {
            "kick" => self.plain.joined(sender) && ["join", "invite", "knock"].contains(&was.as_str()),
            "unban" => self.plain.joined(sender) && was == "ban",
            _ => true,
        };
        let membership = if ["kick", "unban"].contains(&what) { "leave" } else { what };
        let content = json!({"membership": membership});
        possible.then(|| (Said::new(sender, "m.room.member", Some(target), content), stands))
    }

    /// An act, as a call that may be made beside others.
    fn call(&self, op: &Op) -> impl Future<Output = Result<(), Detail>> + use<> {
        let (mut world, room, sender, act) = (self.world.clone(), self.room.clone(), USERS[op.0], op.1.clone());
        let content = self.event(op).map(|(said, _)| said.content.to_string()).unwrap_or_default();
        let back = if let Act::Redacts(back) = act { back } else { 0 };
        let redacted = self.said.iter().rev().nth(back).map_or_else(|| "$none".to_owned(), |(id, _)| id.clone());
        async move {
            let state = match act {
                Act::Says => return world.send_as(sender, &room, ("m.room.message", None), content).await.map(drop),
                Act::Member(what, target) => return world.member(sender, &room, USERS[target], what).await.map(drop),
                Act::Redacts(_) => {
                    let (requester, room_id, event_id) = (who(sender), room, redacted);
                    let request = RedactEventRequest { requester, room_id, event_id, ..Default::default() };
                    return event(world.client.redact_event(request).await, |answer| answer.event).map(drop);
                }
                Act::Names(_) => "m.room.name",
                Act::Rules(_) => "m.room.join_rules",
                Act::Empowers(..) | Act::Levels(..) => "m.room.power_levels",
            };
            world.put(sender, &room, (state, ""), content).await.map(drop)
        }
    }

    /// Makes some calls at once. Of one alone the model says how it ends.
    async fn play(&mut self, ops: &[Op]) {
        let allowed = self.event(&ops[0]).is_some_and(|(said, stands)| stands || self.plain.permits(&said));
        let calls: Vec<_> = ops.iter().map(|op| self.call(op)).collect();
        let answers = futures_util::future::join_all(calls).await;
        if let [answer] = &answers[..] {
            assert_eq!(answer.is_ok(), allowed, "{:?} in {:#?}: {answer:?}", ops[0], self.plain);
        }
        let new = self.take(true).await;
        assert!(new <= answers.iter().filter(|answer| answer.is_ok()).count(), "who is refused changes nothing");
    }

    /// Takes the new rows into the model, which must permit each; how many there were.
    async fn take(&mut self, judged: bool) -> usize {
        let rows = self.world.log(&self.room).await;
        let new = &rows[self.rows..];
        for row in new {
            let (id, said) = (row.event_id.as_deref().unwrap(), said(row));
            assert!(!judged || self.plain.permits(&said), "{said:?} got into {:#?}", self.plain);
            self.plain.take(id, &said);
            if let Some((target, Some(_))) = RoomRow::decode(&row.body).unwrap().meta.redacts {
                self.plain.redact(target.as_str());
            }
            if matches!(said.event_type.as_str(), "m.room.message" | "m.room.name") {
                self.said.push((id.to_owned(), said.sender));
            }
        }
        let count = new.len();
        self.rows = rows.len();
        count
    }
}

/// The event of a row.
pub(super) fn said(row: &LogRow) -> Said {
    let pdu: Value = serde_json::from_slice(&RoomRow::decode(&row.body).unwrap().pdu).unwrap();
    let text = |field: &str| pdu[field].as_str();
    Said::new(text("sender").unwrap(), text("type").unwrap(), text("state_key"), pdu["content"].clone())
}

impl World {
    /// The rows of a room's log.
    pub(super) async fn log(&self, room: &str) -> Vec<LogRow> {
        let key = self.names.find(TenantId::new(TENANT), room).await.unwrap().unwrap();
        read::after(&*self.store, key, Seq::ZERO, 10_000, Consistency::Serial).await.unwrap()
    }
}

/// A room takes longer than a value does: fewer of them.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: (usual.cases / 5).max(1), max_shrink_iters: 2000, ..usual }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn a_room_does_what_a_plain_model_of_it_does(
        version in prop::sample::select(vec!["10", "11", "12"]),
        public in any::<bool>(),
        groups in prop::collection::vec(
            prop_oneof![2 => prop::collection::vec(op(), 1..2), 1 => prop::collection::vec(op(), 2..6)], 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let preset = if public { Preset::PublicChat } else { Preset::PrivateChat };
            let mut play = Play::new(version, preset).await;
            for ops in &groups {
                play.play(ops).await;
            }
            check_states(&play.world, &play.room, &play.plain).await;
        });
    }
}
