//! Somebody who is let into a room, leaves it or is thrown out, and tries the door: what was acknowledged to anybody decides, whatever
//! instance is asked.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::register;
use crate::{
    Client, escape,
    load::world::{World, text},
};

const NAME: &str = "barred";

/// Comes in and goes out, one time by itself and the next one by others, and tries the door after each.
pub(super) async fn try_the_door(world: Arc<World>) {
    let mut client = world.stranger.stranger();
    client.token = Some(register::one(&world, NAME).await);
    let own = world.get(&client, "barred-account", "/account/whoami").await;
    text(&own, "user_id").clone_into(&mut client.user_id);
    let (room, mut random) = (escape(&world.rooms[1]), world.random(NAME));
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("barred-{number}.");
        world.must(&client, &tag, Method::POST, &format!("/rooms/{room}/join"), Some(&json!({}))).await;
        tries(&world, &client, &tag, true).await;
        world.breathe(&mut random, 40).await;
        go_out(&world, &client, &tag, number % 2 == 0).await;
        tries(&world, &client, &tag, false).await;
        if number % 3 == 1 {
            forget(&world, &client, &tag).await;
        }
        world.breathe(&mut random, 40).await;
    }
}

/// Who has forgotten a room isn't told of it again, whatever becomes of who is out already.
async fn forget(world: &World, client: &Client, tag: &str) {
    let room = &world.rooms[1];
    world.must(client, tag, Method::POST, &format!("/rooms/{}/forget", escape(room)), Some(&json!({}))).await;
    stays_forgotten(world, client, tag).await;
    for what in ["ban", "unban"] {
        let (path, body) = (format!("/rooms/{}/{what}", escape(room)), json!({"user_id": client.user_id}));
        done(world, &world.writers[0], tag, &path, &body).await;
        stays_forgotten(world, client, tag).await;
    }
}

async fn stays_forgotten(world: &World, client: &Client, tag: &str) {
    let room = &world.rooms[1];
    let filter = json!({"room": {"rooms": [room], "include_leave": true, "timeline": {"limit": 1}}});
    let answer = world.get(client, tag, &format!("/sync?filter={}", escape(&filter.to_string()))).await;
    let told = &answer["rooms"]["leave"][room];
    world.journal.check(told.is_null(), format!("{room} was forgotten, and a sync tells {told}"), &["barred-"]);
}

async fn go_out(world: &World, client: &Client, tag: &str, is_thrown: bool) {
    let room = escape(&world.rooms[1]);
    let (by, path, body) = match is_thrown {
        true => (&world.writers[0], format!("/rooms/{room}/kick"), json!({"user_id": client.user_id})),
        false => (client, format!("/rooms/{room}/leave"), json!({})),
    };
    done(world, by, tag, &path, &body).await;
}

/// Does it, unless it is refused because an earlier try did, without being answered.
async fn done(world: &World, by: &Client, tag: &str, path: &str, body: &Value) {
    if let Err(refused) = world.ask(by, tag, Method::POST, path, Some(body)).await {
        let done_before = refused.tries > 1 && refused.status == StatusCode::FORBIDDEN;
        world.journal.check(done_before, format!("{path} is refused: {refused:?}"), &["barred-"]);
    }
}

/// Who is inside sees who else is and may speak, and nobody else.
async fn tries(world: &World, client: &Client, tag: &str, inside: bool) {
    let room = escape(&world.rooms[1]);
    let members = world.ask(client, tag, Method::GET, &format!("/rooms/{room}/joined_members"), None).await;
    let members = members.map(|answered| answered.value);
    let listed = |members: &Value| members["joined"][&client.user_id].is_object();
    let right = match &members {
        Ok(members) => inside && listed(members),
        Err(refused) => !inside && refused.status == StatusCode::FORBIDDEN,
    };
    let fault = format!("who is in the room: {inside}, asks for its members and is told {members:?}");
    world.journal.check(right, fault, &["barred-"]);
    let path = format!("/rooms/{room}/send/org.polity.knock/{tag}{inside}");
    let said = world.ask(client, tag, Method::PUT, &path, Some(&json!({}))).await.map(|answered| answered.value);
    let right = match &said {
        Ok(_) => inside,
        Err(refused) => !inside && refused.status == StatusCode::FORBIDDEN,
    };
    world.journal.check(right, format!("who is in the room: {inside}, speaks and is told {said:?}"), &["barred-"]);
}
