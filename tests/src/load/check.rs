//! What is stored against what was promised and what was seen.

use std::collections::{BTreeMap, HashMap};

use http::Method;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{
    pages,
    reader::Seen,
    synced,
    told::{self, StateKey},
    unread, visited,
    world::{COUNT, Kept, Promised, World, text},
};
use crate::escape;

/// Of what was acknowledged to those who don't come back so much is looked for.
const KEPT: usize = 300;
/// Events of a room at which the state is looked at.
const STATES: usize = 2;

/// A stored room.
pub(super) struct Stored {
    pub(super) events: Vec<Value>,
    /// Where each event stands, by its id.
    pub(super) places: HashMap<String, usize>,
    /// Event ids of the state, by type and key.
    pub(super) state: HashMap<StateKey, String>,
}

/// Compares everything, room by room.
pub(super) async fn everything(world: &World, seen: &[Seen]) {
    let promised = world.promised.lock().await;
    for (at, room) in world.rooms.iter().enumerate() {
        let stored = stored(world, room).await;
        let of_room: Vec<&Promised> = promised.iter().filter(|event| event.room == at).collect();
        all_promised(world, room, &stored, &of_room);
        nothing_twice(world, room, &stored, &of_room);
        in_order(world, room, &stored, &of_room);
        last_state(world, room, &stored);
        let moments = told::moments(&stored.events);
        for seen in seen {
            synced::as_stored(world, room, (&stored, &moments), seen);
        }
        state_at_events(world, room, &stored).await;
        receipt(world, at, room, &stored).await;
        unread_after_receipts(world, at, room, &stored).await;
        if at == 0 {
            visited::as_stored(world, room, (&stored, &moments)).await;
        }
    }
    kept(world).await;
}

/// What was acknowledged to who didn't come back for it is there: about so much of it, whatever of it.
async fn kept(world: &World) {
    let (kept, mut random) = (world.kept.lock().await, world.random("kept"));
    for Kept { by, path, tag, shows } in kept.iter() {
        if random.random_range(0..kept.len()) >= KEPT {
            continue;
        }
        let found = world.ask(by, tag, Method::GET, path, None).await.map(|answered| answered.value.to_string());
        let right = found.as_ref().is_ok_and(|answer| answer.contains(shows));
        world.journal.check(right, format_args!("{tag} was acknowledged, and {path} tells {found:?}"), &[tag]);
    }
}

async fn stored(world: &World, room: &str) -> Stored {
    let events = pages::whole(world, &world.writers[0], "check", room).await;
    let mut places = HashMap::new();
    for (at, event) in events.iter().enumerate() {
        let id = text(event, "event_id").to_owned();
        let before = places.insert(id.clone(), at);
        world.journal.check(before.is_none(), format_args!("the event {id} stands twice in {room}"), &[&id]);
    }
    let all = world.get(&world.writers[0], "check", &format!("/rooms/{}/state", escape(room))).await;
    let key = |event: &Value| (text(event, "type").to_owned(), text(event, "state_key").to_owned());
    let all = all.as_array().into_iter().flatten();
    let state = all.map(|event| (key(event), text(event, "event_id").to_owned())).collect();
    Stored { events, places, state }
}

fn all_promised(world: &World, room: &str, stored: &Stored, promised: &[&Promised]) {
    for event in promised {
        let about = [event.tag.as_str(), event.event_id.as_str()];
        let found = stored.places.get(&event.event_id);
        world.journal.check(
            found.is_some(),
            format_args!("{} was acknowledged and isn't in {room}", event.tag),
            &about,
        );
        let Some(redacted) = &event.redacts else { continue };
        let target = stored.places.get(redacted).map(|at| &stored.events[*at]);
        let gone = target.is_some_and(|target| {
            target["content"] == json!({})
                && target["unsigned"]["redacted_because"]["event_id"] == json!(event.event_id)
        });
        world.journal.check(gone, format_args!("{redacted} was redacted and is {target:?}"), &[&event.tag, redacted]);
    }
}

/// What names an event of a writer: the text, or the reason of what isn't one.
fn tag(event: &Value) -> Option<&str> {
    let content = &event["content"];
    content["body"].as_str().or_else(|| content["reason"].as_str())
}

fn nothing_twice(world: &World, room: &str, stored: &Stored, promised: &[&Promised]) {
    let tries: HashMap<&str, &Promised> = promised.iter().map(|event| (event.tag.as_str(), *event)).collect();
    let mut times = HashMap::<&str, usize>::new();
    for event in &stored.events {
        let Some(tag) = tag(event) else { continue };
        *times.entry(tag).or_default() += 1;
        let Some(sent) = tries.get(tag) else {
            world.journal.fail(format!("nobody was promised {tag} in {room}"), &[tag])
        };
        // State has no transaction: each try may have made an event.
        let allowed = if text(event, "type") == COUNT { sent.tries } else { 1 };
        world.journal.check(
            times[tag] <= allowed,
            format_args!("transaction {tag} gave {} events in {room}", times[tag]),
            &[tag],
        );
    }
}

/// A writer's events stand in the order in which they were acknowledged.
fn in_order(world: &World, room: &str, stored: &Stored, promised: &[&Promised]) {
    let mut last = HashMap::<&str, (&Promised, usize)>::new();
    for event in promised {
        let Some(writer) = event.tag.split('-').next() else { continue };
        let Some(place) = stored.places.get(&event.event_id) else { continue };
        if let Some((before, at)) = last.insert(writer, (event, *place)) {
            let fault = format_args!("{} stands before {} in {room}", event.tag, before.tag);
            world.journal.check(at < *place, fault, &[&event.tag, &before.tag]);
        }
    }
}

fn last_state(world: &World, room: &str, stored: &Stored) {
    for (key, event_id) in stored.state.iter().filter(|((kind, _), _)| kind == COUNT) {
        let writer = format!("w{}-", key.1);
        // A try that was never answered may have made one, too, and come last.
        let own = |event: &&Value| text(event, "type") == COUNT && text(event, "state_key") == key.1;
        let newest = stored.events.iter().rfind(own).map(|event| text(event, "event_id"));
        let fault = format_args!("the state {key:?} of {room} is {event_id}, not {newest:?}");
        world.journal.check(newest == Some(event_id.as_str()), fault, &[event_id, &writer]);
    }
}

/// The state at some of the events is that of all events up to them, one after the other.
async fn state_at_events(world: &World, room: &str, stored: &Stored) {
    let mut random = world.random(room);
    for _ in 0..STATES {
        let at = random.random_range(0..stored.events.len());
        let event_id = text(&stored.events[at], "event_id");
        let state = stored.events[..=at].iter().filter_map(|event| {
            let key = (text(event, "type"), event["state_key"].as_str()?);
            Some((key, text(event, "event_id")))
        });
        let replayed: BTreeMap<(&str, &str), &str> = state.collect();
        let path = format!("/rooms/{}/context/{}?limit=0", escape(room), escape(event_id));
        let context = world.get(&world.writers[0], "state-check", &path).await;
        let told = context["state"].as_array().into_iter().flatten();
        let key = |event: &Value| (text(event, "type").to_owned(), text(event, "state_key").to_owned());
        let told: BTreeMap<_, _> = told.map(|event| (key(event), text(event, "event_id").to_owned())).collect();
        let same = told.iter().map(|((kind, key), id)| ((&**kind, &**key), &**id)).eq(replayed.clone());
        world.journal.check(
            same,
            format_args!("the state at {event_id} in {room} is {told:?}, not {replayed:?}"),
            &[event_id],
        );
    }
}

/// What is unread for who sends receipts: whatever came after the one that was acknowledged last.
async fn unread_after_receipts(world: &World, at: usize, room: &str, stored: &Stored) {
    let read = world
        .receipts
        .lock()
        .await
        .get(&at)
        .into_iter()
        .flatten()
        .filter_map(|receipt| stored.places.get(&receipt.event_id).copied())
        .max();
    let client = &world.writers[2];
    let filter = json!({"room": {"rooms": [room], "timeline": {"limit": 1}}});
    let answer = world.get(client, "unread", &format!("/sync?filter={}", escape(&filter.to_string()))).await;
    let told = unread::told(&answer["rooms"]["join"][room]);
    let due = unread::counts(&stored.events, &client.user_id, read).last().copied();
    let fault = format_args!("{} is told {told:?} unread in {room}, {due:?} are", client.user_id);
    world.journal.check(told == due, fault, &["receipt", room]);
}

/// A first sync shows the receipt that was acknowledged last, or one behind it.
async fn receipt(world: &World, at: usize, room: &str, stored: &Stored) {
    let receipts = world.receipts.lock().await;
    let acknowledged = receipts.get(&at).into_iter().flatten().filter(|receipt| !receipt.is_private);
    let acknowledged = acknowledged.map(|receipt| &receipt.event_id);
    let newest = acknowledged.max_by_key(|event_id| stored.places.get(*event_id));
    let Some(newest) = newest else { return };
    let filter = json!({"room": {"rooms": [room], "timeline": {"limit": 1}}});
    let answer =
        world.get(&world.writers[0], "receipt", &format!("/sync?filter={}", escape(&filter.to_string()))).await;
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array();
    let content =
        events.into_iter().flatten().find(|event| text(event, "type") == "m.receipt").map(|event| &event["content"]);
    let user = &world.writers[2].user_id;
    let by_user = |receipts: &Value| receipts["m.read"][user].is_object();
    let shown = content.and_then(Value::as_object).into_iter().flatten().find(|(_, receipts)| by_user(receipts));
    let shown = shown.map(|(event_id, _)| event_id);
    let fault = format_args!("the receipt at {newest} was acknowledged, {shown:?} is shown in {room}");
    world.journal.check(
        shown.is_some_and(|shown| stored.places.get(shown) >= stored.places.get(newest)),
        fault,
        &[newest],
    );
}
