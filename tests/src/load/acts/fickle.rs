//! Somebody who asks for something new, once, and doesn't come back, answered or not: nobody else goes on with what that leaves.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::{
    escape,
    load::world::{PASSWORD, World, text},
};

/// Makes rooms and accounts, and speaks in rooms that are made for it, in turn.
pub(super) async fn ask_once(world: Arc<World>) {
    let mut random = world.random("fickle");
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("fickle-{number}.");
        match number % 3 {
            0 => make_a_room(&world, &tag).await,
            1 => register(&world, &tag, &format!("fickle{number}")).await,
            _ => speak(&world, &tag).await,
        }
        world.breathe(&mut random, 60).await;
    }
}

async fn make_a_room(world: &World, tag: &str) {
    let (somebody, room) = (&world.others["claimer"], json!({"preset": "private_chat", "name": tag}));
    if let Some(made) = world.ask_once(somebody, tag, (Method::POST, "/createRoom"), room).await {
        let path = format!("/rooms/{}/state/m.room.name", escape(text(&made, "room_id")));
        world.keep(somebody, tag, path, tag).await;
    }
}

async fn register(world: &World, tag: &str, name: &str) {
    let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    let mut client = world.stranger.stranger();
    if let Some(account) = world.ask_once(&client, tag, (Method::POST, "/register"), body).await {
        client.token = Some(text(&account, "access_token").to_owned());
        world.keep(&client, tag, "/account/whoami".to_owned(), &format!("@{name}:")).await;
    }
}

async fn speak(world: &World, tag: &str) {
    let somebody = &world.others["claimer"];
    let room: Value = json!({"preset": "private_chat", "name": tag});
    let made = world.must(somebody, tag, Method::POST, "/createRoom", Some(&room)).await.value;
    let path = format!("/rooms/{}/send/m.room.message/1", escape(text(&made, "room_id")));
    let message = json!({"msgtype": "m.text", "body": tag});
    if let Some(sent) = world.ask_once(somebody, tag, (Method::PUT, &path), message).await {
        world.keep_event(somebody, tag, (&path, &sent)).await;
    }
}
