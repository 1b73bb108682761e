//! Somebody who asks for something new, once, and doesn't come back, answered or not: nobody else goes on with what that leaves.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::{
    Failure, escape,
    load::world::{PASSWORD, World, text},
};

/// Notes where what was made is found from now on.
async fn keep(world: &World, (path, answer): (&str, &Value), tag: &str) {
    let somebody = &world.others["claimer"];
    match path {
        "/register" => {
            let mut new = world.stranger.stranger();
            new.token = Some(text(answer, "access_token").to_owned());
            world.keep(&new, ("/account/whoami", answer), tag).await;
        }
        "/createRoom" => {
            let path = format!("/rooms/{}/state/m.room.name", escape(text(answer, "room_id")));
            world.keep(somebody, (&path, answer), tag).await;
        }
        _ => world.keep(somebody, (path, answer), tag).await,
    }
}

/// Makes rooms and accounts, and speaks in rooms that are made for it, in turn.
pub(super) async fn ask_once(world: Arc<World>) {
    let mut random = world.random("fickle");
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("fickle-{number}.");
        let (somebody, stranger) = (&world.others["claimer"], world.stranger.stranger());
        let room = json!({"preset": "private_chat", "name": tag});
        let (method, path, body) = match number % 3 {
            0 => (Method::POST, "/createRoom".to_owned(), room),
            1 => {
                let auth = json!({"type": "m.login.dummy"});
                let body = json!({"username": format!("fickle{number}"), "password": PASSWORD, "auth": auth});
                (Method::POST, "/register".to_owned(), body)
            }
            _ => {
                let made = world.must(somebody, &tag, Method::POST, "/createRoom", Some(&room)).await.value;
                let path = format!("/rooms/{}/send/m.room.message/1", escape(text(&made, "room_id")));
                (Method::PUT, path, json!({"msgtype": "m.text", "body": tag}))
            }
        };
        let by = if path == "/register" { &stranger } else { somebody };
        let told = match by.call(method, &path, Some(body)).await {
            Ok(answer) => {
                keep(&world, (&path, &answer), &tag).await;
                "done".to_owned()
            }
            Err(Failure::Refused(status, body)) if !status.is_server_error() => {
                world.journal.fail(format!("who asks once is refused: {status} {body}"), &[&tag])
            }
            Err(failure) => failure.to_string(),
        };
        world.journal.note(&tag, format!("asks once: {told}"));
        world.breathe(&mut random, 60).await;
    }
}
