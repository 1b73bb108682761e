//! A user of another tenant, of a name that somebody has here, too: each sees what is its own, and nothing else.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Client, escape,
    load::{
        pages,
        world::{World, text},
    },
};

/// Writes to the own room, follows by sync, and tries what is the other tenant's.
pub(super) async fn live_apart(world: Arc<World>) {
    let Some((client, room)) = &world.neighbour else { return };
    let (mut random, mut since, mut sent) = (world.random("neighbour"), String::new(), Vec::new());
    for number in 0_u64.. {
        if world.is_done() {
            break;
        }
        let tag = format!("neighbour-{number}.");
        let path = format!("/rooms/{}/send/m.room.message/{tag}", escape(room));
        let body = json!({"msgtype": "m.text", "body": tag});
        let answered = world.must(client, &tag, Method::PUT, &path, Some(&body)).await;
        sent.push(text(&answered.value, "event_id").to_owned());
        let answer = world.get(client, "neighbour-sync", &format!("/sync?timeout=0{since}")).await;
        since = format!("&since={}", text(&answer, "next_batch"));
        only_own(&world, &answer, room);
        refused(&world, client, number).await;
        world.breathe(&mut random, 60).await;
    }
    let history = pages::whole(&world, client, "neighbour-check", room).await;
    let texts = history.iter().filter(|event| text(event, "type") == "m.room.message");
    let stored: Vec<&str> = texts.map(|event| text(event, "event_id")).collect();
    let fault = format!("{sent:?} was acknowledged in {room}, and {stored:?} is there");
    world.journal.check(stored == sent, fault, &["neighbour-"]);
}

fn only_own(world: &World, answer: &Value, room: &str) {
    for section in ["join", "invite", "knock", "leave"] {
        let other = answer["rooms"][section].as_object().into_iter().flatten().find(|(id, _)| *id != room);
        world.journal.check(other.is_none(), format!("another tenant is told of {other:?}"), &["neighbour-"]);
    }
    let nothing = answer["to_device"]["events"].as_array().is_none_or(Vec::is_empty);
    world.journal.check(nothing, format!("another tenant is told {}", answer["to_device"]), &["neighbour-"]);
}

/// What isn't its own is nobody's: another tenant's room, one of its events, and its tokens.
async fn refused(world: &World, client: &Client, number: u64) {
    let room = &world.rooms[usize::try_from(number).unwrap_or(0) % world.rooms.len()];
    let state = format!("/rooms/{}/state", escape(room));
    let newest = world.promised.lock().await.last().map(|sent| sent.event_id.clone());
    let event = newest.map(|event_id| format!("/rooms/{}/event/{}", escape(room), escape(&event_id)));
    for path in [Some(state), event].into_iter().flatten() {
        let outcome = world.ask(client, "neighbour-tries", Method::GET, &path, None).await.map(|answer| answer.value);
        let refused = outcome
            .as_ref()
            .is_err_and(|refused| matches!(refused.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND));
        world.journal.check(refused, format!("another tenant's {path} gives {outcome:?}"), &["neighbour-"]);
    }
    let mut stranger = client.clone();
    stranger.token.clone_from(&world.writers[0].token);
    let outcome = world.ask(&stranger, "neighbour-tries", Method::GET, "/account/whoami", None).await;
    let outcome = outcome.map(|answer| answer.value);
    let refused = outcome.as_ref().is_err_and(|refused| refused.status == StatusCode::UNAUTHORIZED);
    world.journal.check(refused, format!("another tenant's token gives {outcome:?}"), &["neighbour-"]);
}
