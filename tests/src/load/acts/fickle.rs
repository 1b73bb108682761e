//! Somebody who asks for something new, once, and doesn't come back, answered or not: nobody else goes on with what that leaves.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::{
    Failure, escape,
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
        let (somebody, stranger) = (&world.others["claimer"], world.stranger.stranger());
        let room = json!({"preset": "private_chat", "name": tag});
        let told = match number % 3 {
            0 => somebody.call(Method::POST, "/createRoom", Some(room)).await,
            1 => {
                let auth = json!({"type": "m.login.dummy"});
                let body = json!({"username": format!("fickle{number}"), "password": PASSWORD, "auth": auth});
                stranger.call(Method::POST, "/register", Some(body)).await
            }
            _ => {
                let made = world.must(somebody, &tag, Method::POST, "/createRoom", Some(&room)).await.value;
                let path = format!("/rooms/{}/send/m.room.message/1", escape(text(&made, "room_id")));
                somebody.call(Method::PUT, &path, Some(json!({"msgtype": "m.text", "body": tag}))).await
            }
        };
        let told = match told {
            Ok(_) => "done".to_owned(),
            Err(Failure::Refused(status, body)) if !status.is_server_error() => {
                world.journal.fail(format!("who asks once is refused: {status} {body}"), &[&tag])
            }
            Err(failure) => failure.to_string(),
        };
        world.journal.note(&tag, format!("asks once: {told}"));
        world.breathe(&mut random, 60).await;
    }
}
