//! Follows the guest by sync: of each stretch in the room all events once, in order, up to the leave that ends it.

use std::sync::Arc;

use serde_json::json;

use crate::{
    escape,
    load::{
        pages,
        told::{ids, told_twice},
        world::{World, text},
    },
};

/// Follows until everything is quiet.
pub(super) async fn follow(world: Arc<World>) {
    let (guest, room) = (&world.others["guest"], &world.rooms[0]);
    let filter = json!({"room": {"rooms": [room], "timeline": {"limit": 1000}}}).to_string();
    let (mut since, mut stretch, mut inside, mut last_told) = (String::new(), Vec::new(), false, None);
    loop {
        let last = world.is_quiet();
        let wait_ms = if last { 0 } else { 1000 };
        let due = *world.guest.lock().await;
        let path = format!("/sync?timeout={wait_ms}&filter={}{since}", escape(&filter));
        let answer = world.get(guest, "guest-reader", &path).await;
        let (joined, left) = (&answer["rooms"]["join"][room], &answer["rooms"]["leave"][room]);
        for (section, enters) in [(joined, true), (left, false)].into_iter().filter(|(section, _)| section.is_object())
        {
            let timeline = &section["timeline"];
            world.journal.note("guest-reader", format!("told {} ({enters})", ids(timeline).join(" ")));
            if timeline["limited"] == json!(true) {
                // Who comes back is told what it was told before, or has a gap that history fills.
                let from = text(timeline, "prev_batch");
                let missed = match last_told.as_ref().filter(|last| !ids(timeline).contains(last)) {
                    Some(last) => pages::gap(&world, guest, "guest-gap", room, (from, last), &json!({})).await,
                    None => {
                        end(&world, &mut stretch).await;
                        pages::before(&world, guest, "guest-gap", room, from).await
                    }
                };
                stretch.extend(missed.iter().map(|event| text(event, "event_id").to_owned()));
            }
            let twice = told_twice(section, false);
            let fault = format!("the guest is told more than one event of {twice:?} in {room}");
            world.journal.check(twice.is_none(), fault, &["guest-"]);
            let mut told = world.guest_told.lock().await;
            if enters {
                told.take(section, false, last_told.as_deref());
            } else {
                told.leave();
            }
            drop(told);
            stretch.extend(ids(timeline));
            last_told = ids(timeline).pop().or(last_told);
            if !enters {
                let fault = format!("the guest is told of the leave of {room}, and never was of the join");
                world.journal.check(inside, fault, &["guest-"]);
                let last = timeline["events"].as_array().and_then(|events| events.last());
                let own = last.is_some_and(|last| {
                    last["state_key"] == json!(guest.user_id) && last["content"]["membership"] != json!("join")
                });
                let fault = format!("what the guest is told of {room} ends with {last:?}, and not with its leave");
                world.journal.check(own, fault, &["guest-"]);
            }
            inside = enters;
        }
        // Whatever was acknowledged before a sync began it has told, or one before it.
        if let (_, Some(is_in)) = due
            && *world.guest.lock().await == due
        {
            let fault =
                format!("the guest was told that it is in {room}: {is_in}, and a sync that began later says {inside}");
            world.journal.check(is_in == inside, fault, &["guest-"]);
        }
        since = format!("&since={}", text(&answer, "next_batch"));
        if last {
            break;
        }
    }
    end(&world, &mut stretch).await;
    let rooms = world.get(guest, "guest-reader", "/joined_rooms").await;
    let is_in = rooms["joined_rooms"].as_array().is_some_and(|rooms| rooms.iter().any(|id| id == room));
    world.journal.check(is_in == inside, format!("the syncs say that the guest is in {room}: {inside}"), &["guest-"]);
}

async fn end(world: &World, stretch: &mut Vec<String>) {
    if !stretch.is_empty() {
        world.stretches.lock().await.push(std::mem::take(stretch));
    }
}
