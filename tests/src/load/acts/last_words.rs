//! Somebody who says something where nobody else does and doesn't come back, answered or not: whatever lands later than whoever wrote it
//! lived, nobody goes on with.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::register;
use crate::{
    Client, escape,
    load::world::{ROOMS, World, text},
};

/// Rows that a long room takes until its first bucket is full.
const BRIM: u64 = 3;

/// Fills the last room to where a long one's first bucket ends, says one thing there, and then one in an account and one in a room that
/// are made for it, in turn.
pub(super) async fn say(world: Arc<World>) {
    let (client, mut random) = (&world.writers[0], world.random("last words"));
    let room = escape(&world.rooms[ROOMS - 1]);
    let message = |room: &str, txn: &str| format!("/rooms/{room}/send/org.polity.word/{txn}");
    for number in 0..BRIM {
        let tag = format!("last-brim-{number}.");
        world.must(client, &tag, Method::PUT, &message(&room, &tag), Some(&json!({}))).await;
    }
    say_once(&world, client, "last-brim", &message(&room, "last-brim")).await;
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("last-{number}.");
        let mut client = world.stranger.stranger();
        client.token = Some(register::one(&world, &format!("last{number}")).await);
        let path = match number % 2 {
            0 => {
                let own = world.get(&client, &tag, "/account/whoami").await;
                format!("/user/{}/account_data/org.polity.word", escape(text(&own, "user_id")))
            }
            _ => {
                let room = json!({"preset": "private_chat"});
                let made = world.must(&client, &tag, Method::POST, "/createRoom", Some(&room)).await.value;
                message(&escape(text(&made, "room_id")), &tag)
            }
        };
        say_once(&world, &client, &tag, &path).await;
        world.breathe(&mut random, 60).await;
    }
}

async fn say_once(world: &World, client: &Client, tag: &str, path: &str) {
    if let Some(answer) = world.ask_once(client, tag, (Method::PUT, path), json!({})).await {
        if path.contains("/send/") {
            world.keep_event(client, tag, (path, &answer)).await;
        } else {
            world.keep(client, tag, path.to_owned(), "{}").await;
        }
    }
}
