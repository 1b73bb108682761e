//! Sync tokens are exact: a client that applies what it is told ends in the truth, whatever order things happen in, however late the
//! projections are, with answers lost, repeated and doubled. Real rooms and the real engine against a straightforward client.
//!
//! `POLITY_SEEDS=10000 cargo test --release -p polity-tests --test sync` looks further.

#![expect(clippy::unwrap_used, reason = "a test's own parts: what isn't there ends it")]

mod client;
mod counted;
mod devices;
mod late;
mod oracle;
mod purged;
mod reads;
mod sections;
mod tokens;
mod world;

use std::{collections::BTreeMap, time::Duration};

use client::{Client, Truth};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use world::World;

const STEPS: usize = 30;

fn seeds() -> u64 {
    std::env::var("POLITY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

/// One random history.
struct History {
    world: World,
    random: StdRng,
    admin: String,
    users: Vec<String>,
    rooms: Vec<String>,
    /// Of each user and room.
    receipts: BTreeMap<(String, String), Vec<oracle::Receipt>>,
    counter: u32,
}

impl History {
    async fn truth(&self) -> Truth {
        let mut truth = BTreeMap::new();
        for room in &self.rooms {
            truth.insert(room.clone(), self.world.rows(room).await);
        }
        truth
    }

    /// A message with everything that counts can hinge on.
    fn message(&mut self, rows: &[world::TrueRow]) -> Value {
        let random = &mut self.random;
        self.counter += 1;
        let mentions: Vec<_> = self.users.iter().filter(|_| random.random_bool(0.2)).collect();
        let msgtype = if random.random_bool(0.2) { "m.notice" } else { "m.text" };
        let mut content = json!({"msgtype": msgtype, "body": self.counter.to_string(),
            "m.mentions": {"user_ids": mentions, "room": random.random_bool(0.2)}});
        let relation = ["m.thread", "m.replace", "", ""].choose(random).unwrap();
        if let Some(target) =
            rows.iter().filter(|row| oracle::thread_of(&row.event).is_empty()).collect::<Vec<_>>().choose(random)
            && !relation.is_empty()
        {
            content["m.relates_to"] = json!({"rel_type": relation, "event_id": target.event_id});
        }
        content
    }

    /// A user has read up to some row: everything, the main timeline, or a thread.
    async fn read(&mut self) {
        let random = &mut self.random;
        let (room, user) = (self.rooms.choose(random).unwrap().clone(), self.users.choose(random).unwrap().clone());
        let rows = self.world.rows(&room).await;
        let at = random.random_range(0..rows.len());
        let thread = match (random.random_bool(0.5), oracle::thread_of(&rows[at].event)) {
            (true, _) => String::new(),
            (false, thread) if thread.is_empty() => "main".to_owned(),
            (false, thread) => thread,
        };
        let private = random.random_bool(0.3);
        self.world.read(&user, &room, (at + 1, &rows[at].event_id), (private, &thread)).await;
        self.receipts.entry((user, room)).or_default().push((at + 1, thread));
    }

    /// What is told to be unread is what is.
    async fn check_counts(&self, truth: &Truth) {
        let filter = json!({"room": {"timeline": {"limit": 1, "unread_thread_notifications": true}}});
        for user in &self.users {
            let request = self.world.request(user, None, filter.clone(), false);
            let answer = self.world.sync(&request).await;
            for (room, section) in answer["rooms"]["join"].as_object().into_iter().flatten() {
                let receipts = self.receipts.get(&(user.clone(), room.clone())).cloned().unwrap_or_default();
                let counts = oracle::unread(&truth[room], user, &self.admin, &receipts);
                assert_eq!(oracle::told(section), counts, "unread of {user} in {room}");
            }
        }
    }

    /// Something happens in some room.
    async fn act(&mut self) {
        if self.random.random_bool(0.15) {
            return self.read().await;
        }
        let room = self.rooms.choose(&mut self.random).unwrap().clone();
        let text = self.message(&self.world.rows(&room).await);
        let Self { world, random, admin, users, counter, .. } = self;
        let (room, user) = (&room, users.choose(random).unwrap());
        match random.random_range(0..15) {
            0..=2 => world.send(admin, room, ("m.room.message", None), text, None).await,
            3 => world.send(user, room, ("m.room.message", None), text, None).await,
            4 => world.send(admin, room, ("m.room.topic", Some("")), json!({"topic": counter.to_string()}), None).await,
            5 => world.member(user, room, user, "join", Some(counter.to_string())).await,
            6 | 7 => world.member(user, room, user, "join", None).await,
            8 | 9 => world.member(user, room, user, "leave", None).await,
            10 => world.member(admin, room, user, "invite", None).await,
            11 => world.member(admin, room, user, "kick", None).await,
            12 => world.member(admin, room, user, "ban", None).await,
            13 => world.member(admin, room, user, "unban", None).await,
            _ => {
                let rows = world.rows(room).await;
                let messages: Vec<_> = rows.iter().filter(|row| row.event["type"] == "m.room.message").collect();
                if let Some(target) = messages.choose(random) {
                    let redacts = Some(target.event_id.clone());
                    world.send(admin, room, ("m.room.redaction", None), json!({}), redacts).await;
                }
            }
        }
    }

    /// A client asks: the same request perhaps twice at once, and takes one of the answers, or loses both.
    async fn ask(&mut self, client: &mut Client, filter: &Value, state_after: bool) {
        let mut request = self.world.request(&client.user, client.token.clone(), filter.clone(), state_after);
        let answer = match self.random.random_range(0..10) {
            0..=4 => self.world.sync(&request).await,
            5 | 6 => {
                let (one, two) = futures_util::join!(self.world.sync(&request), self.world.sync(&request));
                if self.random.random_bool(0.5) { one } else { two }
            }
            7 => {
                drop(self.world.sync(&request).await);
                return;
            }
            _ => {
                request.timeout = Duration::from_millis(3);
                let engine = std::sync::Arc::clone(&self.world.engine);
                let waits = async move { engine.sync(&request, || ()).await.unwrap() };
                let (answer, ()) = futures_util::join!(waits, self.act());
                serde_json::from_slice(&polity_sync::v3::encode(answer)).unwrap()
            }
        };
        let truth = self.truth().await;
        client.take(&answer, &truth);
    }

    async fn run(&mut self, seed: u64) {
        let limit = self.random.random_range(1..8);
        let filter = json!({"room": {"timeline": {"limit": limit}}});
        let mut clients: Vec<(Client, bool)> = self
            .users
            .iter()
            .map(|user| (Client { user: user.clone(), ..Client::default() }, self.random.random_bool(0.3)))
            .collect();
        self.world.store.be_late(self.random.random_range(0..60), seed);
        for _ in 0..STEPS {
            if self.random.random_bool(0.6) {
                self.act().await;
            } else {
                let at = self.random.random_range(0..clients.len());
                let (mut client, state_after) = clients[at].clone();
                Box::pin(self.ask(&mut client, &filter, state_after)).await;
                clients[at].0 = client;
            }
        }
        self.world.store.be_late(0, seed);
        let truth = self.truth().await;
        for (client, state_after) in &mut clients {
            let mut quiet = false;
            for _ in 0..4 {
                let request = self.world.request(&client.user, client.token.clone(), filter.clone(), *state_after);
                let answer = self.world.sync(&request).await;
                client.take(&answer, &truth);
                quiet = answer.get("rooms").is_none();
            }
            assert!(quiet, "never quiet");
            client.check(&truth);
        }
        self.check_counts(&truth).await;
    }
}

#[tokio::test]
async fn a_client_ends_in_the_truth() {
    let mut world = Some(world::world().await);
    let first = std::env::var("POLITY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds() {
        let history_of = world.take().unwrap();
        let admin = format!("@admin{seed}:t.test");
        let users = ["bob", "carol"].map(|name| format!("@{name}{seed}:t.test")).to_vec();
        let mut rooms = Vec::new();
        for preset in ["public_chat", "private_chat"] {
            rooms.push(history_of.create(&admin, preset).await);
        }
        let random = StdRng::seed_from_u64(seed);
        let mut history =
            History { world: history_of, random, admin, users, rooms, receipts: BTreeMap::new(), counter: 0 };
        println!("seed {seed}");
        Box::pin(history.run(seed)).await;
        world = Some(history.world);
    }
}
