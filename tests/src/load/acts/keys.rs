//! One-time keys: each is given to one claimer at most.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use http::Method;
use rand::RngExt as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    escape,
    load::world::{Answered, World, text},
};

const ALGORITHM: &str = "signed_curve25519";
/// Keys of one upload.
const BATCH: u64 = 4;

/// What is owed to a tenant is done within this time, also where a process must be found dead first; and between two looks.
const TOLD: Duration = Duration::from_secs(120);
const LOOKS: Duration = Duration::from_millis(500);

/// What became of the keys.
#[derive(Default)]
struct Keys {
    uploaded: u64,
    claimed: HashSet<String>,
    /// Claims without an answer: each may have taken a key.
    lost: usize,
}

/// The owner uploads some, the claimer claims them, in turn.
pub(super) async fn upload_and_claim(world: Arc<World>) {
    let (mut random, mut keys) = (world.random("keys"), Keys::default());
    let followed = Followed::begin(&world).await;
    let ((), first) = join(upload(&world, &mut keys, true), claim_once_found(&world)).await;
    keys.take_first(&world, &first);
    followed.ends(&world).await;
    while !world.is_done() {
        upload(&world, &mut keys, false).await;
        for _ in 0..BATCH / 2 {
            let at_once = random.random_range(1..=3);
            claim(&world, &mut keys, at_once).await;
            world.breathe(&mut random, 40).await;
        }
    }
    while claim(&world, &mut keys, 1).await > 0 {}
    let uploaded = usize::try_from(keys.uploaded).expect("few keys");
    let missing = uploaded - keys.claimed.len();
    let fault = format!("{missing} of {uploaded} keys are gone, but only {} claims had no answer", keys.lost);
    world.journal.check(missing <= keys.lost, fault, &["keys-"]);
}

/// A client that has no answer uploads the same keys again. The device's own keys come with the first ones.
async fn upload(world: &World, keys: &mut Keys, first: bool) {
    let tag = format!("keys-upload-{}.", keys.uploaded);
    let names = keys.uploaded..keys.uploaded + BATCH;
    let batch: Map<String, Value> =
        names.map(|n| (format!("{ALGORITHM}:k{n}"), json!({"key": format!("key{n}")}))).collect();
    let owner = &world.others["owner"];
    let mut body = json!({"one_time_keys": batch});
    if first {
        body["device_keys"] = json!({
            "user_id": owner.user_id, "device_id": owner.device_id, "algorithms": [], "keys": {}, "signatures": {},
        });
    }
    let answered = world.must(owner, &tag, Method::POST, "/keys/upload", Some(&body)).await;
    keys.uploaded += BATCH;
    if first {
        // Somebody claims meanwhile.
        return;
    }
    let told = answered.value["one_time_key_counts"][ALGORITHM].as_u64();
    let most = keys.uploaded - u64::try_from(keys.claimed.len()).expect("few keys");
    let least = most.saturating_sub(u64::try_from(keys.lost).expect("few claims"));
    let right = told.is_some_and(|told| (least..=most).contains(&told));
    let fault = format!("{told:?} keys are said to be left of {most}, and {} claims had no answer", keys.lost);
    world.journal.check(right, fault, &["keys-"]);
}

/// The owner's device is new to who shares an encrypted room with it: a sync says so.
struct Followed {
    since: String,
}

impl Followed {
    async fn begin(world: &World) -> Self {
        let (owner, claimer) = (&world.others["owner"], &world.others["claimer"]);
        let encryption = json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
        let body = json!({"preset": "public_chat", "initial_state": [encryption]});
        let made = world.must(owner, "keys-room", Method::POST, "/createRoom", Some(&body)).await.value;
        let path = format!("/rooms/{}/join", escape(text(&made, "room_id")));
        world.must(claimer, "keys-room", Method::POST, &path, Some(&json!({}))).await;
        let answer = world.get(claimer, "keys-lists", "/sync?timeout=0").await;
        Self { since: text(&answer, "next_batch").to_owned() }
    }

    /// Once the device is there. (A tenant that wasn't told at once is told by whoever finds that it is owed.)
    async fn ends(self, world: &World) {
        let (owner, claimer, began) = (&world.others["owner"], &world.others["claimer"], Instant::now());
        loop {
            let path = format!("/sync?timeout=0&since={}", self.since);
            let answer = world.get(claimer, "keys-lists", &path).await;
            let changed = answer["device_lists"]["changed"].as_array().into_iter().flatten();
            if changed.into_iter().any(|user| *user == json!(owner.user_id)) {
                return;
            }
            let fault = format!("a device came, and after {TOLD:?} a sync tells {}", answer["device_lists"]);
            world.journal.check(began.elapsed() < TOLD, fault, &["keys-"]);
            tokio::time::sleep(LOOKS).await;
        }
    }
}

/// Claims a key as soon as the owner's device is found: who has something for it waits for nothing else.
async fn claim_once_found(world: &World) -> Answered {
    let (owner, claimer) = (&world.others["owner"], &world.others["claimer"]);
    let (mut random, body) = (world.random("keys-found"), json!({"device_keys": {&owner.user_id: []}}));
    loop {
        let found = world.must(claimer, "keys-query", Method::POST, "/keys/query", Some(&body)).await.value;
        if found["device_keys"][&owner.user_id].get(&owner.device_id).is_some() {
            return claim_one(world).await;
        }
        world.breathe(&mut random, 10).await;
    }
}

async fn claim_one(world: &World) -> Answered {
    let owner = &world.others["owner"];
    let body = json!({"one_time_keys": {&owner.user_id: {&owner.device_id: ALGORITHM}}});
    world.must(&world.others["claimer"], "keys-claim", Method::POST, "/keys/claim", Some(&body)).await
}

/// Claims some at once; how many were given.
async fn claim(world: &World, keys: &mut Keys, at_once: usize) -> usize {
    let answers = join_all((0..at_once).map(|_| claim_one(world))).await;
    answers.iter().filter(|answered| keys.take(world, answered)).count()
}

impl Keys {
    /// Takes what the first claim gave, which came when the device had been found.
    fn take_first(&mut self, world: &World, answered: &Answered) {
        // Each claim without an answer may have taken one.
        let lost = u64::try_from(answered.tries - 1).expect("few tries");
        let fits = self.take(world, answered) || lost >= BATCH;
        world.journal.check(fits, "a device was found, and there was no key of it to claim", &["keys-"]);
    }

    /// Takes what a claim gave; whether there was a key.
    fn take(&mut self, world: &World, answered: &Answered) -> bool {
        let owner = &world.others["owner"];
        self.lost += answered.tries - 1;
        let given = &answered.value["one_time_keys"][&owner.user_id][&owner.device_id];
        let Some((id, key)) = given.as_object().and_then(|keys| keys.iter().next()) else { return false };
        let number = id.rsplit_once(":k").and_then(|(_, number)| number.parse::<u64>().ok());
        let whole = number.is_some_and(|number| number < self.uploaded && key["key"] == json!(format!("key{number}")));
        world.journal.check(whole, format!("a claim gave what was never uploaded: {id} {key}"), &["keys-"]);
        world.journal.check(self.claimed.insert(id.clone()), format!("the key {id} was given twice"), &["keys-"]);
        true
    }
}
