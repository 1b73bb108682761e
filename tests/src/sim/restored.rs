//! A store that is put back from a backup: made while all goes on, older than what clients have seen since. Who goes on with the token that
//! he has gets to exactly what is there then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;
use polity_store::Store;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    TENANT,
    backup::{backup, put_back},
    beginning::Beginning,
    chance::Chance,
    cluster::Cluster,
    detached, logs, nap,
    run::{Outcome, played},
    scenario::{Fault, Planned, Scenario, forgetful},
    way::SimWay,
    weather::Weather,
};
use crate::{
    Client, Failure, Way, escape,
    load::{Journal, Residents},
};

/// Before the backup, and after it, so many milliseconds at most.
const LASTS_MS: (u64, u64) = (100, 1_500);
/// A room that is written to only once the backup is made waits so many milliseconds more, at most.
const HELD_BACK_MS: u64 = 1_000;
const ALGORITHM: &str = "signed_curve25519";
/// Keys of one upload.
const BATCH: u64 = 5;

/// Who does something, and what they were promised.
struct World {
    journal: Arc<Journal>,
    writer: Client,
    reader: Client,
    owner: Client,
    claimer: Client,
    rooms: Vec<String>,
    /// When the last room is written to first, whose bucket may be nearly full; not set: not yet.
    last_from: OnceLock<Instant>,
    /// No new work from now on.
    done: CancellationToken,
    seen: Mutex<Seen>,
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    /// Events, each with its room and when it was acknowledged.
    sent: Vec<(String, String, Instant)>,
    /// Messages to the reader's device that were acknowledged by then.
    messages: Vec<(u64, Instant)>,
    /// Those that it got.
    received: BTreeSet<u64>,
    keys_uploaded: u64,
    given: BTreeSet<String>,
    since: Option<String>,
    /// Rooms that the reader believes to be in.
    joined: BTreeSet<String>,
}

/// Plays such a restore. The same seed gives the same each time.
#[must_use]
pub fn restored(seed: u64) -> Outcome {
    let chance = Chance::of(seed, "restored");
    let long = chance.one_in(2);
    let scenario = Scenario {
        seed,
        tight: chance.one_in(2),
        forgetful: forgetful(seed),
        put_off: *chance.pick(&[0, 4, 16]).unwrap_or(&0),
        clocks_ms: if chance.one_in(2) { 500 } else { 0 },
        long,
        ..Scenario::calm()
    };
    let beginning = Beginning::get(long);
    played(seed, move |journal, weather| acts(scenario, beginning, journal, (chance, weather)))
}

async fn acts(
    scenario: Scenario,
    beginning: &'static Beginning,
    journal: Arc<Journal>,
    (chance, weather): (Chance, Arc<Weather>),
) -> usize {
    let (store, started) = (beginning.store(), Instant::now());
    // Time goes on from one cluster to the next.
    let so_far_ms = || i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let cluster = Cluster::start(&scenario, (Arc::clone(&store) as _, Arc::clone(&weather)), 0).await;
    let way: Arc<dyn Way> = Arc::new(SimWay::new(Arc::clone(&cluster), scenario.seed));
    let world = Arc::new(World::of(beginning.residents(&way), Arc::clone(&journal)));
    // So that it gets to its bucket's end while the backup is made.
    let held_back = scenario.long && chance.one_in(2);
    if !held_back {
        let _ = world.last_from.set(Instant::now());
    }
    let before = Moves::prepare(&world).await;
    let tasks = world.set_to_work();
    nap(chance.between(LASTS_MS.0, LASTS_MS.1)).await;
    before.before_the_copy(&world).await;
    let weather_before = bad_weather(&Chance::of(scenario.seed, "weather"), &cluster);
    let fault = chance.one_in(2).then(|| a_process_goes(&chance, &cluster, &journal));
    let began = Instant::now();
    if held_back {
        let from = began + Duration::from_millis(Chance::of(scenario.seed, "held back").below(HELD_BACK_MS));
        let _ = world.last_from.set(from);
    }
    journal.note("backup", "begins");
    let copy = backup(&store, &chance).await;
    journal.note("backup", "ends");
    before.after_the_copy(&world).await;
    nap(chance.between(LASTS_MS.0, LASTS_MS.1)).await;
    world.done.cancel();
    for task in tasks {
        task.await.expect("nothing ends it");
    }
    for fault in weather_before.into_iter().chain(fault) {
        fault.await.expect("nothing ends it");
    }
    cluster.off();
    journal.note("kill", "everything is off, and the backup is put back");
    let life = copy.incarnation();
    let empty = Cluster::lay(&scenario, (Arc::clone(&copy) as _, Arc::clone(&weather)), so_far_ms());
    put_back(&empty, (&chance, &journal)).await;
    let store = copy.copy().expect("it is in memory");
    journal.check(store.incarnation() != life, "the store is in the same life as before", &[]);
    let cluster = Cluster::lay(&scenario, (store as _, weather), so_far_ms());
    cluster.store.goes_on_from(&empty.store);
    cluster.run().await;
    let way: Arc<dyn Way> = Arc::new(SimWay::new(Arc::clone(&cluster), scenario.seed + 1));
    let world = world.at(&way);
    let weather_after = bad_weather(&Chance::of(scenario.seed, "weather after"), &cluster);
    world.check(began, &before).await;
    for fault in weather_after {
        fault.await.expect("nothing ends it");
    }
    cluster.end().await;
    logs::check(&cluster.store, &journal).await;
    // What the record of who never comes back owes, too.
    for client in [&world.writer, &world.reader, &world.owner, &world.claimer] {
        logs::nothing_is_owed(&cluster.store, &journal, (TENANT, &client.user_id)).await;
    }
    world.seen.lock().sent.len()
}

/// Somebody dies, or leaves.
fn a_process_goes(chance: &Chance, cluster: &Arc<Cluster>, journal: &Arc<Journal>) -> JoinHandle<()> {
    let at = usize::try_from(chance.below(cluster.nodes())).unwrap_or_default();
    let fault = if chance.one_in(2) { Fault::Killed(at, chance.below(200)) } else { Fault::Leaves(at) };
    let planned = Planned { at_ms: 0, for_ms: chance.between(20, 600), fault };
    let (cluster, journal) = (Arc::clone(cluster), Arc::clone(journal));
    detached(async move {
        journal.note("kill", format!("{:?} for {} ms", planned.fault, planned.for_ms));
        cluster.suffer(&planned).await;
    })
}

/// What slows everybody down from now on, and keeps nobody from being answered.
fn bad_weather(chance: &Chance, cluster: &Arc<Cluster>) -> Vec<JoinHandle<()>> {
    let node = || usize::try_from(chance.below(cluster.nodes())).unwrap_or_default();
    let all = [
        Fault::StoreSlow(60),
        Fault::LogReadsSlow(100),
        Fault::BusLoses(300),
        Fault::BusLoses(1000),
        Fault::BusLate(200),
        Fault::BusRepeats(300),
        Fault::CallsSlow(60),
        Fault::Deaf(node()),
        Fault::Mute(node()),
    ];
    let some = (0..chance.below(3)).filter_map(|_| chance.pick(&all).cloned());
    some.map(|fault| {
        let (planned, cluster) = (Planned { at_ms: 0, for_ms: chance.between(100, 3_000), fault }, Arc::clone(cluster));
        detached(async move { cluster.suffer(&planned).await })
    })
    .collect()
}

/// Rooms that the reader moves in and out of.
struct Moves {
    /// He left it before the backup, and joined it again after it: then he has left it.
    rejoined: String,
    /// He left it after the backup: then he is in it.
    left: String,
    /// It was made after the backup: it isn't there.
    made: Mutex<Option<String>>,
}

impl Moves {
    async fn prepare(world: &World) -> Self {
        let room = async || {
            let room = json!({"preset": "public_chat"});
            let made = world.must(&world.writer, Method::POST, "/createRoom", Some(room)).await;
            let room = text(&made, "room_id");
            world.moves(&room, "join").await;
            room
        };
        Self { rejoined: room().await, left: room().await, made: Mutex::new(None) }
    }

    async fn before_the_copy(&self, world: &World) {
        world.moves(&self.rejoined, "leave").await;
    }

    async fn after_the_copy(&self, world: &World) {
        world.moves(&self.rejoined, "join").await;
        world.moves(&self.left, "leave").await;
        let made = json!({"preset": "public_chat"});
        let made = text(&world.must(&world.writer, Method::POST, "/createRoom", Some(made)).await, "room_id");
        world.moves(&made, "join").await;
        *self.made.lock() = Some(made);
    }
}

impl World {
    fn of(Residents { rooms, writers, others, .. }: Residents, journal: Arc<Journal>) -> Self {
        let [writer, reader] = [0, 1].map(|at| writers[at].clone());
        let [owner, claimer] = ["owner", "claimer"].map(|name| others[name].clone());
        let (done, seen) = (CancellationToken::new(), Mutex::default());
        Self { journal, writer, reader, owner, claimer, rooms, last_from: OnceLock::new(), done, seen }
    }

    /// The same at another cluster.
    fn at(&self, way: &Arc<dyn Way>) -> Self {
        let by = |client: &Client| client.by(way.afresh());
        Self {
            journal: Arc::clone(&self.journal),
            writer: by(&self.writer),
            reader: by(&self.reader),
            owner: by(&self.owner),
            claimer: by(&self.claimer),
            rooms: self.rooms.clone(),
            last_from: self.last_from.clone(),
            done: CancellationToken::new(),
            seen: Mutex::new(std::mem::take(&mut self.seen.lock())),
        }
    }

    /// Asks until there is an answer, which must be a good one.
    async fn must(&self, client: &Client, method: Method, path: &str, body: Option<Value>) -> Value {
        loop {
            match client.call(method.clone(), path, body.clone()).await {
                Ok(answer) => return answer,
                Err(Failure::Refused(status, body)) if !status.is_server_error() => {
                    self.journal.fail(format!("{method} {path} is refused: {status} {body}"), &[path])
                }
                Err(_) => nap(50).await,
            }
        }
    }

    async fn moves(&self, room: &str, how: &str) {
        self.must(&self.reader, Method::POST, &format!("/rooms/{}/{how}", escape(room)), Some(json!({}))).await;
        self.journal.note("reader", format!("{how} {room}"));
    }

    fn set_to_work(self: &Arc<Self>) -> [JoinHandle<()>; 5] {
        let at = || Arc::clone(self);
        let (writes, whispers, reads, keys, names) = (at(), at(), at(), at(), at());
        [
            detached(async move { writes.write().await }),
            detached(async move { whispers.whisper().await }),
            detached(async move { reads.read().await }),
            detached(async move { keys.hand_out_keys().await }),
            detached(async move { names.change_names().await }),
        ]
    }

    async fn write(&self) {
        for number in 0.. {
            if self.done.is_cancelled() {
                return;
            }
            let last = self.last_from.get().is_some_and(|from| *from <= Instant::now());
            let room = &self.rooms[number % (self.rooms.len() - usize::from(!last))];
            self.send(room, &format!("restored-{number}")).await;
            nap(7).await;
        }
    }

    async fn send(&self, room: &str, txn: &str) -> String {
        let path = format!("/rooms/{}/send/m.room.message/{txn}", escape(room));
        let body = json!({"msgtype": "m.text", "body": txn});
        let sent = text(&self.must(&self.writer, Method::PUT, &path, Some(body)).await, "event_id");
        self.journal.note("writer", format!("{sent} is in {room}"));
        self.seen.lock().sent.push((room.to_owned(), sent.clone(), Instant::now()));
        sent
    }

    async fn whisper(&self) {
        for number in 0.. {
            if self.done.is_cancelled() {
                return;
            }
            self.whisper_one(number).await;
            nap(15).await;
        }
    }

    async fn whisper_one(&self, number: u64) {
        let content = json!({"number": number});
        let body = json!({"messages": {&self.reader.user_id: {&self.reader.device_id: content}}});
        let path = format!("/sendToDevice/org.polity.whisper/whisper-{number}");
        self.must(&self.writer, Method::PUT, &path, Some(body)).await;
        self.seen.lock().messages.push((number, Instant::now()));
    }

    async fn read(&self) {
        while !self.done.is_cancelled() {
            self.sync(100).await;
        }
    }

    /// Syncs once; the answer, and the messages in it.
    async fn sync(&self, timeout_ms: u64) -> (Value, Vec<u64>) {
        let since = self.seen.lock().since.clone();
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/sync?timeout={timeout_ms}{since}");
        let answer = self.must(&self.reader, Method::GET, &path, None).await;
        let events = answer["to_device"]["events"].as_array().into_iter().flatten();
        let messages: Vec<u64> = events.filter_map(|event| event["content"]["number"].as_u64()).collect();
        let mut seen = self.seen.lock();
        seen.since = answer["next_batch"].as_str().map(str::to_owned);
        seen.received.extend(&messages);
        seen.joined.extend(names(&answer, "join"));
        for left in names(&answer, "leave") {
            seen.joined.remove(&left);
        }
        (answer, messages)
    }

    async fn hand_out_keys(&self) {
        while !self.done.is_cancelled() {
            self.upload_keys().await;
            for _ in 0..BATCH - 1 {
                self.claim().await;
                nap(10).await;
            }
        }
    }

    /// Gives somebody other names, of which rooms are to be told.
    async fn change_names(&self) {
        let path = format!("/profile/{}/displayname", escape(&self.claimer.user_id));
        for number in 0.. {
            if self.done.is_cancelled() {
                return;
            }
            let name = json!({"displayname": format!("name {number}")});
            self.must(&self.claimer, Method::PUT, &path, Some(name)).await;
            nap(40).await;
        }
    }

    async fn upload_keys(&self) -> Value {
        let first = {
            let mut seen = self.seen.lock();
            seen.keys_uploaded += BATCH;
            seen.keys_uploaded - BATCH
        };
        let keys: serde_json::Map<String, Value> =
            (first..first + BATCH).map(|n| (format!("{ALGORITHM}:r{n}"), json!({"key": format!("r{n}")}))).collect();
        self.must(&self.owner, Method::POST, "/keys/upload", Some(json!({"one_time_keys": keys}))).await
    }

    /// Claims a key of the owner's, which nobody was given before; whether there was one.
    async fn claim(&self) -> bool {
        let (user, device) = (&self.owner.user_id, &self.owner.device_id);
        let body = json!({"one_time_keys": {user: {device: ALGORITHM}}});
        let answer = self.must(&self.claimer, Method::POST, "/keys/claim", Some(body)).await;
        let given = answer["one_time_keys"][user][device].as_object().and_then(|keys| keys.keys().next().cloned());
        let Some(id) = given else { return false };
        let fresh = self.seen.lock().given.insert(id.clone());
        self.journal.check(fresh, format_args!("the key {id} was given twice"), &[]);
        true
    }

    /// All events of a room, oldest first.
    async fn whole(&self, room: &str) -> Vec<String> {
        let (mut all, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/rooms/{}/messages?dir=f&limit=500{from}", escape(room));
            let page = self.must(&self.writer, Method::GET, &path, None).await;
            all.extend(page["chunk"].as_array().into_iter().flatten().map(|event| text(event, "event_id")));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return all,
            }
        }
    }

    /// What holds after the restore of a backup that was begun then.
    async fn check(&self, began: Instant, moves: &Moves) {
        let (promised, whispered, believed, next) = {
            let seen = self.seen.lock();
            let promised = seen.sent.iter().filter(|(.., at)| *at < began);
            let promised: Vec<_> = promised.map(|(room, event, _)| (room.clone(), event.clone())).collect();
            let whispered = seen.messages.iter().filter(|(_, at)| *at < began).map(|(number, _)| *number);
            let next = seen.messages.last().map_or(0, |(number, _)| number + 1);
            (promised, whispered.collect::<BTreeSet<u64>>(), seen.joined.clone(), next)
        };
        for room in &self.rooms {
            let all = self.whole(room).await;
            for (_, event) in promised.iter().filter(|(of, _)| of == room) {
                let there = all.contains(event);
                self.journal.check(
                    there,
                    format_args!("{event} was acknowledged before the backup, and is gone"),
                    &[event],
                );
            }
        }
        self.check_keys().await;
        let (first, mut messages) = self.sync(0).await;
        self.check_rooms(&first, &believed, moves);
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        add_events(&first, &mut told);
        for number in 0..3 {
            for room in &self.rooms {
                self.send(room, &format!("after-{number}")).await;
            }
            self.whisper_one(next + number).await;
            let (answer, more) = self.sync(100).await;
            for room in names(&answer, "join") {
                let limited = answer["rooms"]["join"][&room]["timeline"]["limited"] == json!(true);
                self.journal.check(!limited, format_args!("what came in {room} is limited"), &[&room]);
            }
            add_events(&answer, &mut told);
            messages.extend(more);
        }
        loop {
            let (answer, more) = self.sync(0).await;
            if more.is_empty() && names(&answer, "join").is_empty() {
                break;
            }
            add_events(&answer, &mut told);
            messages.extend(more);
        }
        for (room, told) in &told {
            let all = self.whole(room).await;
            let fault = format_args!("of {room} there is {all:?}, and was told {told:?}");
            self.journal.check(all.ends_with(told), fault, &[room]);
        }
        let ordered = messages.is_sorted_by(|one, other| one < other);
        self.journal.check(ordered, format_args!("messages in another order: {messages:?}"), &[]);
        let received = self.seen.lock().received.clone();
        let lost: Vec<_> = whispered.difference(&received).collect();
        self.journal.check(lost.is_empty(), format_args!("messages to a device are lost: {lost:?}"), &[]);
        let late = (next..next + 3).all(|number| messages.contains(&number));
        self.journal.check(late, format_args!("messages sent after the restore are missing in {messages:?}"), &[]);
    }

    fn check_rooms(&self, first: &Value, believed: &BTreeSet<String>, moves: &Moves) {
        let (joined, left) = (names(first, "join"), names(first, "leave"));
        let made = moves.made.lock().clone().unwrap_or_default();
        let (room, others) = (&moves.rejoined, &self.rooms);
        let told = left.contains(room) && !joined.contains(room);
        self.journal.check(told, format_args!("he has left {room}, and isn't told so"), &[room]);
        self.journal.check(joined.contains(&moves.left), format_args!("{} is gone, in which he is", moves.left), &[]);
        self.journal.check(!joined.contains(&made), format_args!("{made} is told, which isn't there"), &[]);
        let all = others.iter().all(|room| joined.contains(room));
        self.journal.check(all, format_args!("of {others:?} are told {joined:?}"), &[]);
        let silent: Vec<_> = believed.iter().filter(|room| !joined.contains(*room) && !left.contains(*room)).collect();
        let only = silent.iter().all(|room| **room == made);
        self.journal.check(only, format_args!("nothing is said of {silent:?}"), &[]);
        for room in &joined {
            let limited = first["rooms"]["join"][room]["timeline"]["limited"] == json!(true);
            let begins = first["rooms"]["join"][room]["timeline"]["events"][0]["type"] == json!("m.room.create");
            self.journal.check(limited || begins, format_args!("{room} is told without a gap: {first}"), &[room]);
        }
    }

    /// No key is left of those that were there, and none of them comes again.
    async fn check_keys(&self) {
        let counts = self.must(&self.owner, Method::GET, "/sync?timeout=0", None).await;
        let left = counts["device_one_time_keys_count"][ALGORITHM].as_u64().unwrap_or(0);
        self.journal.check(left == 0, format_args!("{left} keys are left of those before"), &[]);
        self.journal.check(!self.claim().await, "a key of before was given", &[]);
        self.upload_keys().await;
        for _ in 0..BATCH {
            self.journal.check(self.claim().await, "a key that was uploaded isn't there", &[]);
        }
        self.journal.check(!self.claim().await, "a key of before was given", &[]);
    }
}

/// The rooms of a section.
fn names(answer: &Value, section: &str) -> BTreeSet<String> {
    answer["rooms"][section].as_object().into_iter().flatten().map(|(room, _)| room.clone()).collect()
}

/// What a sync tells of the timelines of joined rooms.
fn add_events(answer: &Value, told: &mut BTreeMap<String, Vec<String>>) {
    for (room, section) in answer["rooms"]["join"].as_object().into_iter().flatten() {
        let events = section["timeline"]["events"].as_array().into_iter().flatten();
        told.entry(room.clone()).or_default().extend(events.map(|event| text(event, "event_id")));
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
