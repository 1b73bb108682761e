//! Events: texts, state, redactions.

use std::sync::Arc;

use http::Method;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    escape,
    load::world::{COUNT, Promised, World, text},
};

/// Writes on and on, each event until it is acknowledged, under one transaction id.
pub(super) async fn write(world: Arc<World>, me: usize) {
    let (client, mut random) = (&world.writers[me], world.random(&format!("writer{me}")));
    // What may still be redacted.
    let mut own: Vec<(usize, String)> = Vec::new();
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("w{me}-{number}.");
        let kind = random.random_range(0..10);
        let old =
            if kind == 9 && !own.is_empty() { Some(own.swap_remove(random.random_range(0..own.len()))) } else { None };
        let room = old.as_ref().map_or_else(|| world.any_room(&mut random), |(room, _)| *room);
        let redacts = old.map(|(_, event_id)| event_id);
        let (path, body) = request(&world.rooms[room], me, number, &tag, redacts.as_deref(), kind);
        let asked = Instant::now();
        let answered = world.must(client, &tag, Method::PUT, &path, Some(&body)).await;
        let (event_id, tries) = (text(&answered.value, "event_id").to_owned(), answered.tries);
        let sent = Promised { room, event_id: event_id.clone(), tag: tag.clone(), redacts, tries, asked };
        world.promised.lock().await.push(sent);
        // A client that never got its answer asks again: the same event. (State has no transaction.)
        if kind != 8 && random.random_range(0..6) == 0 {
            let again = world.must(client, &tag, Method::PUT, &path, Some(&body)).await;
            let same = text(&again.value, "event_id") == event_id;
            world.journal.check(same, format!("transaction {tag} gave two events"), &[&tag]);
        }
        // Whoever has an event's id may ask for it.
        if random.random_range(0..4) == 0 {
            let path = format!("/rooms/{}/event/{}", escape(&world.rooms[room]), escape(&event_id));
            let found = world.get(client, &tag, &path).await;
            let same = text(&found, "event_id") == event_id;
            world.journal.check(same, format!("{event_id} was acknowledged, {found} is there"), &[&tag]);
        }
        if kind < 8 {
            own.push((room, event_id));
        }
        world.breathe_between_events(&mut random).await;
    }
}

fn request(room: &str, me: usize, number: u64, tag: &str, redacts: Option<&str>, kind: u32) -> (String, Value) {
    let room = escape(room);
    // Its own user's and device's, whoever else has one of that name.
    let txn = format!("t{number}");
    match (redacts, kind) {
        (Some(event_id), _) => (format!("/rooms/{room}/redact/{}/{txn}", escape(event_id)), json!({"reason": tag})),
        (None, 8) => (format!("/rooms/{room}/state/{COUNT}/{me}"), json!({"n": number, "reason": tag})),
        _ => (format!("/rooms/{room}/send/m.room.message/{txn}"), json!({"msgtype": "m.text", "body": tag})),
    }
}
