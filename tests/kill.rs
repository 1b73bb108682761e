//! `kill -9` at any moment under load: every acknowledged event is there, once, in order; each transaction gave one event; syncs go
//! on from their tokens without a gap or a repeat.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use polity_core::tasks;
use polity_tests::{Client, Failure, Sandbox, escape};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::Mutex;

const WRITERS: usize = 4;
const ROOMS: usize = 3;

/// What a client was promised: room and event id, by transaction.
type Promised = HashMap<String, (usize, String)>;

struct World {
    rooms: Vec<String>,
    done: AtomicBool,
    promised: Mutex<Promised>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let kills: usize = std::env::var("POLITY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let mut sandbox = Sandbox::start(&[]).await;
    let writers = accounts(&sandbox, WRITERS).await;
    let rooms = shared_rooms(&writers).await;
    let world = Arc::new(World { rooms, done: AtomicBool::new(false), promised: Mutex::default() });
    let reader = tasks::spawn(read(writers[0].clone(), Arc::clone(&world)));
    let writing: Vec<_> =
        (0..WRITERS).map(|n| tasks::spawn(write(n, writers[n].clone(), Arc::clone(&world)))).collect();
    for _ in 0..kills {
        let pause = rand::rng().random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        sandbox.restart().await;
    }
    world.done.store(true, Ordering::SeqCst);
    for task in writing {
        task.await.expect("a writer ends well");
    }
    let seen = reader.await.expect("the reader ends well");
    let promised = world.promised.lock().await;
    assert!(promised.len() > kills, "something was sent between the kills: {}", promised.len());
    for (at, room) in world.rooms.iter().enumerate() {
        let stored = history(&writers[0], room).await;
        check_room(at, &stored, &seen[at], &promised);
    }
}

/// What is stored is what was promised, in one order, and the reader saw the same.
fn check_room(at: usize, stored: &[(String, String)], seen: &[String], promised: &Promised) {
    let ids: Vec<&String> = stored.iter().map(|(id, _)| id).collect();
    let unique: HashSet<&&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "an event stands twice in room {at}");
    let mut by_text: HashMap<&str, &str> = HashMap::new();
    for (id, text) in stored {
        assert!(by_text.insert(text, id).is_none(), "transaction {text} gave two events");
    }
    for (txn, (room, id)) in promised {
        if *room == at {
            assert_eq!(by_text.get(txn.as_str()), Some(&id.as_str()), "transaction {txn} was acknowledged");
        }
    }
    let mut last: HashMap<&str, u64> = HashMap::new();
    for (_, text) in stored {
        let (writer, number) = text.split_once('-').expect("writer-number");
        let number: u64 = number.parse().expect("a number");
        assert!(last.insert(writer, number).is_none_or(|before| before < number), "{text} out of order");
    }
    assert!(seen.iter().eq(ids), "the reader of room {at} saw a gap, a repeat or another order");
}

async fn accounts(sandbox: &Sandbox, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for n in 0..count {
        let mut client = sandbox.client();
        client.register(&format!("writer{n}"), "a long password").await.expect("a new account");
        clients.push(client);
    }
    clients
}

async fn shared_rooms(writers: &[Client]) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = writers[0].create_room(json!({"preset": "public_chat"})).await.expect("a new room");
        for writer in &writers[1..] {
            let path = format!("/rooms/{}/join", escape(&room));
            writer.call(Method::POST, &path, Some(json!({}))).await.expect("anybody may join");
        }
        rooms.push(room);
    }
    rooms
}

/// Sends on and on, each text until it is acknowledged, under one transaction id.
async fn write(me: usize, client: Client, world: Arc<World>) {
    for number in 0_u64.. {
        if world.done.load(Ordering::SeqCst) {
            return;
        }
        let room = (me + usize::try_from(number).expect("small")) % ROOMS;
        let txn = format!("{me}-{number}");
        let event_id = until_answered(|| client.send(&world.rooms[room], &txn, &txn)).await;
        // A client that never got its answer asks again: the same event.
        if number.is_multiple_of(7) {
            let again = until_answered(|| client.send(&world.rooms[room], &txn, &txn)).await;
            assert_eq!(again, event_id, "transaction {txn} gave two events");
        }
        world.promised.lock().await.insert(txn, (room, event_id));
    }
}

async fn until_answered<T, F: Future<Output = Result<T, Failure>>>(attempt: impl Fn() -> F) -> T {
    loop {
        match attempt().await {
            Ok(answer) => return answer,
            Err(Failure::Refused(status, body)) if !status.is_server_error() => panic!("{status}: {body}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Follows all rooms by sync, through every kill; the texts' event ids in the order seen.
async fn read(client: Client, world: Arc<World>) -> Vec<Vec<String>> {
    let filter = json!({"room": {"timeline": {"limit": 100, "types": ["m.room.message"]}}});
    let mut seen = vec![Vec::new(); ROOMS];
    let mut since: Option<String> = None;
    loop {
        let last = world.done.load(Ordering::SeqCst);
        let wait = if last { 0 } else { 2000 };
        let answer = until_answered(|| client.sync(since.as_deref(), wait, &filter)).await;
        for (at, room) in world.rooms.iter().enumerate() {
            let timeline = &answer["rooms"]["join"][room]["timeline"];
            let first_sync = since.is_none();
            assert!(first_sync || timeline["limited"] != json!(true), "100 events between two syncs");
            seen[at].extend(message_ids(&timeline["events"]).into_iter().map(|(id, _)| id));
        }
        let quiet = answer["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty);
        since = answer["next_batch"].as_str().map(str::to_owned);
        if last && quiet && Arc::strong_count(&world) <= 2 {
            return seen;
        }
    }
}

fn message_ids(events: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let messages = events.as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.message");
    messages.map(|event| (text(&event["event_id"]), text(&event["content"]["body"]))).collect()
}

/// All messages of a room, oldest first.
async fn history(client: &Client, room: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("/rooms/{}/messages?dir=f&limit=500{from}", escape(room));
        let page = client.call(Method::GET, &path, None).await.expect("a page of history");
        out.extend(message_ids(&page["chunk"]));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return out,
        }
    }
}
