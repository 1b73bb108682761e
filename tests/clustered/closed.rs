//! Processes that hang until others have closed them, and go on then: whatever they still answer is neither old nor lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use polity_core::tasks;
use polity_tests::{
    Client, Failure,
    cluster::{Cluster, Shape, Tier},
    escape,
};
use serde_json::{Value, json};

use super::own;

/// A process is closed after 10 s; the machine has other things to do.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Waits until the others have closed a process that hangs, and finished what it left; what they say of that.
async fn until_closed(cluster: &Cluster, name: &str) -> String {
    let began = Instant::now();
    let finished = |line: &&str| line.contains("what a dead process left is finished") && line.contains(name);
    loop {
        for other in cluster.running() {
            if let Some(line) = other.said(cluster.folder()).lines().find(finished) {
                return line.to_owned();
            }
        }
        assert!(began.elapsed() < CLOSED_WITHIN, "nobody closes {name}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a process has found out that it was closed, and has ended.
async fn until_ended(cluster: &mut Cluster, tier: Tier, number: usize) {
    let began = Instant::now();
    while cluster.at(tier, number).ended().is_none() {
        assert!(began.elapsed() < ENDS_WITHIN, "it goes on although it was closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = cluster.instance(tier, number).said(cluster.folder());
    assert!(said.contains("was closed by another one"), "{said}");
}

/// The same session, at one process alone.
fn at(cluster: &Cluster, number: usize, session: &Client) -> Client {
    let mut client = cluster.instance(Tier::ClientApi, number).client();
    (client.token, client.user_id, client.device_id) =
        (session.token.clone(), session.user_id.clone(), session.device_id.clone());
    client
}

/// A user, a room of his, and what he says there and of himself.
#[derive(Clone)]
struct User {
    client: Client,
    room: String,
}

impl User {
    /// The same one, at one process alone.
    fn at(&self, cluster: &Cluster, number: usize) -> Self {
        Self { client: at(cluster, number, &self.client), room: self.room.clone() }
    }

    fn own(&self, rest: &str) -> String {
        format!("/user/{}/{rest}", escape(&self.client.user_id))
    }

    fn topic(&self) -> String {
        format!("/rooms/{}/state/m.room.topic", escape(&self.room))
    }

    fn name(&self) -> String {
        format!("/profile/{}/displayname", escape(&self.client.user_id))
    }

    async fn put(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.client.call(Method::PUT, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.client.call(Method::GET, path, None).await
    }

    /// Sets what `reads` reads, all of it.
    async fn set(&self, to: &str) {
        self.put(&self.own("account_data/test.value"), json!({"value": to})).await.expect("account data");
        self.put(&self.topic(), json!({"topic": to})).await.expect("a topic");
        self.put(&self.name(), json!({"displayname": to})).await.expect("a name");
        self.client.send(&self.room, to, to).await.expect("a send");
    }

    /// What is read of it, as far as there is an answer: of the messages since then that one, if it is told.
    async fn reads(&self, since: &str, message: &str) -> Vec<Result<String, Failure>> {
        let text = |answer: Value, field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let all = json!({"room": {"timeline": {"limit": 200}}});
        let (paths, sync) = (
            [(self.own("account_data/test.value"), "value"), (self.topic(), "topic"), (self.name(), "displayname")],
            self.client.sync(Some(since), 0, &all),
        );
        let last = async {
            let answer = sync.await?;
            let events = answer["rooms"]["join"][&self.room]["timeline"]["events"].as_array().cloned();
            let told = events.unwrap_or_default().iter().any(|event| event["content"]["body"] == message);
            Ok(if told { message.to_owned() } else { answer.to_string() })
        };
        let read = paths.iter().map(async |(path, field)| self.get(path).await.map(|answer| text(answer, field)));
        let (mut all, last) = tokio::join!(join_all(read), last);
        all.push(last);
        all
    }

    /// Writes of several kinds, each with what another process must show once it was answered.
    async fn writes(&self, elsewhere: &Self, name: &str) -> usize {
        let (data, tag) = (format!("account_data/test.{name}"), format!("rooms/{}/tags/u.{name}", escape(&self.room)));
        let stored = async {
            let written = self.put(&self.own(&data), json!({"written": name})).await.is_ok();
            if written {
                let seen = elsewhere.get(&elsewhere.own(&data)).await.expect("account data that was acknowledged");
                assert_eq!(seen["written"], name);
            }
            written
        };
        let tagged = async {
            let written = self.put(&self.own(&tag), json!({"order": 0.5})).await.is_ok();
            if written {
                let path = format!("rooms/{}/tags", escape(&self.room));
                let seen = elsewhere.get(&elsewhere.own(&path)).await.expect("tags");
                assert_eq!(seen["tags"][format!("u.{name}")]["order"], 0.5, "{seen}");
            }
            written
        };
        let filtered = async {
            let filter = json!({"room": {"timeline": {"types": [name]}}});
            let answer = self.client.call(Method::POST, &self.own("filter"), Some(filter)).await;
            if let Ok(answer) = &answer {
                let path = format!("filter/{}", answer["filter_id"].as_str().unwrap_or_default());
                let seen = elsewhere.get(&elsewhere.own(&path)).await.expect("a filter that was acknowledged");
                assert_eq!(seen["room"]["timeline"]["types"], json!([name]));
            }
            answer.is_ok()
        };
        let sent = async {
            let answer = self.client.send(&self.room, name, name).await;
            if let Ok(event_id) = &answer {
                let path = format!("/rooms/{}/event/{}", escape(&self.room), escape(event_id));
                let seen = elsewhere.get(&path).await.expect("a message that was acknowledged");
                assert_eq!(seen["content"]["body"], name);
                let again = elsewhere.client.send(&self.room, name, name).await.expect("a send");
                assert_eq!(again, *event_id, "a transaction gave two events");
            }
            answer.is_ok()
        };
        let receipt = async {
            // Where one has read is not for others to see at once, but for oneself.
            let Ok(event_id) = elsewhere.client.send(&self.room, &format!("read{name}"), "read").await else {
                return false;
            };
            let path = format!("/rooms/{}/receipt/m.read/{}", escape(&self.room), escape(&event_id));
            self.client.call(Method::POST, &path, Some(json!({}))).await.is_ok()
        };
        let done = tokio::join!(stored, tagged, filtered, sent, receipt);
        [done.0, done.1, done.2, done.3, done.4].into_iter().filter(|done| *done).count()
    }
}

/// Several rounds of [`User::writes`], begun now.
fn write_at(user: &User, elsewhere: &User, name: &'static str) -> Vec<tokio::task::JoinHandle<usize>> {
    let begin = |n: usize| {
        let (user, elsewhere) = (user.clone(), elsewhere.clone());
        tasks::spawn(async move { user.writes(&elsewhere, &format!("{name}{n}")).await })
    };
    (0..10).map(begin).collect()
}

async fn all_of(writes: Vec<tokio::task::JoinHandle<usize>>) -> usize {
    join_all(writes).await.into_iter().map(|count| count.expect("what was acknowledged is there")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_clients_and_was_closed_tells_nothing_old_and_loses_nothing() {
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut client = cluster.client();
    client.register("alice", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    let alice = User { client, room };
    let (hung, other) = (alice.at(cluster, 1), alice.at(cluster, 2));
    let mut device = cluster.client();
    device.login("alice", "a long password").await.expect("a second device");
    let device = at(cluster, 1, &device);
    let who = async |device: &Client| device.raw(Method::GET, "/account/whoami", None).await;

    // The one that will hang has read all of it, and keeps it.
    other.set("first").await;
    let first = hung.client.sync(None, 0, &json!({})).await.expect("a sync");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    hung.set("second").await;
    for read in hung.reads(&since, "second").await {
        assert_eq!(read.expect("an answer"), "second");
    }
    assert_eq!(who(&device).await.expect("an answer").0, StatusCode::OK);

    let under_way = write_at(&hung, &other, "before");
    tokio::time::sleep(Duration::from_millis(15)).await;
    cluster.instance(Tier::ClientApi, 1).signal("STOP");
    other.set("third").await;
    until_closed(cluster, "client-api-1").await;
    other.set("newest").await;
    at(cluster, 2, &device).call(Method::POST, "/logout", Some(json!({}))).await.expect("a logout");
    // All of these wait for it when it goes on.
    let (late_writes, reads) = (write_at(&hung, &other, "after"), hung.reads(&since, "newest"));
    let go_on = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.instance(Tier::ClientApi, 1).signal("CONT");
    };
    let (reads, logged_out, ()) = tokio::join!(reads, who(&device), go_on);
    let answers = reads.iter().filter(|read| read.is_ok()).count();
    for read in reads.iter().flatten() {
        assert_eq!(read, "newest");
    }
    if let Ok((status, _)) = logged_out {
        assert_ne!(status, StatusCode::OK, "a device that was logged out is let in");
    }
    let (before, after) = (all_of(under_way).await, all_of(late_writes).await);
    println!("it answered {answers} of {} reads, and acknowledged {before} and {after} writes of 50", reads.len());
    until_ended(cluster, Tier::ClientApi, 1).await;
    cluster.restart(Tier::ClientApi, 1).await;
    for read in hung.reads(&since, "newest").await {
        assert_eq!(read.expect("an answer"), "newest");
    }
    cluster.assert_no_panic();
}

/// A room, and what of it was acknowledged: by transaction, the event.
struct Said {
    founder: Client,
    room: String,
    events: BTreeMap<String, String>,
}

impl Said {
    /// The founder sends until it is acknowledged.
    async fn say(&mut self, txn: &str) {
        let began = Instant::now();
        let event_id = loop {
            match self.founder.send(&self.room, txn, txn).await {
                Ok(event_id) => break event_id,
                Err(failure) => assert!(began.elapsed() < Duration::from_secs(60), "{txn}: {failure}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let before = self.events.insert(txn.to_owned(), event_id.clone());
        assert!(before.is_none_or(|before| before == event_id), "transaction {txn} gave two events");
    }

    /// The messages of the room, oldest first, as a process tells them: body and event.
    async fn told(&self, client: &Client) -> Vec<(String, String)> {
        let path = format!("/rooms/{}/messages?dir=b&limit=500", escape(&self.room));
        let answer = client.call(Method::GET, &path, None).await.expect("a page");
        let events = answer["chunk"].as_array().cloned().unwrap_or_default().into_iter().rev();
        let messages = events.filter(|event| event["type"] == "m.room.message").map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["content"]["body"]), text(&event["event_id"]))
        });
        messages.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_rooms_and_was_closed_decides_nothing_by_what_it_knew() {
    const ROOMS: usize = 8;
    let mut on = own(Shape::for_tests()).await;
    let cluster = &mut on.cluster;
    let mut bob = cluster.client();
    bob.register("bob", "a long password").await.expect("an account");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        // Whoever made a room has it at first; founders are spread over processes.
        let mut founder = cluster.client();
        founder.register(&format!("founder{n}"), "a long password").await.expect("an account");
        let room = founder.create_room(json!({"preset": "public_chat"})).await.expect("a room");
        bob.call(Method::POST, &format!("/join/{}", escape(&room)), Some(json!({}))).await.expect("a join");
        rooms.push(Said { founder, room, events: BTreeMap::new() });
    }

    // Its calls are in it when it stops, and it carries them out when it goes on.
    let hung = cluster.instance(Tier::RoomState, 1);
    let under_way = join_all(rooms.iter_mut().map(async |said| {
        for n in 0..10 {
            said.say(&format!("under-way-{n}")).await;
        }
    }));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        hung.signal("STOP");
    };
    tokio::join!(under_way, stop);
    for said in &mut rooms {
        let kick = json!({"user_id": bob.user_id, "reason": "while it hangs"});
        said.founder
            .call(Method::POST, &format!("/rooms/{}/kick", escape(&said.room)), Some(kick))
            .await
            .expect("a kick");
        said.say("while-it-hangs").await;
    }
    let finished = until_closed(cluster, "room-state-1").await;
    assert!(!finished.contains("logs=0"), "it had no rooms: {finished}");
    hung.signal("CONT");

    let tries = rooms.iter_mut().map(async |said| {
        for n in 0..10 {
            // Nobody lets him in again who doesn't know that he was kicked.
            let sent = bob.send(&said.room, &format!("kicked-{n}"), "kicked").await;
            assert!(sent.is_err(), "somebody who was kicked has sent");
            said.say(&format!("after-{n}")).await;
            // The first ones again: known by all who are asked.
            said.say(&format!("under-way-{n}")).await;
        }
    });
    join_all(tries).await;
    until_ended(cluster, Tier::RoomState, 1).await;
    for said in &rooms {
        let [one, two] = [1, 2].map(|number| at(cluster, number, &said.founder));
        let told = said.told(&one).await;
        assert_eq!(told, said.told(&two).await, "two orders of one room");
        let expected: BTreeMap<String, String> = said.events.clone();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        assert_eq!(told.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
    cluster.assert_no_panic();
}
