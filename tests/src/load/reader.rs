//! Who follows the rooms by sync, through every kill: each with a filter of its own, some asleep most of the time.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use polity_core::tasks;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    pages,
    speakers::Speakers,
    told::{self, Told, ids, told_twice},
    world::{Promised, Receipt, World, text},
};
use crate::{Client, escape};

/// How a reader reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) name: &'static str,
    /// Of the timeline.
    limit: u32,
    /// Only texts.
    pub(super) texts_only: bool,
    /// State as it stands after the timeline, instead of before.
    pub(super) state_after: bool,
    /// Only the members that are needed.
    pub(super) lazy: bool,
    /// Sleeps for so long between two syncs, and comes back as a new process would: with its token and nothing else.
    sleeps_ms: u64,
}

impl Manner {
    /// Whether the state before the timeline and the timeline together tell each change of the state where it happened.
    pub(super) fn is_told_in_order(&self) -> bool {
        !self.state_after && !self.texts_only
    }
}

pub(super) const MANNERS: [Manner; 7] = [
    Manner { name: "reader-all", limit: 1000, texts_only: false, state_after: false, lazy: false, sleeps_ms: 0 },
    Manner { name: "reader-texts", limit: 50, texts_only: true, state_after: false, lazy: false, sleeps_ms: 0 },
    Manner { name: "reader-short", limit: 2, texts_only: false, state_after: false, lazy: false, sleeps_ms: 150 },
    Manner { name: "reader-after", limit: 5, texts_only: false, state_after: true, lazy: false, sleeps_ms: 400 },
    Manner { name: "reader-seldom", limit: 10, texts_only: false, state_after: false, lazy: false, sleeps_ms: 4000 },
    Manner { name: "reader-members", limit: 3, texts_only: false, state_after: false, lazy: true, sleeps_ms: 250 },
    Manner { name: "reader-members-after", limit: 4, texts_only: false, state_after: true, lazy: true, sleeps_ms: 250 },
];

/// A wait that nobody needs who is woken, where nothing goes wrong; and by when at the latest something must happen that wakes.
const LONG_MS: u64 = 6_000;
const SOON: Duration = Duration::from_secs(1);
/// By then a receipt is shown to others.
const SHOWN: Duration = Duration::from_secs(2);
/// So many tokens back a reader asks again, at most.
const MARKS: usize = 8;

/// What one reader knows at the end.
pub(super) struct Seen {
    pub(super) manner: Manner,
    /// By room: ids of events in the order in which they were seen.
    pub(super) events: HashMap<String, Vec<String>>,
    /// The receipts that had to be shown, with those that were: by the number of the room.
    pub(super) receipts: Vec<(usize, String, Option<String>)>,
    /// By room: what it was told beside.
    pub(super) rooms: HashMap<String, Told>,
    /// By room: as whom it knew those who spoke.
    pub(super) speakers: HashMap<String, Speakers>,
}

/// Starts a reader.
pub(super) fn start(reader: usize, world: &Arc<World>) -> JoinHandle<Seen> {
    tasks::spawn(follow(Arc::clone(world), MANNERS[reader % MANNERS.len()]))
}

/// A token, and how many events of each room were seen when it was given.
struct Mark {
    since: String,
    seen: HashMap<String, usize>,
}

struct Reader<'a> {
    world: &'a World,
    client: Client,
    random: StdRng,
    since: Option<String>,
    /// It, and some of those before, oldest first.
    marks: VecDeque<Mark>,
    seen: Seen,
    /// So many promises were looked for.
    told: usize,
    /// By room: the event at which who sends receipts is shown.
    receipts: HashMap<String, String>,
    /// When the first sync was answered.
    began: Instant,
}

async fn follow(world: Arc<World>, manner: Manner) -> Seen {
    let seen =
        Seen { manner, events: HashMap::new(), receipts: Vec::new(), rooms: HashMap::new(), speakers: HashMap::new() };
    let random = world.random(manner.name);
    let (client, began) = (world.writers[1].clone(), Instant::now());
    let mut reader = Reader {
        world: &world,
        client,
        random,
        since: None,
        marks: VecDeque::new(),
        seen,
        told: 0,
        receipts: HashMap::new(),
        began,
    };
    loop {
        let last = world.is_quiet();
        let due = world.promised.lock().await.len();
        let read = reader.receipts_due().await;
        let long = !last && reader.since.is_some() && world.journal.is_calm() && reader.random.random_range(0..8) == 0;
        let (began, wait_ms) = (Instant::now(), if long { LONG_MS } else { 1000 });
        let answer = reader.sync_once_or_twice(if last { 0 } else { wait_ms }).await;
        if long {
            reader.was_woken(began, due).await;
        }
        let quiet = answer["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty);
        if reader.since.is_some() && reader.random.random_range(0..8) == 0 {
            reader.repeat(&answer).await;
        }
        let first = reader.since.is_none();
        reader.take(&answer).await;
        if first {
            reader.began = Instant::now();
        }
        reader.told_what_was_promised(due).await;
        reader.note_what_was_read(read);
        reader.mark();
        if reader.random.random_range(0..12) == 0 {
            reader.ask_again_long_after().await;
        }
        if last && quiet {
            return reader.seen;
        }
        reader.rest(last).await;
    }
}

impl Reader<'_> {
    fn timeline_filter(&self) -> Value {
        let mut timeline = json!({"limit": self.seen.manner.limit});
        if self.seen.manner.texts_only {
            timeline["types"] = json!(["m.room.message"]);
        }
        timeline
    }

    async fn sync(&self, since: Option<&str>, wait_ms: u64) -> Value {
        // Only what this reader compares: other rooms come and go.
        let state = json!({"lazy_load_members": self.seen.manner.lazy});
        let filter = json!({"room": {"rooms": self.world.rooms, "timeline": self.timeline_filter(), "state": state}});
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let after = if self.seen.manner.state_after { "&use_state_after=true" } else { "" };
        let path = format!("/sync?timeout={wait_ms}&filter={}{after}{since}", escape(&filter.to_string()));
        self.world.get(&self.client, self.seen.manner.name, &path).await
    }

    /// One sync; now and then two at once, of which either may be the one that counts.
    async fn sync_once_or_twice(&mut self, wait_ms: u64) -> Value {
        let since = self.since.clone();
        let since = since.as_deref();
        if since.is_none() || self.random.random_range(0..8) > 0 {
            return self.sync(since, wait_ms).await;
        }
        let (one, other) = tokio::join!(self.sync(since, wait_ms), self.sync(since, wait_ms));
        self.one_is_the_beginning_of_the_other(&one, &other);
        if self.random.random_range(0..2) == 0 { one } else { other }
    }

    /// A sync doesn't wait to its end while something is acknowledged that it must tell: the `due`-th promise, or a later one.
    async fn was_woken(&self, began: Instant, due: usize) {
        if began.elapsed() < Duration::from_millis(LONG_MS) || self.seen.manner.texts_only {
            return;
        }
        let promised = self.world.promised.lock().await;
        let soon = promised[due..].iter().find(|promised| promised.asked > began && promised.asked < began + SOON);
        let tag = soon.map_or("", |promised| &promised.tag);
        let name = self.seen.manner.name;
        let fault = format_args!("{name} waited for {:?}, though {tag} was asked for soon", began.elapsed());
        self.world.journal.check(soon.is_none(), fault, &[name, tag]);
    }

    /// Two answers to one token tell a room's events from the same one on: one of them may know more.
    fn one_is_the_beginning_of_the_other(&self, one: &Value, other: &Value) {
        for (room, joined) in joined(one) {
            let timelines = [&joined["timeline"], &other["rooms"]["join"][room]["timeline"]];
            if timelines.iter().any(|timeline| timeline["limited"] == json!(true)) {
                continue;
            }
            let [one, other] = timelines.map(ids);
            let agree = one.starts_with(&other) || other.starts_with(&one);
            let fault = format_args!("{}: one token gave {one:?} and {other:?} at once", self.seen.manner.name);
            self.world.journal.check(agree, fault, &[self.seen.manner.name, room]);
        }
    }

    /// Whatever was acknowledged before a sync began it has told, or one before it: all up to the `due`-th promise. But not what may be
    /// older than the first sync, of which that told the newest only: what was asked for before it was answered.
    async fn told_what_was_promised(&mut self, due: usize) {
        let promised = self.world.promised.lock().await;
        for Promised { room, event_id, tag, asked, .. } in promised.get(self.told..due).unwrap_or_default() {
            let seen = self.seen.events.get(&self.world.rooms[*room]);
            let excused = self.seen.manner.texts_only || *asked <= self.began;
            let told = excused || seen.is_some_and(|seen| seen.contains(event_id));
            let name = self.seen.manner.name;
            let fault =
                format_args!("{tag} was acknowledged before {name}'s sync began, which doesn't tell {event_id}");
            self.world.journal.check(told, fault, &[name, tag, event_id]);
        }
        self.told = self.told.max(due);
    }

    /// The same token once more: it gives the same, and perhaps more. What nobody was promised yet, one process may have read, while
    /// another one hasn't heard of it.
    async fn repeat(&self, first: &Value) {
        let promised = self.promised().await;
        let again = self.sync(self.since.as_deref(), 0).await;
        for (room, joined) in joined(first) {
            let (before, now) = (ids(&joined["timeline"]), ids(&again["rooms"]["join"][room]["timeline"]));
            // One that knows of more may tell the newest only, and leave out the oldest.
            let timelines = [&joined["timeline"], &again["rooms"]["join"][room]["timeline"]];
            let limited = timelines.iter().any(|timeline| timeline["limited"] == json!(true));
            let unheard = before.as_slice().strip_prefix(now.as_slice());
            let holds = limited
                || now.starts_with(&before)
                || unheard.is_some_and(|unheard| unheard.iter().all(|event_id| !promised.contains(event_id)));
            let fault = format_args!("{}: one token gave {before:?} and then {now:?}", self.seen.manner.name);
            self.world.journal.check(holds, fault, &[self.seen.manner.name, room]);
        }
    }

    /// What was acknowledged to anybody so far.
    async fn promised(&self) -> HashSet<String> {
        self.world.promised.lock().await.iter().map(|promised| promised.event_id.clone()).collect()
    }

    fn mark(&mut self) {
        let Some(since) = self.since.clone() else { return };
        let seen = self.seen.events.iter().map(|(room, events)| (room.clone(), events.len())).collect();
        self.marks.push_back(Mark { since, seen });
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }

    /// A token from before, as one who was put back to it asks: it gives what was told since then, but perhaps for what one process has
    /// read and another one hasn't heard of, since nobody was promised it.
    async fn ask_again_long_after(&mut self) {
        // The last one is the one that it has.
        let older = self.marks.len() - 1;
        if older == 0 {
            return;
        }
        let mark = &self.marks[self.random.random_range(0..older)];
        let promised = self.promised().await;
        let answer = self.sync(Some(&mark.since), 0).await;
        for (room, events) in &self.seen.events {
            let timeline = &answer["rooms"]["join"][room]["timeline"];
            if timeline["limited"] == json!(true) {
                continue;
            }
            let (since, now) = (&events[mark.seen.get(room).copied().unwrap_or(0)..], ids(timeline));
            let unheard = since.strip_prefix(now.as_slice());
            let holds = now.starts_with(since)
                || unheard.is_some_and(|unheard| unheard.iter().all(|event_id| !promised.contains(event_id)));
            let name = self.seen.manner.name;
            let fault = format_args!("{name}: the token {} gives {now:?}, told were {since:?}", mark.since);
            self.world.journal.check(holds, fault, &[name, room]);
        }
    }

    async fn take(&mut self, answer: &Value) {
        for (room, joined) in joined(answer) {
            let (timeline, known) = (&joined["timeline"], self.seen.events.get(room).and_then(|events| events.last()));
            if let (Some(known), true) = (known, timeline["limited"] == json!(true)) {
                let place = (text(timeline, "prev_batch"), known.as_str());
                let (name, filter) = (self.seen.manner.name, self.timeline_filter());
                let missed = pages::gap(self.world, &self.client, name, room, place, &filter).await;
                let missed = missed.iter().map(|event| text(event, "event_id").to_owned());
                self.seen.events.entry(room.clone()).or_default().extend(missed);
            }
            let new = ids(timeline);
            self.world.journal.note(self.seen.manner.name, format!("told {} in {room}", new.join(" ")));
            self.knows_its_own(timeline);
            self.take_state(room, joined);
            self.seen.speakers.entry(room.clone()).or_default().take(joined, self.seen.manner.state_after);
            self.take_receipts(room, joined).await;
            self.seen.events.entry(room.clone()).or_default().extend(new);
        }
        self.since = answer["next_batch"].as_str().map(str::to_owned);
    }

    /// The device that sent an event is told by which transaction, and no other one is.
    fn knows_its_own(&self, timeline: &Value) {
        for event in timeline["events"].as_array().into_iter().flatten() {
            let told = event["unsigned"]["transaction_id"].as_str();
            let content = &event["content"];
            let tag = content["body"].as_str().or_else(|| content["reason"].as_str()).unwrap_or_default();
            let own = text(event, "sender") == self.client.user_id;
            let due = match tag.strip_prefix("w1-").and_then(|rest| rest.strip_suffix('.')) {
                Some(number) if own && event["state_key"].is_null() => Some(format!("t{number}")),
                // Others of the same device have names of their own.
                _ if own => continue,
                _ => None,
            };
            let name = self.seen.manner.name;
            let fault = format_args!("{name} is told {told:?} as the transaction of {tag}, which was {due:?}");
            self.world.journal.check(told == due.as_deref(), fault, &[name, tag]);
        }
    }

    fn take_state(&mut self, room: &str, joined: &Value) {
        let (name, is_after) = (self.seen.manner.name, self.seen.manner.state_after);
        for ((event_type, key), event_id) in told::changes(joined, is_after) {
            self.world.journal.note(name, format!("told {event_type} {key} is {event_id} in {room}"));
        }
        let twice = told_twice(joined, is_after);
        let fault = format_args!("{name} is told more than one event of {twice:?} in {room}");
        self.world.journal.check(twice.is_none(), fault, &[name, room]);
        let before = self.seen.events.get(room).and_then(|events| events.last());
        self.seen.rooms.entry(room.to_owned()).or_default().take(joined, is_after, before.map(String::as_str));
    }

    async fn take_receipts(&mut self, room: &str, joined: &Value) {
        let (name, user, in_private) =
            (self.seen.manner.name, &self.world.writers[2].user_id, self.world.read_in_private.lock().await);
        let events = joined["ephemeral"]["events"].as_array().into_iter().flatten();
        let receipts = events.filter(|event| text(event, "type") == "m.receipt");
        for (event_id, kinds) in receipts.filter_map(|event| event["content"].as_object()).flatten() {
            if kinds["m.read"][user].is_object() || kinds["m.read.private"][user].is_object() {
                self.world.journal.note(name, format!("told that {event_id} is read in {room}"));
                let fault = format_args!("{name} is shown {user}'s private receipt at {event_id}");
                self.world.journal.check(!in_private.contains(event_id), fault, &["receipt", event_id]);
                self.receipts.insert(room.to_owned(), event_id.clone());
            }
        }
    }

    /// By room: the receipt that everybody must be shown by now, where nothing goes wrong. A waiting client is told by the bus alone.
    async fn receipts_due(&self) -> Vec<(usize, Receipt)> {
        let receipts = self.world.receipts.lock().await;
        let is_due = |receipt: &&Receipt| !receipt.is_private && receipt.at.elapsed() > SHOWN;
        let due = |of_room: &Vec<Receipt>| of_room.iter().rfind(is_due).cloned();
        let due = receipts.iter().filter_map(|(room, of_room)| Some((*room, due(of_room)?)));
        if self.world.journal.is_calm() { due.collect() } else { Vec::new() }
    }

    fn note_what_was_read(&mut self, due: Vec<(usize, Receipt)>) {
        let rooms = &self.world.rooms;
        let shown = due.into_iter().map(|(at, due)| (at, due.event_id, self.receipts.get(&rooms[at]).cloned()));
        self.seen.receipts.extend(shown);
    }

    /// Between two syncs: nothing, or a long sleep and another process.
    async fn rest(&mut self, last: bool) {
        let at_most = self.seen.manner.sleeps_ms;
        if at_most == 0 || last {
            return;
        }
        let pause = Duration::from_millis(self.random.random_range(0..at_most));
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.world.is_quiet() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.client = self.client.afresh();
    }
}

fn joined(answer: &Value) -> impl Iterator<Item = (&String, &Value)> {
    answer["rooms"]["join"].as_object().into_iter().flatten()
}
