//! Account data: what was set last is there, and a sync never shows an older value after a newer one. (A value that was set again
//! for want of an answer may be set once more, late: who did something else in the meantime has asked for that.)

use std::{collections::HashMap, sync::Arc};

use http::Method;
use serde_json::{Value, json};

use crate::{
    escape,
    load::world::{World, text},
};

const TYPE: &str = "org.polity.data";

fn path(world: &World, of_room: bool) -> String {
    let user = escape(&world.writers[3].user_id);
    let room = if of_room { format!("/rooms/{}", escape(&world.rooms[0])) } else { String::new() };
    format!("/user/{user}{room}/account_data/{TYPE}")
}

/// Sets numbers, in turn for the user and for a room.
pub(super) async fn set(world: Arc<World>) {
    let (client, mut random) = (&world.writers[3], world.random("account data"));
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let (tag, of_room) = (format!("data-{number}."), number % 2 == 1);
        let path = path(&world, of_room);
        let answered = world.must(client, &tag, Method::PUT, &path, Some(&json!({"n": number}))).await;
        let stored = world.get(client, &tag, &path).await;
        let mut data = world.account_data.lock().await;
        if answered.tries > 1 {
            data.tried.insert(number);
        }
        let fault = format!("account data {number} was acknowledged, {stored} is there");
        let late = stored["n"].as_u64().is_some_and(|there| data.tried.contains(&there));
        world.journal.check(late || stored["n"] == json!(number), fault, &["data-"]);
        data.set.insert(of_room, number);
        drop(data);
        world.breathe(&mut random, 40).await;
    }
}

/// Follows them by sync until everything is quiet.
pub(super) async fn follow(world: Arc<World>) {
    let filter = escape(&json!({"room": {"timeline": {"limit": 1}, "rooms": [&world.rooms[0]]}}).to_string());
    let (client, mut since, mut seen) = (&world.writers[3], String::new(), HashMap::<bool, u64>::new());
    loop {
        let last = world.is_quiet();
        let path = format!("/sync?timeout={}&filter={filter}{since}", if last { 0 } else { 500 });
        let answer = world.get(client, "data-reader", &path).await;
        let places = [&answer["account_data"], &answer["rooms"]["join"][&world.rooms[0]]["account_data"]];
        for (of_room, place) in [false, true].into_iter().zip(places) {
            for number in numbers(place) {
                let before = seen.insert(of_room, number);
                let fault = format!("a sync shows account data {number} after {before:?}");
                let late = world.account_data.lock().await.tried.contains(&number);
                world.journal.check(late || before.is_none_or(|before| before <= number), fault, &["data-"]);
            }
        }
        since = format!("&since={}", text(&answer, "next_batch"));
        if last {
            break;
        }
    }
    let data = world.account_data.lock().await;
    let shown = |(of_room, number)| {
        let last = seen.get(of_room);
        last == Some(number) || last.is_some_and(|last| data.tried.contains(last))
    };
    world.journal.check(
        seen.len() == data.set.len() && data.set.iter().all(shown),
        format!("account data was set to {:?}, the syncs showed {seen:?}", data.set),
        &["data-"],
    );
}

fn numbers(place: &Value) -> impl Iterator<Item = u64> {
    let events = place["events"].as_array().into_iter().flatten();
    events.filter(|event| text(event, "type") == TYPE).filter_map(|event| event["content"]["n"].as_u64())
}
