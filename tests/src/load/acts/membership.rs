//! Joins and leaves of a user who comes and goes.

use std::{ops::RangeInclusive, sync::Arc};

use http::{Method, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::{
    escape,
    load::{
        pages,
        world::{World, text},
    },
};

/// Joins and leaves the first room, and looks after each whether it is so. A try that was never answered (or only that it isn't known
/// what became of it) may be done at any later time: nothing names it, as a transaction does.
pub(super) async fn come_and_go(world: Arc<World>) {
    let (guest, mut random) = (&world.others["guest"], world.random("guest"));
    let room = &world.rooms[0];
    let (mut inside, mut joins) = (false, 0);
    // Tries that may be done yet.
    let (mut late_joins, mut late_leaves) = (0, 0);
    for number in 0_u64.. {
        if world.is_done() {
            break;
        }
        let tag = format!("guest-{number}.");
        if random.random_range(0..6) == 0 {
            hide_or_show(&world, &tag, random.random_range(0..2) == 0).await;
        }
        inside = !inside;
        let what = if inside { "join" } else { "leave" };
        let path = format!("/rooms/{}/{what}", escape(room));
        *world.guest.lock().await = (number, None);
        let answer = world.ask(guest, &tag, Method::POST, &path, Some(&json!({}))).await;
        let tries = answer.as_ref().map_or_else(|refused| refused.tries, |answered| answered.tries);
        *(if inside { &mut late_joins } else { &mut late_leaves }) += tries - 1;
        if let Err(refused) = answer {
            // An earlier try may have been done without being answered: then there is nothing left to leave.
            let done_before = what == "leave" && late_leaves > 0 && refused.status == StatusCode::FORBIDDEN;
            world.journal.check(done_before, format!("a {what} is refused: {refused:?}"), &["guest-"]);
        }
        joins += usize::from(inside);
        // Unless another try ends that.
        let stays = if inside { late_leaves } else { late_joins } == 0;
        *world.guest.lock().await = (number, stays.then_some(inside));
        let rooms = world.get(guest, &tag, "/joined_rooms").await;
        let listed = rooms["joined_rooms"].as_array().is_some_and(|rooms| rooms.iter().any(|id| id == room));
        if listed != inside {
            let late = if listed { &mut late_joins } else { &mut late_leaves };
            world.journal.check(
                *late > 0,
                format!("after an acknowledged {what}, joined_rooms says {rooms}"),
                &["guest-"],
            );
            *late -= 1;
            joins += usize::from(listed);
            inside = listed;
        }
        world.breathe(&mut random, 60).await;
    }
    check(&world, joins..=joins + late_joins).await;
}

/// From now on what is said while somebody is out of the room is for nobody else's eyes, or no longer.
async fn hide_or_show(world: &World, tag: &str, hides: bool) {
    let path = format!("/rooms/{}/state/m.room.history_visibility", escape(&world.rooms[0]));
    let body = json!({"history_visibility": if hides { "joined" } else { "shared" }});
    world.must(&world.writers[0], tag, Method::PUT, &path, Some(&body)).await;
}

/// The room has each join and each leave once, in turn.
async fn check(world: &World, joins: RangeInclusive<usize>) {
    let (guest, room) = (&world.others["guest"].user_id, &world.rooms[0]);
    let history = pages::whole(world, &world.writers[0], "guest-check", room).await;
    let own = |event: &&Value| text(event, "type") == "m.room.member" && text(event, "state_key") == guest;
    let stored: Vec<&str> = history.iter().filter(own).map(|event| text(&event["content"], "membership")).collect();
    let in_turn =
        stored.iter().enumerate().all(|(at, membership)| *membership == if at % 2 == 0 { "join" } else { "leave" });
    world.journal.check(in_turn, format!("memberships aren't joins and leaves in turn: {stored:?}"), &["guest-"]);
    let stored_joins = stored.len().div_ceil(2);
    world.journal.check(
        joins.contains(&stored_joins),
        format!("{stored_joins} joins are stored of {joins:?} acknowledged ones"),
        &["guest-"],
    );
}
