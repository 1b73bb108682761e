//! A room that an operator purges while others write to it and follow it. Once he was answered nobody is promised anything there any more;
//! whoever followed it is told once that it is over, and never hears of it again; and of its log nothing is left but sealed heads.
//!
//! All that is random in it comes from streams of its own: what else a seed plays is the same without it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use polity_core::{Bucket, Life, LogKey};
use polity_proto::{
    room_state::{PurgeRoomRequest, room_state_client::RoomStateClient},
    route, with_deadline,
};
use polity_store::{
    Bounds, Consistency, Store,
    rooms::{self, AliasUse},
    schema, values_of,
};
use ruma_common::{RoomAliasId, RoomId, UserId};
use serde_json::{Value, json};

use super::{TENANT, beginning::Beginning, beside::Beside, chance::Chance, cluster::Cluster, nap, way::SimWay};
use crate::{Client, Failure, Way, escape, load::Journal};

/// An operator waits so long for an answer before he asks again.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a head of which nothing is left: formats, writer, the oldest row.
const EMPTY_HEAD: usize = 26;
/// No room has so many buckets.
const BUCKETS: u64 = 8;
/// In the journal.
const WHO: &str = "purge";

/// Who purges, and those whom it concerns.
pub(super) struct Operator {
    cluster: Arc<Cluster>,
    journal: Arc<Journal>,
    chance: Chance,
    /// Two members, and one who is invited.
    users: [Client; 3],
    room: String,
    alias: String,
    /// Making it was asked for more than once: a try that waited may make another room, which takes the alias once that is free.
    made_again: bool,
    /// What there is of the room beside its log.
    beside: Option<Beside>,
    /// Events that were acknowledged.
    promised: Mutex<Vec<String>>,
    /// The purge was asked for; it was answered; everything is over.
    asked: AtomicBool,
    answered: AtomicBool,
    quiet: AtomicBool,
}

/// A room that is gone.
pub(super) struct Purged {
    room: String,
    alias: String,
    /// See [`Operator::made_again`].
    made_again: bool,
    users: Vec<String>,
    beside: Option<Beside>,
}

/// What somebody who follows the room knows.
#[derive(Default)]
struct Follower {
    since: Option<String>,
    seen: BTreeSet<String>,
    /// The room was told of, and is over.
    told: bool,
    over: bool,
}

impl Operator {
    pub(super) fn new(cluster: &Arc<Cluster>, journal: &Arc<Journal>, beginning: &Beginning, seed: u64) -> Self {
        let chance = Chance::of(seed, "operator");
        let way: Arc<dyn Way> = Arc::new(SimWay::new(Arc::clone(cluster), chance.below(u64::MAX)));
        Self {
            cluster: Arc::clone(cluster),
            journal: Arc::clone(journal),
            chance,
            users: beginning.residents(&way).three(),
            room: String::new(),
            alias: String::new(),
            made_again: false,
            beside: None,
            promised: Mutex::default(),
            asked: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
        }
    }

    /// Makes a room, and purges it after a while.
    pub(super) async fn purge(mut self, at_ms: u64) -> Purged {
        self.make().await;
        self.furnish().await;
        let purge = async {
            nap(at_ms).await;
            self.until_purged().await;
            self.nothing_is_there().await;
            // His answer may have been lost: asked once more it is the same.
            self.until_purged().await;
            self.nothing_is_there().await;
            self.quiet.store(true, Ordering::Relaxed);
        };
        let [one, other, invited] = &self.users;
        tokio::join!(
            purge,
            self.write(one, "one"),
            self.write(other, "other"),
            self.follow(one, "one"),
            self.follow(other, "other"),
            self.follow(invited, "invited"),
        );
        self.cluster.weather.count("purges");
        let users = self.users.iter().map(|client| client.user_id.clone()).collect();
        Purged { room: self.room, alias: self.alias, made_again: self.made_again, users, beside: self.beside }
    }

    /// Asks until there is an answer that isn't the server's fault.
    async fn ask(&self, client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        self.ask_until(client, method, path, body).await.0
    }

    /// The same; and how often it was asked.
    async fn ask_until(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (Result<Value, Failure>, usize) {
        for tries in 1.. {
            match client.call(method.clone(), path, body.clone()).await {
                Err(Failure::Refused(status, _)) if status.is_server_error() => nap(10).await,
                answer @ (Ok(_) | Err(Failure::Refused(..))) => return (answer, tries),
                Err(_) => nap(10).await,
            }
        }
        unreachable!("it is asked for ever")
    }

    async fn make(&mut self) {
        for attempt in 0.. {
            let alias = format!("purged{attempt}");
            let body = json!({
                "preset": "public_chat", "visibility": "public", "room_alias_name": alias,
                "invite": [self.users[2].user_id],
            });
            // An earlier try may have taken the alias, and nobody heard of its room.
            let (made, tries) = self.ask_until(&self.users[0], Method::POST, "/createRoom", Some(body)).await;
            if let Ok(made) = made {
                self.made_again = tries > 1;
                self.room = made["room_id"].as_str().unwrap_or_default().to_owned();
                self.alias = format!("#{alias}:{}", super::SERVER);
                break;
            }
        }
        let join = format!("/rooms/{}/join", escape(&self.room));
        let joined = self.ask(&self.users[1], Method::POST, &join, Some(json!({}))).await;
        self.journal.check(joined.is_ok(), format_args!("a public room can't be joined: {joined:?}"), &[WHO]);
        self.journal.note(WHO, format!("{} is made", self.room));
    }

    /// Sees to it that there is more than the log: a redaction, a receipt.
    async fn furnish(&mut self) {
        let ([one, other, _], room) = (&self.users, escape(&self.room));
        let path = format!("/rooms/{room}/send/m.room.message/furniture");
        let sent = self.ask(other, Method::PUT, &path, Some(json!({"msgtype": "m.text", "body": "furniture"}))).await;
        let event_id = sent.as_ref().ok().and_then(|sent| sent["event_id"].as_str()).map(escape).unwrap_or_default();
        let redact = format!("/rooms/{room}/redact/{event_id}/furniture");
        let redacted = self.ask(one, Method::PUT, &redact, Some(json!({}))).await;
        let read = format!("/rooms/{room}/receipt/m.read/{event_id}");
        let read = self.ask(one, Method::POST, &read, Some(json!({}))).await;
        let done = [&sent, &redacted, &read].into_iter().all(Result::is_ok);
        self.journal.check(done, format_args!("a member is refused: {sent:?}, {redacted:?}, {read:?}"), &[WHO]);
        let named = self.cluster.names().find(TENANT, &self.room).await.ok().flatten();
        self.beside = match named {
            Some(key) => Beside::of(&*self.cluster.store, key).await,
            None => None,
        };
    }

    /// Purges the room, perhaps by two processes at once, as often as it takes.
    async fn until_purged(&self) {
        self.asked.store(true, Ordering::Relaxed);
        loop {
            let (one, other) = (self.chance.below(2), self.chance.one_in(4));
            let done = match other {
                true => {
                    let (done, too) = tokio::join!(self.purge_by(one), self.purge_by(one + 1));
                    done || too
                }
                false => self.purge_by(one).await,
            };
            if done {
                self.answered.store(true, Ordering::Relaxed);
                self.journal.note(WHO, format!("{} is purged", self.room));
                return;
            }
            nap(self.chance.between(20, 300)).await;
        }
    }

    async fn purge_by(&self, number: u64) -> bool {
        let request = PurgeRoomRequest { tenant: TENANT.get(), room_id: self.room.clone() };
        let call = route::routed(with_deadline(request, PATIENCE), &route::room(TENANT.get(), &self.room), true);
        let mut client = RoomStateClient::new(self.cluster.writer(number));
        match tokio::time::timeout(PATIENCE, client.purge_room(call)).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => {
                self.journal.note(WHO, format!("the purge by {number}: {status}"));
                let refused = matches!(status.code(), tonic::Code::NotFound | tonic::Code::PermissionDenied);
                self.journal.check(!refused, format_args!("a purge is refused: {status}"), &[WHO]);
                false
            }
            Err(_) => false,
        }
    }

    /// One event after the other, until that is refused.
    async fn write(&self, client: &Client, name: &str) {
        for number in 0_u64.. {
            if self.quiet.load(Ordering::Relaxed) {
                return;
            }
            let (begun_late, asked_late) = (self.answered.load(Ordering::Relaxed), self.asked.load(Ordering::Relaxed));
            let path = format!("/rooms/{}/send/m.room.message/{name}{number}", escape(&self.room));
            let body = json!({"msgtype": "m.text", "body": format!("{name} {number}")});
            match self.ask(client, Method::PUT, &path, Some(body)).await {
                Ok(sent) => {
                    let event_id = sent["event_id"].as_str().unwrap_or_default().to_owned();
                    self.journal.note(WHO, format!("{name}{number} is {event_id}"));
                    let fault = format_args!("{name}{number} was acknowledged as {event_id} in a room that is purged");
                    self.journal.check(!begun_late, fault, &[WHO]);
                    self.promised.lock().push(event_id);
                }
                Err(refused) => {
                    let fault = format_args!("{name}{number} is refused in a room that nobody purges: {refused}");
                    self.journal.check(asked_late || self.asked.load(Ordering::Relaxed), fault, &[WHO]);
                    if begun_late {
                        return;
                    }
                }
            }
            nap(self.chance.between(5, 150)).await;
        }
    }

    /// Follows the room by sync, until everything is over.
    async fn follow(&self, client: &Client, name: &str) {
        let mut follower = Follower::default();
        loop {
            let last = self.quiet.load(Ordering::Relaxed);
            let due = self.promised.lock().clone();
            let filter = json!({"room": {"rooms": [self.room], "timeline": {"limit": 1000}}}).to_string();
            let since = follower.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
            let wait_ms = if last { 0 } else { 500 };
            let path = format!("/sync?timeout={wait_ms}&filter={}{since}", escape(&filter));
            match self.ask(client, Method::GET, &path, None).await {
                Ok(answer) => self.take(name, &mut follower, &due, &answer),
                Err(refused) => self.journal.fail(format!("a sync of {name} is refused: {refused}"), &[WHO]),
            }
            if last {
                break;
            }
            nap(self.chance.between(0, 60)).await;
        }
        let fault = format_args!("{name} was never told that {} is over", self.room);
        self.journal.check(follower.over || !follower.told, fault, &[WHO, name]);
    }

    fn take(&self, name: &str, follower: &mut Follower, due: &[String], answer: &Value) {
        follower.since = answer["next_batch"].as_str().map(str::to_owned);
        let sections = ["join", "invite", "knock", "leave"].map(|kind| answer["rooms"][kind].get(&self.room));
        if sections.iter().any(Option::is_some) {
            let fault = format_args!("{name} is told of {}, which is over for it: {answer}", self.room);
            self.journal.check(!follower.over, fault, &[WHO]);
            follower.told = true;
        }
        let [joined, _, _, left] = sections;
        let events =
            joined.into_iter().flat_map(|joined| joined["timeline"]["events"].as_array().into_iter().flatten());
        for event_id in events.filter_map(|event| event["event_id"].as_str()) {
            let new = follower.seen.insert(event_id.to_owned());
            self.journal.check(new, format_args!("{name} was told {event_id} twice"), &[WHO, event_id]);
        }
        if let Some(left) = left {
            follower.over = true;
            self.journal.note(WHO, format!("{name} is told that the room is over"));
            let nothing = left["timeline"]["events"].as_array().is_none_or(Vec::is_empty);
            self.journal.check(nothing, format_args!("{name} is told what is gone: {left}"), &[WHO]);
            self.journal.check(self.asked.load(Ordering::Relaxed), format_args!("{name} has left, and didn't"), &[WHO]);
        }
        // While it is purged nobody can say what was there.
        if name != "invited" && !self.asked.load(Ordering::Relaxed) {
            let missing = due.iter().find(|event_id| !follower.seen.contains(*event_id));
            let fault =
                format_args!("{missing:?} was acknowledged before a sync of {name} began, which doesn't tell it");
            self.journal.check(missing.is_none(), fault, &[WHO]);
        }
    }

    /// The room is an unknown one, to everybody.
    async fn nothing_is_there(&self) {
        let [one, other, _] = &self.users;
        let (room, alias) = (escape(&self.room), escape(&self.alias));
        let asked = [
            (one, Method::PUT, format!("/rooms/{room}/send/m.room.message/late"), StatusCode::FORBIDDEN),
            (one, Method::GET, format!("/rooms/{room}/state"), StatusCode::FORBIDDEN),
            (other, Method::POST, format!("/rooms/{room}/join"), StatusCode::NOT_FOUND),
            (other, Method::GET, format!("/directory/room/{alias}"), StatusCode::NOT_FOUND),
        ];
        for (client, method, path, due) in asked {
            let body = if method == Method::GET { None } else { Some(json!({})) };
            let answer = self.ask(client, method.clone(), &path, body).await;
            let late = self.made_again && path.starts_with("/directory/");
            let is = match &answer {
                Err(Failure::Refused(status, _)) => *status == due,
                Ok(found) => late && found["room_id"] != self.room,
                Err(_) => false,
            };
            self.journal.check(is, format_args!("{method} {path} of a purged room: {answer:?}, not {due}"), &[WHO]);
        }
    }
}

impl Purged {
    /// What must hold of the store at the end.
    pub(super) async fn check(&self, cluster: &Cluster, journal: &Journal) {
        let (store, room) = (&*cluster.store, <&RoomId>::try_from(self.room.as_str()).expect("a room id"));
        let named = cluster.names().look_up(TENANT, &self.room, Consistency::Serial).await.ok().flatten();
        let Some(before) = named.and_then(|named| named.before) else {
            journal.fail(format!("{} has no other life: {named:?}", self.room), &[WHO])
        };
        journal.check(before.life == Life::FIRST, format_args!("{} had several lives: {named:?}", self.room), &[WHO]);
        is_gone(store, before, journal).await;
        // What is written late, once more too, may stay.
        if cluster.weather.is_good_but_for_the_bus() {
            let left = match &self.beside {
                Some(beside) => beside.left(store).await,
                None => vec!["what can't be read"],
            };
            let fault = format_args!("of {}, which is purged, are left {left:?}", self.room);
            journal.check(left.is_empty(), fault, &[WHO]);
        }
        for user in &self.users {
            let user_id = <&UserId>::try_from(user.as_str()).expect("a user id");
            let found = rooms::membership(store, TENANT, user_id, room).await.ok().flatten();
            let left = found.as_ref().is_some_and(|found| found.membership == "leave");
            journal.check(left, format_args!("{user} is {found:?} in {}, which is purged", self.room), &[WHO]);
        }
        let listed = rooms::listed_rooms(store, TENANT).await.unwrap_or_default();
        journal.check(!listed.iter().any(|listed| listed == room), "a purged room is listed", &[WHO]);
        let alias = <&RoomAliasId>::try_from(self.alias.as_str()).expect("an alias");
        let alias = rooms::alias(store, TENANT, alias).await.ok().flatten();
        let taken_late = |alias: &rooms::Alias| self.made_again && alias.room_id != *room;
        let free = alias.as_ref().is_some_and(|alias| alias.usage == AliasUse::Free || taken_late(alias));
        journal.check(free, format_args!("the alias of a purged room is {alias:?}"), &[WHO]);
    }
}

/// Of a log that was purged nothing is left but heads, sealed and empty.
pub(super) async fn is_gone(store: &dyn Store, key: LogKey, journal: &Journal) {
    let mut heads = 0;
    for bucket in 0..BUCKETS {
        let partition = values_of![key.tenant, key.log, Bucket::new(bucket).to_i64()];
        let page = store.scan(&schema::LOG, partition, Bounds::all(), 10_000, Consistency::Serial).await;
        for row in page.unwrap_or_default().rows {
            let sealed = row.guards.is_some_and(|(_, epoch)| epoch == -1) && row.value.len() == EMPTY_HEAD;
            let fault = format_args!("of {key}, which was purged, {:?} is left with {:?}", row.key, row.guards);
            journal.check(sealed, fault, &[WHO]);
            heads += 1;
        }
    }
    journal.check(heads > 0, format_args!("of {key}, which was purged, no head is left"), &[WHO]);
}
