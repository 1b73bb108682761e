//! What readers were told, against what is stored.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    check::Stored,
    reader::Seen,
    told::{Look, Moment, StateKey},
    unread,
    world::{World, text},
};

/// A reader saw the room as it is, and at each moment as it was.
pub(super) fn as_stored(world: &World, room: &str, (stored, moments): (&Stored, &[Moment]), seen: &Seen) {
    timeline(world, room, stored, seen);
    state(world, room, stored, seen);
    receipts(world, room, stored, seen);
    if let Some(speakers) = seen.speakers.get(room) {
        speakers.check(world, room, stored, seen.manner);
    }
    if !seen.manner.texts_only && !seen.manner.lazy {
        looks(world, room, (stored, moments), seen);
    }
}

/// From the first event that a reader saw on: all of its kind, each once, in the room's order.
fn timeline(world: &World, room: &str, stored: &Stored, seen: &Seen) {
    let name = seen.manner.name;
    let shown = |event: &&Value| !seen.manner.texts_only || text(event, "type") == "m.room.message";
    let Some(ids) = seen.events.get(room).filter(|ids| !ids.is_empty()) else {
        let fault = format_args!("{name} saw nothing of {room}");
        return world.journal.check(!stored.events.iter().any(|event| shown(&event)), fault, &[name]);
    };
    let Some(start) = stored.places.get(&ids[0]) else {
        world.journal.fail(format!("{name} saw {} in {room}, which isn't stored", ids[0]), &[name, &ids[0]])
    };
    let due = stored.events[*start..].iter().filter(shown).map(|event| text(event, "event_id"));
    let due: Vec<&str> = due.collect();
    let differs = (0..due.len().max(ids.len())).find(|at| due.get(*at).copied() != ids.get(*at).map(String::as_str));
    let Some(at) = differs else { return };
    let (due_now, saw) = (due.get(at).copied().unwrap_or("the end"), ids.get(at).map_or("the end", String::as_str));
    let known: HashSet<&str> = ids[..at].iter().map(String::as_str).collect();
    let what = if known.contains(saw) { "a repeat" } else { "a gap, or another order" };
    let fault = format_args!("{name} has {what} in {room}: event {at} is {saw} where {due_now} was due");
    world.journal.fail(fault, &[name, saw, due_now]);
}

fn state(world: &World, room: &str, stored: &Stored, seen: &Seen) {
    let name = seen.manner.name;
    let Some(known) = seen.rooms.get(room).map(|told| &told.state) else {
        world.journal.fail(format!("{name} was told no state of {room}"), &[name])
    };
    // Of members that are loaded lazily some are known, and those as they are.
    let needed = |key: &StateKey| !seen.manner.lazy || key.0 != "m.room.member" || known.contains_key(key);
    for (key, event_id) in stored.state.iter().filter(|(key, _)| needed(key)) {
        let fault =
            format_args!("{name} has {:?} as the state {key:?} of {room}, stored is {event_id}", known.get(key));
        world.journal.check(known.get(key) == Some(event_id), fault, &[name, event_id]);
    }
}

/// After each section a reader had the state of that moment, was told how many members there were, and what was unread. (Readers send no
/// receipts.)
fn looks(world: &World, room: &str, (stored, moments): (&Stored, &[Moment]), seen: &Seen) {
    let (name, counts) = (seen.manner.name, unread::counts(&stored.events, &world.writers[1].user_id, None));
    for look in seen.rooms.get(room).into_iter().flat_map(|told| &told.looks) {
        if let Some(at) = stored.places.get(&look.last) {
            is_of_its_moment(world, room, (name, name), look, (&moments[*at], counts[*at]));
        }
    }
}

/// What a client had once it had taken a section is what was: the state, how many members there were, how much was unread. `about`: what names
/// the client in the journal.
pub(super) fn is_of_its_moment(
    world: &World,
    room: &str,
    (who, about): (&str, &str),
    look: &Look,
    (moment, due): (&Moment, u64),
) {
    let Look { last, state, joined, unread, .. } = look;
    let about = [about, last];
    let fault = format_args!("{who} has another state of {room} than there was at {last}");
    world.journal.check(*state == moment.state, fault, &about);
    let fault = format_args!("{who} was told of {joined:?} members of {room} up to {last}, {} were", moment.joined);
    world.journal.check(*joined == Some(moment.joined), fault, &about);
    let fault = format_args!("{who} was told {unread:?} unread up to {last} in {room}, {due} are");
    world.journal.check(*unread == Some(due), fault, &about);
}

/// Who was to be shown a receipt was shown it, or one behind it.
fn receipts(world: &World, room: &str, stored: &Stored, seen: &Seen) {
    for (_, due, shown) in seen.receipts.iter().filter(|(at, ..)| world.rooms[*at] == room) {
        let shown_at = shown.as_ref().and_then(|shown| stored.places.get(shown));
        let right = shown_at.is_some() && shown_at >= stored.places.get(due);
        let fault = format_args!("{} is shown a receipt of {room} at {shown:?}, and not at {due}", seen.manner.name);
        world.journal.check(right, fault, &[seen.manner.name, "receipt"]);
    }
}
