//! New rooms: each is there whole, or not at all, whether or not its founder heard of it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    escape,
    load::world::{World, text},
};

/// What a whole room has.
const STATE: [&str; 9] = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.canonical_alias",
    "m.room.name",
    "m.room.topic",
    "org.polity.initial",
];

/// Makes one after the other; at the end looks at all that the founder is in.
pub(super) async fn found(world: Arc<World>) {
    let (founder, mut random) = (&world.others["founder"], world.random("found"));
    let mut promised = Vec::new();
    for number in 0_u64.. {
        if world.is_done() {
            break;
        }
        promised.push(one(&world, number).await);
        world.breathe(&mut random, 150).await;
    }
    let rooms = world.get(founder, "found-check", "/joined_rooms").await;
    let rooms: BTreeSet<&str> =
        rooms["joined_rooms"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for room in &promised {
        world.journal.check(
            rooms.contains(room.as_str()),
            format!("the room {room} was acknowledged and isn't there"),
            &[room],
        );
    }
    for room in rooms {
        let state = world.get(founder, "found-check", &format!("/rooms/{}/state", escape(room))).await;
        let kinds: HashSet<&str> = state.as_array().into_iter().flatten().map(|event| text(event, "type")).collect();
        let missing: Vec<&&str> = STATE.iter().filter(|kind| !kinds.contains(**kind)).collect();
        world.journal.check(missing.is_empty(), format!("the room {room} is there without {missing:?}"), &[room]);
    }
}

/// Makes one room; its id.
async fn one(world: &World, number: u64) -> String {
    let founder = &world.others["founder"];
    let tag = format!("found-{number}.");
    for attempt in 0.. {
        let alias = format!("room{number}-{attempt}");
        let body = json!({
            "preset": "private_chat", "room_alias_name": alias, "name": tag, "topic": "whole or not at all",
            "initial_state": [{"type": "org.polity.initial", "content": {"n": number}}],
        });
        match world.ask(founder, &tag, Method::POST, "/createRoom", Some(&body)).await {
            Ok(answered) => {
                let room = text(&answered.value, "room_id").to_owned();
                let alias = format!("#{alias}:polity.test");
                let found = world.get(founder, &tag, &format!("/directory/room/{}", escape(&alias))).await;
                let right = text(&found, "room_id") == room;
                world.journal.check(right, format!("{alias} is of {found}, not of {room}"), &[&tag]);
                return room;
            }
            // An earlier try took the alias, and nobody heard of its room.
            Err(refused) if refused.tries > 1 && text(&refused.body, "errcode") == "M_ROOM_IN_USE" => {}
            Err(refused) => world.journal.fail(format!("a new room is refused: {refused:?}"), &[&tag]),
        }
    }
    unreachable!("there is always another alias")
}
