//! Following the other processes: by what they tell on the bus, and by asking all of them.
//!
//! Every request joins a round of asking that isn't issued yet, so that it sees whatever anybody was answered before it came. A round
//! reads `members` first: a process that this one hasn't heard of yet may have answered. Who doesn't answer in time may have written
//! to any log that stands in its slots: what is known of their heads is forgotten, and so is everything that was read of users'
//! partitions. Who left in order has said with which entry its journal ends: if that was taken in, nothing is forgotten. Who was
//! finished by others is treated once more as one that doesn't answer. Slots hold what was written in the last minute at least: of one
//! that wasn't followed for long, and has dropped a slot, all heads are forgotten.
//!
//! A request that reads nothing but what users' records say (a message that is sent: who decides on it reads the room itself) joins a
//! round that asks those alone who write them ([`Asked::Users`]): what the processes that write rooms have written is nothing to it.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use polity_bus::{Bus, News, Subject, SubjectKind, not_understood};
use polity_core::{
    IncarnationId, LogId, TenantId,
    mutation::{Mutation, planted},
};
use polity_log::{Listed, Member, MemberState, Registry};
use polity_proto::{
    cluster::{PullRequest, PullResponse, cluster_client::ClusterClient},
    with_deadline,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{Digest, Entry, metric};
use crate::{Connect, kind};

/// Who hasn't answered after this long is silent,
const ANSWERS: Duration = Duration::from_millis(100);
/// unless it answered in the last round: then it most likely has too much to do, and to read all that would be forgotten is more yet.
const PATIENCE: Duration = Duration::from_millis(500);
/// Without a request there is a round all the same, so that what is told too late is at most so late.
const IDLE: Duration = Duration::from_secs(1);
/// Rounds that many requests share are at least so far apart,
const BUSY: Duration = Duration::from_millis(20);
/// which are that many requests.
const MANY: usize = 8;
/// The registry takes no longer for an answer, or it counts as none.
const READS: Duration = Duration::from_secs(1);
/// Who stood open in the registry is asked for so long by all others, whatever becomes of it: nobody is closed faster.
const STANDS: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };
/// Of one that wasn't followed for so long, logs may have been dropped from its slots that it wrote to since.
const RECENT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// Logs in the slots of a silent process; with more, all heads are forgotten.
const LOGS: usize = 4096;
/// Digests that wait to be taken in.
const TOLD: usize = 1024;

/// What digests are for: what this process knows, or waits for.
pub trait Follow: Send + Sync + 'static {
    /// Another process has written this.
    fn others(&self, entries: &[Entry]);
    /// This process has written this a moment ago.
    fn own(&self, entries: &[Entry]);
    /// Somebody may have written to these logs, and to any user's partition.
    fn forget(&self, logs: &[(TenantId, LogId)]);
    /// Somebody may have written anything.
    fn forget_all(&self);
}

/// Whom a round asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Whoever writes the records of users: their tokens, devices and keys.
    Users,
    /// Whoever writes anything.
    Everybody,
}

impl Asked {
    fn asks(self, member: &Member) -> bool {
        self == Self::Everybody || &*member.kind != kind::ROOM_STATE
    }
}

/// See the module.
pub struct Flush {
    registry: Arc<Registry>,
    connect: Arc<dyn Connect>,
    follow: Arc<dyn Follow>,
    followed: Mutex<Followed>,
    /// The number of the newest round.
    issued: AtomicU64,
    /// The number of the newest round that has finished, and who waits for it. (A `watch` would wake them in any order: what follows
    /// from it couldn't be played again.)
    finished: AtomicU64,
    /// The number of the newest one that has asked everybody.
    finished_whole: AtomicU64,
    finishes: Notify,
    wanted: Notify,
    /// Whether the next round has to ask everybody.
    whole: AtomicBool,
    /// Requests that wait for a round to be issued.
    joined: AtomicUsize,
    /// Whether somebody was silent in the last round.
    doubtful: AtomicBool,
    /// When the newest round began that found this process open in the registry.
    stood: Mutex<Option<Instant>>,
}

/// How far this process has followed others.
#[derive(Default)]
struct Followed {
    writers: HashMap<IncarnationId, Writer>,
    /// Whose end was seen: all that it ever wrote is known, or forgotten.
    ended: HashSet<IncarnationId>,
    /// How many were taken out of the registry before the last round. `None`: there was none yet.
    pruned: Option<u64>,
}

#[derive(Default)]
struct Writer {
    /// The number of its last entry that was taken in: all before it were, too.
    applied: u64,
    /// All that it had written by then is known, because it was asked (what comes by the bus may be old), or forgotten; `None`: that was never so.
    at: Option<Instant>,
    /// Whether it answered in the last round.
    answers: bool,
}

impl Flush {
    /// Follows the processes that stand in the registry, nobody yet.
    #[must_use]
    pub fn new(registry: Arc<Registry>, connect: Arc<dyn Connect>, follow: Arc<dyn Follow>) -> Arc<Self> {
        Arc::new(Self {
            registry,
            connect,
            follow,
            followed: Mutex::default(),
            issued: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            finished_whole: AtomicU64::new(0),
            finishes: Notify::new(),
            wanted: Notify::new(),
            whole: AtomicBool::new(true),
            joined: AtomicUsize::new(0),
            doubtful: AtomicBool::new(false),
            stood: Mutex::default(),
        })
    }

    /// Waits until this process knows of everything that those asked had answered anybody before the call, or has forgotten what it
    /// can't know. Needs [`Flush::run`].
    pub async fn join(&self, asked: Asked) {
        // A round that is under way may have passed somebody before he answered.
        let wanted = self.issued.load(Ordering::SeqCst) + u64::from(!planted(Mutation::FlushUnderWay));
        self.joined.fetch_add(1, Ordering::Relaxed);
        let finished = match asked {
            Asked::Users => &self.finished,
            Asked::Everybody => {
                self.whole.store(true, Ordering::SeqCst);
                &self.finished_whole
            }
        };
        self.wanted.notify_one();
        loop {
            let mut finishes = pin!(self.finishes.notified());
            // Waits from here on, before it looks.
            finishes.as_mut().enable();
            if finished.load(Ordering::SeqCst) >= wanted {
                return;
            }
            finishes.await;
        }
    }

    /// Whether others still ask this process what it writes: if it was closed (it was stopped for long, and goes on), nobody hears
    /// of what it has written since. Asked before a write is answered; the registry is read only if that wasn't done for some seconds.
    pub async fn still_asked(&self) -> bool {
        let stood = || self.stood.lock().is_some_and(|at| at.elapsed() < STANDS);
        if !stood() {
            self.join(Asked::Users).await;
        }
        stood()
    }

    #[cfg(test)]
    pub(super) fn rounds_issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// Follows until it is dropped.
    pub async fn run(&self, bus: &dyn Bus) {
        let (subscriptions, mut receiver) = bus.receiver(TOLD);
        subscriptions.subscribe(Subject::DIGESTS);
        subscriptions.settled().await;
        let listen = async {
            while let Some(news) = receiver.next().await {
                match news {
                    News::Message(message) => self.told(&message.payload),
                    News::Lost => self.want_whole(),
                }
            }
        };
        tokio::join!(listen, self.rounds());
    }

    /// Something is missing, whoever has it.
    fn want_whole(&self) {
        self.whole.store(true, Ordering::SeqCst);
        self.wanted.notify_one();
    }

    /// Takes a digest in that came by the bus. What is missing before it is asked for.
    fn told(&self, payload: &[u8]) {
        match Digest::decode(payload) {
            Ok(digest) if digest.incarnation == self.registry.incarnation() => {}
            Ok(digest) => {
                if !self.take(&digest) {
                    self.want_whole();
                }
            }
            // Its entries are missing before the next one that is, and asked for.
            Err(_) => not_understood(SubjectKind::Digest),
        }
    }

    /// Takes entries in that follow those that were; says whether they do.
    fn take(&self, digest: &Digest) -> bool {
        let mut followed = self.followed.lock();
        let Some(writer) = followed.writers.get_mut(&digest.incarnation) else { return false };
        if planted(Mutation::GapIgnored) {
            writer.applied = writer.applied.max(digest.first.saturating_sub(1));
        }
        let Some(known) = writer.applied.saturating_add(1).checked_sub(digest.first) else { return false };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if let Some(new) = digest.entries.get(known..).filter(|new| !new.is_empty()) {
            self.follow.others(new);
            writer.applied = digest.last();
        }
        true
    }

    /// All that a process had written when it was asked is taken in.
    fn followed_at(&self, incarnation: IncarnationId, asked: Instant) {
        self.followed.lock().writers.entry(incarnation).or_default().at = Some(asked);
    }

    async fn rounds(&self) {
        let mut apart = Duration::ZERO;
        let mut begun = Instant::now();
        let mut begun_whole = begun;
        loop {
            // Wanted or not: it is time.
            let _ = timeout(IDLE, self.wanted.notified()).await;
            sleep_until(begun + apart).await;
            begun = Instant::now();
            let joined = self.joined.swap(0, Ordering::Relaxed);
            let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
            // Who wants all after this waits for a later one.
            let wanted = self.whole.swap(false, Ordering::SeqCst);
            let whole = wanted || begun.duration_since(begun_whole) >= IDLE;
            self.doubtful.store(false, Ordering::Relaxed);
            self.round(begun, if whole { Asked::Everybody } else { Asked::Users }).await;
            if whole {
                begun_whole = begun;
                self.finished_whole.store(number, Ordering::SeqCst);
            }
            self.finished.store(number, Ordering::SeqCst);
            self.finishes.notify_waiters();
            metrics::histogram!(metric::ROUND_SECONDS).record(begun.elapsed().as_secs_f64());
            metrics::counter!(metric::JOINED).increment(joined as u64);
            apart = match self.doubtful.load(Ordering::Relaxed) {
                true => ANSWERS,
                false if joined >= MANY => BUSY,
                false => Duration::ZERO,
            };
        }
    }

    async fn round(&self, began: Instant, asked: Asked) {
        let listed = match timeout(READS, self.registry.listed()).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => return self.lose(&format!("the members can't be read: {error}")),
            Err(_) => return self.lose("the members can't be read in time"),
        };
        let own = self.registry.incarnation();
        let is_open = |member: &Member| member.incarnation == own && member.state == MemberState::Open;
        *self.stood.lock() = listed.members.iter().any(is_open).then_some(began);
        let others = || listed.members.iter().filter(|member| member.incarnation != own);
        let to_ask = others().filter(|member| member.state != MemberState::Drained && asked.asks(member));
        join_all(to_ask.map(|member| self.ask(member))).await;
        let before = self.note_pruned(&listed);
        let drained = others().filter(|member| member.state == MemberState::Drained);
        join_all(drained.map(|member| self.note_end(member, before))).await;
    }

    /// Asks one process; what it may have written is forgotten if it doesn't answer.
    async fn ask(&self, member: &Member) {
        let answered = self.followed.lock().writers.get(&member.incarnation).is_some_and(|writer| writer.answers);
        let patience = if answered { PATIENCE } else { ANSWERS };
        let answers = timeout(patience, self.pull(member, patience)).await.is_ok_and(|answers| answers);
        self.followed.lock().writers.entry(member.incarnation).or_default().answers = answers;
        if answers {
            return;
        }
        self.doubtful.store(true, Ordering::Relaxed);
        if planted(Mutation::SilentTrusted) {
            return;
        }
        metrics::counter!(metric::SILENT).increment(1);
        self.forget_of(member, "a process doesn't answer, nor is it known what it wrote").await;
    }

    /// Forgets what a process may have written until now.
    async fn forget_of(&self, member: &Member, why: &str) {
        let (now, incarnation) = (Instant::now(), member.incarnation);
        let recent = {
            let followed = self.followed.lock();
            let at = followed.writers.get(&incarnation).and_then(|writer| writer.at);
            at.is_some_and(|at| now.duration_since(at) < RECENT)
        };
        match timeout(READS, self.registry.logs_of(incarnation, LOGS)).await {
            Ok(Ok(Some(entered))) if recent || entered.whole => self.follow.forget(&entered.logs),
            _ => self.lose(why),
        }
        self.followed.lock().writers.entry(incarnation).or_default().at = Some(now);
    }

    /// Takes in all that a process has written; says whether it answers.
    async fn pull(&self, member: &Member, patience: Duration) -> bool {
        if member.address.is_empty() {
            return false;
        }
        let mut client = ClusterClient::new(self.connect.to(&member.address));
        loop {
            let asked = Instant::now();
            let after = {
                let mut followed = self.followed.lock();
                followed.writers.entry(member.incarnation).or_default().applied
            };
            let Ok(answer) = client.pull(with_deadline(PullRequest { after }, patience)).await else { return false };
            let PullResponse { last, lost, digest } = answer.into_inner();
            let Ok(digest) = Digest::decode(&digest) else { return false };
            if digest.incarnation != member.incarnation {
                // Somebody else's address by now.
                return false;
            }
            if lost {
                self.begin_at(member.incarnation, last);
            } else if !self.take(&digest) {
                // It tells something else than it was asked.
                return false;
            }
            if lost || digest.last() >= last {
                self.followed_at(member.incarnation, asked);
                return true;
            }
        }
    }

    /// What a process wrote up to `number` isn't told any more: it is followed from there, and nothing that was read before holds.
    fn begin_at(&self, incarnation: IncarnationId, number: u64) {
        {
            let mut followed = self.followed.lock();
            let writer = followed.writers.entry(incarnation).or_default();
            writer.applied = writer.applied.max(number);
        }
        self.lose("a process has written more than it still tells");
    }

    /// Who isn't in the registry any more was seen to be finished, or everything is forgotten; says whether there was a round before.
    fn note_pruned(&self, listed: &Listed) -> bool {
        let (before, known) = {
            let mut followed = self.followed.lock();
            let there: HashSet<_> = listed.members.iter().map(|member| member.incarnation).collect();
            let (ended, writers) = (followed.ended.len(), followed.writers.len());
            followed.ended.retain(|incarnation| there.contains(incarnation));
            followed.writers.retain(|incarnation, _| there.contains(incarnation));
            let before = followed.pruned.replace(listed.pruned);
            // All that went are ones whose end was seen; there may be others that came and went between two rounds.
            let gone = (ended - followed.ended.len()) as u64;
            let known = followed.writers.len() == writers && before.is_none_or(|before| before + gone == listed.pruned);
            (before, known)
        };
        if !known {
            self.lose("processes have ended that weren't followed to their end");
        }
        before.is_some()
    }

    /// A process has ended: once, what of its writes isn't known is forgotten. All of it was, if this is the first round.
    async fn note_end(&self, member: &Member, followed_before: bool) {
        let incarnation = member.incarnation;
        let known = || {
            let followed = self.followed.lock();
            let applied = followed.writers.get(&incarnation).map_or(0, |writer| writer.applied);
            followed.ended.contains(&incarnation) || member.told.is_some_and(|told| applied >= told)
        };
        if !known() {
            // It may be there for another moment.
            let asked = member.told.is_some() && timeout(ANSWERS, self.pull(member, ANSWERS)).await.is_ok();
            if !(asked && known()) {
                match followed_before {
                    true => self.forget_of(member, "a process has ended, and it isn't known what it wrote").await,
                    false => self.lose("a process has ended before it was followed"),
                }
            }
        }
        let mut followed = self.followed.lock();
        followed.writers.remove(&incarnation);
        followed.ended.insert(incarnation);
    }

    fn lose(&self, why: &str) {
        tracing::debug!(why, "everything is read again");
        metrics::counter!(metric::FORGOTTEN).increment(1);
        self.follow.forget_all();
    }
}
