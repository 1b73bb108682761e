//! Devices that change, come and go, of a user who shares an encrypted room with another one, or doesn't for a while.

use std::sync::Arc;

use http::{Method, StatusCode};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    Client, escape,
    load::world::{Answered, PASSWORD, Refused, World, text},
};

const NAME: &str = "watched";

/// Both users, and what they share.
struct Two<'a> {
    world: &'a World,
    room: String,
    encrypted: bool,
    /// Who is out of the room.
    out: Option<&'static str>,
    /// Whether no move can be carried out once more, late.
    moves_surely: bool,
    second: Option<Client>,
}

/// Changes something, again and again.
pub(super) async fn change(world: Arc<World>) {
    let mut random = world.random("devices");
    let mut two = Two::begin(&world, random.random_range(0..2) == 0).await;
    for number in 1_u64.. {
        if world.is_done() {
            break;
        }
        let tag = format!("devices-{number}.");
        match random.random_range(0..8) {
            0..=2 => two.renew(&tag, number).await,
            3 => two.rename(&tag, number).await,
            4 | 5 => two.second_comes_or_goes(&tag).await,
            _ => two.shares_or_not(&tag, &mut random).await,
        }
        // Often the next one comes before anybody has looked.
        if random.random_range(0..3) > 0 {
            world.breathe(&mut random, 80).await;
        }
    }
}

/// The device keys that a device uploads, with this number.
fn keys(client: &Client, number: u64) -> Value {
    json!({"device_keys": {
        "user_id": client.user_id, "device_id": client.device_id, "algorithms": [format!("v{number}")],
        "keys": {}, "signatures": {},
    }})
}

impl<'a> Two<'a> {
    async fn begin(world: &'a World, encrypted: bool) -> Self {
        let (watched, watcher) = (&world.others[NAME], &world.others["watcher"]);
        let encryption = json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
        let initial = if encrypted { vec![encryption] } else { Vec::new() };
        let body = json!({"preset": "public_chat", "initial_state": initial});
        let made = world.must(watched, "devices-room", Method::POST, "/createRoom", Some(&body)).await.value;
        let room = text(&made, "room_id").to_owned();
        let path = format!("/rooms/{}/join", escape(&room));
        world.must(watcher, "devices-room", Method::POST, &path, Some(&json!({}))).await;
        let answer = world.get(watcher, "tracker", "/sync?timeout=0").await;
        let mut devices = world.devices.lock().await;
        devices.since = Some(text(&answer, "next_batch").to_owned());
        devices.number = Some(0);
        devices.shared = (0, Some(encrypted));
        drop(devices);
        Self { world, room, encrypted, out: None, moves_surely: true, second: None }
    }

    fn watched(&self) -> &'a Client {
        &self.world.others[NAME]
    }

    /// The first device has other keys.
    async fn renew(&self, tag: &str, number: u64) {
        let body = keys(self.watched(), number);
        let answered = self.world.must(self.watched(), tag, Method::POST, "/keys/upload", Some(&body)).await;
        self.numbered(number, &answered).await;
    }

    /// The first device has another name.
    async fn rename(&self, tag: &str, number: u64) {
        let path = format!("/devices/{}", escape(&self.watched().device_id));
        let body = json!({"display_name": format!("v{number}")});
        let answered = self.world.must(self.watched(), tag, Method::PUT, &path, Some(&body)).await;
        // Before it has keys nobody sees its name.
        if self.world.devices.lock().await.number > Some(0) {
            self.numbered(number, &answered).await;
        }
    }

    /// Asked for again, it may be done once more, late: then an older number comes back.
    async fn numbered(&self, number: u64, answered: &Answered) {
        let mut devices = self.world.devices.lock().await;
        devices.number = devices.number.filter(|_| answered.tries == 1).map(|_| number);
    }

    async fn second_comes_or_goes(&mut self, tag: &str) {
        let world = self.world;
        let Some(second) = self.second.take() else {
            let who = json!({"type": "m.id.user", "user": NAME});
            let body = json!({"type": "m.login.password", "identifier": who, "password": PASSWORD});
            let mut second = world.stranger.stranger();
            let given = world.must(&second, tag, Method::POST, "/login", Some(&body)).await.value;
            let field = |name| text(&given, name).to_owned();
            (second.token, second.user_id, second.device_id) =
                (Some(field("access_token")), field("user_id"), field("device_id"));
            let answered = world.must(&second, tag, Method::POST, "/keys/upload", Some(&keys(&second, 0))).await;
            if answered.tries == 1 {
                world.devices.lock().await.second = Some(second.device_id.clone());
            }
            self.second = Some(second);
            return;
        };
        world.devices.lock().await.second = None;
        let out = world.ask(&second, tag, Method::POST, "/logout", Some(&json!({}))).await;
        match out {
            Ok(Answered { tries: 1, .. }) => drop(world.devices.lock().await.gone.insert(second.device_id)),
            Ok(_) => {}
            // Asked again for want of an answer, it finds that it is out. Who follows is told by whoever finds that this is owed.
            Err(refused) => {
                let right = refused.tries > 1 && refused.status == StatusCode::UNAUTHORIZED;
                world.journal.check(right, format!("a logout gives {refused:?}"), &[tag]);
            }
        }
    }

    /// One of them leaves or comes back; or the room becomes an encrypted one.
    async fn shares_or_not(&mut self, tag: &str, random: &mut StdRng) {
        let number = self.begin_to_change().await;
        let (world, room) = (self.world, escape(&self.room));
        if !self.encrypted && self.out.is_none() && random.random_range(0..2) == 0 {
            let path = format!("/rooms/{room}/state/m.room.encryption");
            let body = json!({"algorithm": "m.megolm.v1.aes-sha2"});
            world.must(self.watched(), tag, Method::PUT, &path, Some(&body)).await;
            self.encrypted = true;
        } else {
            let (who, how) = match self.out.take() {
                Some(who) => (who, "join"),
                None => (if random.random_range(0..2) == 0 { NAME } else { "watcher" }, "leave"),
            };
            let path = format!("/rooms/{room}/{how}");
            let answer = world.ask(&world.others[who], tag, Method::POST, &path, Some(&json!({}))).await;
            self.moved(who, how, answer);
        }
        let shares = self.encrypted && self.out.is_none();
        world.devices.lock().await.shared = (number, self.moves_surely.then_some(shares));
    }

    async fn begin_to_change(&self) -> u64 {
        let mut devices = self.world.devices.lock().await;
        let number = devices.shared.0 + 1;
        devices.shared = (number, None);
        number
    }

    /// A try that was never answered may be done at any later time.
    fn moved(&mut self, who: &'static str, how: &str, answer: Result<Answered, Refused>) {
        if how == "leave" {
            self.out = Some(who);
        }
        let tries = answer.as_ref().map_or_else(|refused| refused.tries, |answered| answered.tries);
        self.moves_surely &= tries == 1;
        if let Err(refused) = answer {
            let done_before = how == "leave" && !self.moves_surely && refused.status == StatusCode::FORBIDDEN;
            self.world.journal.check(done_before, format!("a {how} is refused: {refused:?}"), &["devices-"]);
        }
    }
}
