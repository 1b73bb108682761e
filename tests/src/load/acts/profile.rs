//! Profiles: in the end all of a user's rooms show what the user's profile says, however it was changed while a room was given the one before.

use std::{sync::Arc, time::Duration};

use http::Method;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{escape, load::world::World};

/// What is owed to rooms is done within this time, also where a process must be found dead first.
const SHOWN: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOKS: Duration = Duration::from_millis(500);

/// Changes a name again and again, and looks at the rooms when nobody changes it any more.
pub(super) async fn change(world: Arc<World>) {
    let (client, mut random) = (&world.writers[3], world.random("profile"));
    let path = format!("/profile/{}/displayname", escape(&client.user_id));
    let (mut number, mut surely) = (0_u64, true);
    while !world.is_done() {
        let name = format!("name {number}");
        let tag = format!("profile-{number}.");
        let answered = world.must(client, &tag, Method::PUT, &path, Some(&json!({"displayname": name}))).await;
        // Asked again, it may be done once more, late.
        surely &= answered.tries == 1;
        number += 1;
        // Often at once, while the rooms are given the one before.
        if random.random_range(0..3) == 0 {
            world.breathe(&mut random, 60).await;
        }
    }
    let (Some(last), began) = (number.checked_sub(1), Instant::now()) else { return };
    loop {
        let profile = world.get(client, "profile-check", &path).await["displayname"].clone();
        let fault = format!("name {last} was acknowledged, the profile says {profile}");
        world.journal.check(!surely || profile == json!(format!("name {last}")), fault, &["profile-"]);
        let shown = shown(&world).await;
        if shown.iter().all(|name| *name == profile) {
            return;
        }
        let fault = format!("the profile says {profile}, and after {SHOWN:?} the rooms show {shown:?}");
        world.journal.check(began.elapsed() < SHOWN, fault, &["profile-"]);
        tokio::time::sleep(LOOKS).await;
    }
}

/// The name in each room.
async fn shown(world: &World) -> Vec<Value> {
    let (client, mut shown) = (&world.writers[3], Vec::new());
    for room in &world.rooms {
        let path = format!("/rooms/{}/state/m.room.member/{}", escape(room), escape(&client.user_id));
        shown.push(world.get(client, "profile-check", &path).await["displayname"].clone());
    }
    shown
}
