//! What the guest was told of the room where it comes and goes, against what is stored: all that it may see, each once, and as it was.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    check::Stored,
    pages, synced,
    told::{Look, Moment},
    unread,
    world::{World, text},
};

/// What each event of a room is to its guest.
struct Visits<'a> {
    guest: &'a str,
    /// Whether the guest is in the room after each event.
    inside: Vec<bool>,
    /// The events that the guest may see while it is in the room, by their number among them.
    visible: HashMap<&'a str, usize>,
    /// How many of them there are with each event.
    numbers: Vec<usize>,
    /// Where each stretch of the guest's begins.
    joins: Vec<usize>,
}

/// See the module.
pub(super) async fn as_stored(world: &World, room: &str, (stored, moments): (&Stored, &[Moment])) {
    let visits = Visits::of(&world.others["guest"].user_id, &stored.events);
    for stretch in world.stretches.lock().await.iter() {
        visits.shows(world, room, stretch);
    }
    visits.read(world, room).await;
    let mut counts = (0, Vec::new());
    for look in &world.guest_told.lock().await.looks {
        visits.looked(world, room, (stored, moments), look, &mut counts);
    }
}

impl<'a> Visits<'a> {
    fn of(guest: &'a str, events: &'a [Value]) -> Self {
        let mut visits =
            Self { guest, inside: Vec::new(), visible: HashMap::new(), numbers: Vec::new(), joins: Vec::new() };
        let (mut hides, mut inside) = (false, false);
        for (place, event) in events.iter().enumerate() {
            let state = event["state_key"].as_str().map(|key| (text(event, "type"), key));
            let is_own = state == Some(("m.room.member", guest));
            let is_rule = state == Some(("m.room.history_visibility", ""));
            let before = !hides || inside;
            if is_own {
                let comes = event["content"]["membership"] == json!("join");
                if comes && !inside {
                    visits.joins.push(place);
                }
                inside = comes;
            }
            if is_rule {
                hides = event["content"]["history_visibility"] == json!("joined");
            }
            let after = !hides || inside;
            if is_own || before || (is_rule && after) {
                visits.visible.insert(text(event, "event_id"), visits.visible.len());
            }
            visits.numbers.push(visits.visible.len());
            visits.inside.push(inside);
        }
        visits
    }

    /// A stretch follows the room's order, without what may be seen missing, twice, or hidden.
    fn shows(&self, world: &World, room: &str, stretch: &[String]) {
        for pair in stretch.windows(2) {
            let places = (self.visible.get(&*pair[0]), self.visible.get(&*pair[1]));
            let follows = matches!(places, (Some(before), Some(after)) if before + 1 == *after);
            let fault = format_args!("the guest is told {} after {} in {room}: {places:?}", pair[1], pair[0]);
            world.journal.check(follows, fault, &["guest-", &pair[0], &pair[1]]);
        }
        let hidden = stretch.iter().find(|event_id| !self.visible.contains_key(event_id.as_str()));
        let fault = format_args!("the guest is told {hidden:?} of {room}, which it may not see");
        world.journal.check(hidden.is_none(), fault, &["guest-"]);
    }

    /// All of the history that the guest may see it can read, and nothing else: up to its leave, if it is out.
    async fn read(&self, world: &World, room: &str) {
        let (guest, Some(leave)) = (&world.others["guest"], self.inside.iter().rposition(|inside| *inside)) else {
            return;
        };
        let until = self.numbers.get(leave + 1).or(self.numbers.last()).copied().unwrap_or(0);
        let history = pages::whole(world, guest, "guest-history", room).await;
        let told: Vec<_> = history.iter().map(|event| self.visible.get(text(event, "event_id")).copied()).collect();
        let right = told.iter().copied().eq((0..until).map(Some));
        let fault = format_args!("the guest reads {told:?} of the {until} events of {room} that it may see");
        world.journal.check(right, fault, &["guest-"]);
    }

    /// The guest's view of a moment in the room is right; and who has been out meanwhile is told all of it anew, since it knows nothing of
    /// what changed.
    fn looked(
        &self,
        world: &World,
        room: &str,
        (stored, moments): (&Stored, &[Moment]),
        look: &Look,
        counts: &mut (usize, Vec<u64>),
    ) {
        let Look { last, before, alone, .. } = look;
        let at = stored.places.get(last).copied().filter(|at| self.inside[*at]);
        let Some(at) = at else {
            world.journal.fail(format!("the guest is told as a member of {last}, where it is none"), &["guest-", last])
        };
        let moment = &moments[at];
        // Stretch by stretch, each counted once.
        let since = self.joins.iter().rfind(|join| **join <= at).copied().unwrap_or(0);
        if counts.0 != since || counts.1.is_empty() {
            let end = self.joins.iter().find(|join| **join > at).copied().unwrap_or(stored.events.len());
            *counts = (since, unread::counts(&stored.events[since..end], self.guest, None));
        }
        synced::is_of_its_moment(world, room, ("the guest", "guest-"), look, (moment, counts.1[at - since]));
        let before = before.as_ref().and_then(|before| stored.places.get(before));
        let stayed = before.is_some_and(|before| self.inside[*before..=at].iter().all(|inside| *inside));
        let fault = format_args!("the guest comes back to {room}, and isn't told its whole state by {last}");
        world.journal.check(stayed || *alone == moment.state, fault, &["guest-", last]);
    }
}
