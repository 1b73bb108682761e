//! Joins and leaves of a user who comes and goes.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    escape,
    load::{
        pages,
        world::{World, text},
    },
};

/// Joins and leaves the first room, and looks after each whether it is so.
pub(super) async fn come_and_go(world: Arc<World>) {
    let (guest, mut random) = (&world.others["guest"], world.random("guest"));
    let room = &world.rooms[0];
    let mut joins = 0;
    for number in 0_u64.. {
        if world.is_done() {
            break;
        }
        let tag = format!("guest-{number}.");
        let (what, inside) = if number % 2 == 0 { ("join", true) } else { ("leave", false) };
        let path = format!("/rooms/{}/{what}", escape(room));
        *world.guest.lock().await = (number, None);
        if let Err(refused) = world.ask(guest, &tag, Method::POST, &path, Some(&json!({}))).await {
            // An earlier try may have been done without being answered: then there is nothing left to leave.
            let done_before = what == "leave" && refused.tries > 1 && refused.status == StatusCode::FORBIDDEN;
            world.journal.check(done_before, format!("a {what} is refused: {refused:?}"), &["guest-"]);
        }
        joins += usize::from(inside);
        *world.guest.lock().await = (number, Some(inside));
        let rooms = world.get(guest, &tag, "/joined_rooms").await;
        let listed = rooms["joined_rooms"].as_array().is_some_and(|rooms| rooms.iter().any(|id| id == room));
        world.journal.check(
            listed == inside,
            format!("after an acknowledged {what}, joined_rooms says {rooms}"),
            &["guest-"],
        );
        world.breathe(&mut random, 60).await;
    }
    check(&world, joins).await;
}

/// The room has each join and each leave once, in turn.
async fn check(world: &World, joins: usize) {
    let (guest, room) = (&world.others["guest"].user_id, &world.rooms[0]);
    let history = pages::whole(world, &world.writers[0], "guest-check", room).await;
    let own = |event: &&Value| text(event, "type") == "m.room.member" && text(event, "state_key") == guest;
    let stored: Vec<&str> = history.iter().filter(own).map(|event| text(&event["content"], "membership")).collect();
    let in_turn =
        stored.iter().enumerate().all(|(at, membership)| *membership == if at % 2 == 0 { "join" } else { "leave" });
    world.journal.check(in_turn, format!("memberships aren't joins and leaves in turn: {stored:?}"), &["guest-"]);
    let stored_joins = stored.len().div_ceil(2);
    world.journal.check(
        stored_joins == joins,
        format!("{stored_joins} joins are stored of {joins} acknowledged ones"),
        &["guest-"],
    );
}
