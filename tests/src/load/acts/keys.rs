//! One-time keys: each is given to one claimer at most.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use http::Method;
use rand::RngExt as _;
use serde_json::{Map, Value, json};

use crate::load::world::{Answered, World};

const ALGORITHM: &str = "signed_curve25519";
/// Keys of one upload.
const BATCH: u64 = 4;

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
    while !world.is_done() {
        upload(&world, &mut keys).await;
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

/// A client that has no answer uploads the same keys again.
async fn upload(world: &World, keys: &mut Keys) {
    let tag = format!("keys-upload-{}.", keys.uploaded);
    let names = keys.uploaded..keys.uploaded + BATCH;
    let batch: Map<String, Value> =
        names.map(|n| (format!("{ALGORITHM}:k{n}"), json!({"key": format!("key{n}")}))).collect();
    let body = json!({"one_time_keys": batch});
    world.must(&world.others["owner"], &tag, Method::POST, "/keys/upload", Some(&body)).await;
    keys.uploaded += BATCH;
}

/// Claims some at once; how many were given.
async fn claim(world: &World, keys: &mut Keys, at_once: usize) -> usize {
    let (owner, claimer) = (&world.others["owner"], &world.others["claimer"]);
    let body = json!({"one_time_keys": {&owner.user_id: {&owner.device_id: ALGORITHM}}});
    let claims = (0..at_once).map(|_| world.must(claimer, "keys-claim", Method::POST, "/keys/claim", Some(&body)));
    let answers = join_all(claims).await;
    answers.iter().filter(|answered| keys.take(world, answered)).count()
}

impl Keys {
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
