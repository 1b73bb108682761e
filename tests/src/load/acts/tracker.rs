//! Follows somebody's devices as the specification says, and has no old ones for that: what a sync tells as changed is looked up, what it
//! tells as left is dropped.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::{sync::Arc, time::Duration};

use http::Method;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    Client, escape,
    load::world::{Devices, World, text},
};

/// What is owed to a tenant is told within this time, also where a process must be found dead first; and between two looks.
const TOLD: Duration = Duration::from_secs(120);
const LOOKS: Duration = Duration::from_millis(500);

/// What was told from a token on.
#[derive(Debug)]
struct Told {
    since: String,
    changed: bool,
    left: bool,
}

/// One device's client.
struct Tracker<'a> {
    world: &'a World,
    client: Client,
    random: StdRng,
    since: String,
    /// By id, as it was looked up last; nothing while no encrypted room is shared.
    devices: Option<Map<String, Value>>,
}

/// Follows until everything is quiet.
pub(super) async fn follow(world: Arc<World>) {
    let mut random = world.random("tracker");
    let (since, shares) = loop {
        let devices = world.devices.lock().await.clone();
        if let Some(since) = devices.since {
            break (since, devices.shared.1 == Some(true));
        }
        world.breathe(&mut random, 20).await;
        if world.is_quiet() {
            return;
        }
    };
    let client = world.others["watcher"].clone();
    let mut tracker = Tracker { world: &world, client, random, since, devices: None };
    if shares {
        tracker.look_up().await;
    }
    while !world.is_quiet() {
        let due = world.devices.lock().await.clone();
        let wait_ms = *[0, 500].get(tracker.random.random_range(0..2)).unwrap_or(&0);
        let told = tracker.sync(wait_ms).await;
        tracker.is_up_to_date(&due).await;
        if tracker.random.random_range(0..4) == 0 {
            tracker.asks_for_changes(&told).await;
        }
        if tracker.random.random_range(0..4) == 0 {
            tracker.client = tracker.client.afresh();
            world.breathe(&mut tracker.random, 200).await;
        }
    }
    tracker.ends().await;
}

impl Tracker<'_> {
    async fn sync(&mut self, wait_ms: u64) -> Told {
        let filter = escape(&json!({"room": {"timeline": {"limit": 1}}}).to_string());
        let path = format!("/sync?timeout={wait_ms}&filter={filter}&since={}", self.since);
        let answer = self.world.get(&self.client, "tracker", &path).await;
        let since = std::mem::replace(&mut self.since, text(&answer, "next_batch").to_owned());
        let told = self.told(since, &answer["device_lists"]);
        if told.left {
            self.world.journal.note("tracker", "told that nothing is shared");
            self.devices = None;
        }
        if told.changed {
            self.look_up().await;
        }
        told
    }

    fn told(&self, since: String, lists: &Value) -> Told {
        Told { since, changed: self.names_watched(&lists["changed"]), left: self.names_watched(&lists["left"]) }
    }

    fn names_watched(&self, users: &Value) -> bool {
        let watched = &self.world.others["watched"].user_id;
        users.as_array().is_some_and(|users| users.iter().any(|user| user == watched))
    }

    async fn look_up(&mut self) {
        let devices = self.there().await;
        self.world.journal.note("tracker", format!("knows {}", Value::Object(devices.clone())));
        self.devices = Some(devices);
    }

    async fn there(&self) -> Map<String, Value> {
        let watched = &self.world.others["watched"].user_id;
        let body = json!({"device_keys": {watched: []}});
        let found = self.world.must(&self.client, "tracker", Method::POST, "/keys/query", Some(&body)).await.value;
        found["device_keys"][watched].as_object().cloned().unwrap_or_default()
    }

    /// What was acknowledged before a sync began it has told, or one before it.
    async fn is_up_to_date(&self, due: &Devices) {
        let now = self.world.devices.lock().await.clone();
        let (number, Some(shares)) = due.shared else { return };
        if now.shared != (number, Some(shares)) {
            return;
        }
        let fault = format!("an encrypted room is shared: {shares}, and who follows by sync has {:?}", self.devices);
        self.world.journal.check(self.devices.is_some() == shares, fault, &["devices-", "tracker"]);
        let Some(devices) = &self.devices else { return };
        let first = devices.get(&self.world.others["watched"].device_id);
        let has = first.map(|first| numbers(first).max().unwrap_or(0));
        let new = due.number.is_none_or(|due| now.number.is_none() || has >= Some(due) || due == 0);
        let fault = format!("the number {:?} was acknowledged, and who follows by sync has {has:?}", due.number);
        self.world.journal.check(new, fault, &["devices-", "tracker"]);
        let second = due.second.as_ref().filter(|second| now.second.as_ref() == Some(second));
        let there = second.is_none_or(|second| devices.contains_key(second));
        let fault = format!("{second:?} was acknowledged, and who follows by sync has {devices:?}");
        self.world.journal.check(there, fault, &["devices-", "tracker"]);
        let gone = devices.keys().find(|device| due.gone.contains(*device));
        let fault = format!("{gone:?} was logged out, and who follows by sync has it");
        self.world.journal.check(gone.is_none(), fault, &["devices-", "tracker"]);
    }

    /// Asked for once more, and by itself, what a sync told is told again, as long as it is so.
    async fn asks_for_changes(&self, told: &Told) {
        let path = format!("/keys/changes?from={}&to={}", told.since, self.since);
        let before = self.world.devices.lock().await.shared;
        let lists = self.world.get(&self.client, "tracker", &path).await;
        if self.world.devices.lock().await.shared != before {
            return;
        }
        let again = self.told(told.since.clone(), &lists);
        let right = match before.1 {
            Some(true) => again.changed || !told.changed,
            Some(false) => again.left || !told.left,
            None => true,
        };
        let fault = format!("a sync told {told:?}, and then was told {again:?}");
        self.world.journal.check(right, fault, &["devices-", "tracker"]);
    }

    /// Once nobody changes anything any more: in the end it has what is there. (A tenant that wasn't told at once is told by whoever finds
    /// that it is owed.)
    async fn ends(mut self) {
        let began = Instant::now();
        loop {
            self.sync(0).await;
            let there = self.there().await;
            let due = self.shares().await.then_some(&there);
            if self.devices.as_ref() == due {
                return;
            }
            let fault = format!("after {TOLD:?} who follows by sync has {:?}, and there is {due:?}", self.devices);
            self.world.journal.check(began.elapsed() < TOLD, fault, &["devices-", "tracker"]);
            tokio::time::sleep(LOOKS).await;
        }
    }

    /// Whether both are in an encrypted room.
    async fn shares(&self) -> bool {
        let mut rooms = Vec::new();
        for who in ["watched", "watcher"] {
            let joined = self.world.get(&self.world.others[who], "tracker", "/joined_rooms").await;
            let joined = joined["joined_rooms"].as_array().into_iter().flatten();
            rooms.push(joined.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
        }
        let Some(shared) = rooms[0].iter().find(|room| rooms[1].contains(*room)) else { return false };
        let path = format!("/rooms/{}/state", escape(shared));
        let state = self.world.get(&self.client, "tracker", &path).await;
        state.as_array().is_some_and(|state| state.iter().any(|event| text(event, "type") == "m.room.encryption"))
    }
}

/// The numbers that a device shows.
fn numbers(device: &Value) -> impl Iterator<Item = u64> {
    let shown = [&device["algorithms"][0], &device["unsigned"]["device_display_name"]];
    shown.into_iter().filter_map(|shown| shown.as_str()?.strip_prefix('v')?.parse().ok())
}
