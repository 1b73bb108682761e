//! Profiles: in the end all of a user's rooms show what the user's profile says, however it was changed while a room was given the one before,
//! or was joined.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use http::Method;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    escape,
    load::world::{World, text},
};

/// What is owed to rooms is done within this time, also where a process must be found dead first.
const SHOWN: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOKS: Duration = Duration::from_millis(500);

/// A user with a name, and a room of one's own, to leave and to join.
struct Named<'a> {
    world: &'a World,
    profile: String,
    room: String,
    /// The names that were acknowledged, and whether the profile surely has the last of them: what is asked for again may be done once
    /// more, late.
    names: u64,
    surely: bool,
}

/// Changes a name again and again, and looks at the rooms when nobody changes it any more.
pub(super) async fn change(world: Arc<World>) {
    let (client, mut random) = (&world.writers[3], world.random("profile"));
    let made = json!({"preset": "public_chat"});
    let made = world.must(client, "profile-room", Method::POST, "/createRoom", Some(&made)).await.value;
    let (profile, room) =
        (format!("/profile/{}/displayname", escape(&client.user_id)), text(&made, "room_id").to_owned());
    let mut named = Named { world: &world, profile, room, names: 0, surely: true };
    // Some end long before the load does: then nothing but the record says what is owed.
    let most = if random.random_range(0..2) == 0 { random.random_range(1..8) } else { u64::MAX };
    while !world.is_done() && named.names < most {
        named.rename(&mut random).await;
        // Often at once, while the rooms are given the one before.
        if random.random_range(0..3) == 0 {
            world.breathe(&mut random, 60).await;
        }
    }
    world.done().await;
    named.check().await;
}

impl Named<'_> {
    /// Takes another name, and perhaps joins a room meanwhile.
    async fn rename(&mut self, random: &mut StdRng) {
        let (world, client) = (self.world, &self.world.writers[3]);
        let (tag, name) = (format!("profile-{}.", self.names), json!({"displayname": format!("name {}", self.names)}));
        let rename = world.must(client, &tag, Method::PUT, &self.profile, Some(&name));
        let answered = if random.random_range(0..3) == 0 {
            self.moves("leave").await;
            // Sometimes a moment before.
            let late = Duration::from_millis(random.random_range(0..3) * random.random_range(0..20));
            let late = async {
                tokio::time::sleep(late).await;
                rename.await
            };
            join(late, self.moves("join")).await.0
        } else {
            rename.await
        };
        self.surely &= answered.tries == 1;
        self.names += 1;
    }

    async fn moves(&self, how: &str) {
        let (world, path) = (self.world, format!("/rooms/{}/{how}", escape(&self.room)));
        let answer = world.ask(&world.writers[3], "profile-room", Method::POST, &path, Some(&json!({}))).await;
        // A try that wasn't answered may have been carried out: nobody leaves a room twice.
        if let Err(refused) = answer {
            world.journal.check(how == "leave", format!("a {how} is refused: {refused:?}"), &["profile-"]);
        }
    }

    async fn check(&self) {
        let (world, client, began) = (self.world, &self.world.writers[3], Instant::now());
        let Some(last) = self.names.checked_sub(1) else { return };
        loop {
            let profile = world.get(client, "profile-check", &self.profile).await["displayname"].clone();
            let fault = format!("name {last} was acknowledged, the profile says {profile}");
            world.journal.check(!self.surely || profile == json!(format!("name {last}")), fault, &["profile-"]);
            let shown = self.shown().await;
            if shown.iter().all(|name| *name == profile) {
                return;
            }
            let fault = format!("the profile says {profile}, and after {SHOWN:?} the rooms show {shown:?}");
            world.journal.check(began.elapsed() < SHOWN, fault, &["profile-"]);
            tokio::time::sleep(LOOKS).await;
        }
    }

    /// The name in each room that the user is in.
    async fn shown(&self) -> Vec<Value> {
        let (world, client, mut shown) = (self.world, &self.world.writers[3], Vec::new());
        for room in world.rooms.iter().chain([&self.room]) {
            let path = format!("/rooms/{}/state/m.room.member/{}", escape(room), escape(&client.user_id));
            let member = world.get(client, "profile-check", &path).await;
            // A leave that wasn't answered may have come after the join that followed it.
            if text(&member, "membership") == "join" {
                shown.push(member["displayname"].clone());
            }
        }
        shown
    }
}
