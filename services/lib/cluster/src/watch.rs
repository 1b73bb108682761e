//! Beats, watches the beats of others, closes those that are dead, finishes what they left, and takes those out of the registry that
//! ended long ago.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use polity_core::{
    Clock, IncarnationId,
    mutation::{Mutation, planted},
};
use polity_log::{LogError, MemberState, Recover, Registry, recover};
use polity_store::Store;
use tokio::time::MissedTickBehavior;

use crate::{
    Connect, Live, Member, beats,
    beats::BEAT,
    judge::{Judge, STILL},
    kind, metric, ping,
    rank::rank,
};

/// So much later does each further process see to one that is dead: one does, unless it dies, too.
const TURN: Duration = Duration::from_secs(2);
/// Turns that are told apart.
const TURNS: u32 = 4;
/// A process that nobody can see to who knows its logs is closed after so long by anybody.
const NOBODYS: Duration = Duration::from_secs(30);
/// Whoever answers isn't asked again for so long.
const ALIVE: Duration = Duration::from_secs(10);
/// One that is finished stays in the registry for so long: whoever finds it named in a head takes over without a fence.
const KEPT: Duration = Duration::from_secs(600);
/// How often it is said that something can't be done while that lasts.
const SAID: Duration = Duration::from_secs(30);

/// What a process needs to watch the others.
pub struct Watch {
    /// This process in the registry.
    pub registry: Arc<Registry>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// This process.
    pub this: Member,
    /// Learns who is open in the store.
    pub live: Arc<Live>,
    /// The ways to the others.
    pub connect: Arc<dyn Connect>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The logs that this process can finish for others.
    pub uses: Vec<Arc<dyn Recover>>,
}

/// What goes on between two looks.
#[derive(Default)]
struct Progress {
    /// The dead that are being seen to.
    under_way: HashSet<IncarnationId>,
    /// The dead of whom this process has finished what it can.
    done: HashSet<IncarnationId>,
    /// Those that answered although their beat stood still, and when.
    alive: HashMap<IncarnationId, Duration>,
    /// Some are being taken out.
    pruning: bool,
    /// When it was said last that the store doesn't let itself be watched.
    said: Option<Duration>,
}

/// What is to be done now.
enum Due {
    /// To see to one that is dead.
    See(Member),
    /// To take these out.
    Prune(Vec<IncarnationId>),
}

impl Watch {
    /// Watches until this process finds itself closed by another one: then it may write nothing any more and should end.
    pub async fn run(self) {
        let (progress, mut judge, mut count) = (Mutex::<Progress>::default(), Judge::default(), 0);
        let mut seen_to = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                // What takes long delays no beat.
                Some(()) = seen_to.next() => continue,
            }
            match self.look(count, &mut judge, &progress).await {
                Ok(due) => seen_to.extend(due.into_iter().map(|due| self.carry_out(due, &progress))),
                Err(LogError::Closed) => {
                    return tracing::error!(
                        node = %self.this.node,
                        "this process was closed by another one: it stood still for too long, or another one was started under its name"
                    );
                }
                // Who can't read the store closes nobody: what isn't watched doesn't stand still.
                Err(error) => self.complain(&progress, &error),
            }
            count += 1;
        }
    }

    /// Beats, and looks at the others; whom to see to now.
    async fn look(&self, count: u64, judge: &mut Judge, progress: &Mutex<Progress>) -> Result<Vec<Due>, LogError> {
        let store = &*self.store;
        let beaten = beats::beat(store, self.this.incarnation, count).await;
        let (members, beats) = tokio::try_join!(self.registry.members(), async { Ok(beats::all(store).await?) })?;
        let own = |member: &&Member| member.incarnation == self.this.incarnation;
        if members.iter().find(own).is_none_or(|member| member.state != MemberState::Open) {
            return Err(LogError::Closed);
        }
        self.live.stored(&members);
        match beaten {
            Ok(()) => progress.lock().said = None,
            Err(error) => self.complain(progress, &error.into()),
        }
        judge.look(self.clock.monotonic(), &members, &beats);
        Ok(self.due(&members, judge, progress))
    }

    /// Says that the store can't be written or read, now and then while that lasts.
    fn complain(&self, progress: &Mutex<Progress>, error: &LogError) {
        let (now, mut progress) = (self.clock.monotonic(), progress.lock());
        if progress.said.is_none_or(|said| now.saturating_sub(said) >= SAID) {
            progress.said = Some(now);
            tracing::warn!(%error, "no beat can be written, or the other processes can't be watched");
        }
    }

    /// What to do now.
    fn due(&self, members: &[Member], judge: &Judge, progress: &Mutex<Progress>) -> Vec<Due> {
        let (now, mut progress) = (self.clock.monotonic(), progress.lock());
        progress.done.retain(|done| members.iter().any(|member| member.incarnation == *done));
        progress.alive.retain(|_, at| now.saturating_sub(*at) < ALIVE);
        let mut left = judge.allowance();
        let (mut due, mut ended) = (Vec::new(), Vec::new());
        for member in members.iter().filter(|member| member.incarnation != self.this.incarnation) {
            let mut after = self.turn(member);
            match member.state {
                MemberState::Drained => {
                    if judge.still(member.incarnation) >= KEPT + after {
                        ended.push(member.incarnation);
                    }
                    continue;
                }
                MemberState::Closed => {}
                MemberState::Open => {
                    let dead =
                        judge.still(member.incarnation) >= STILL && !progress.alive.contains_key(&member.incarnation);
                    if planted(Mutation::ClosedByBus) && !self.is_heard(member) {
                        due.push(Due::See(member.clone()));
                        continue;
                    }
                    if !dead || left == 0 {
                        continue;
                    }
                    // Whoever's turn it is: all processes go through the dead in the same order, so that together they close no more.
                    left -= 1;
                    after += STILL;
                }
            }
            if judge.still(member.incarnation) >= after
                && !progress.done.contains(&member.incarnation)
                && progress.under_way.insert(member.incarnation)
            {
                due.push(Due::See(member.clone()));
            }
        }
        if !ended.is_empty() && !std::mem::replace(&mut progress.pruning, true) {
            due.push(Due::Prune(ended));
        }
        due
    }

    async fn carry_out(&self, due: Due, progress: &Mutex<Progress>) {
        match due {
            Due::See(member) => self.see_to(member, progress).await,
            Due::Prune(ended) => {
                let pruned = self.registry.prune(&ended).await;
                progress.lock().pruning = false;
                match pruned {
                    Ok(0) => {}
                    Ok(count) => tracing::debug!(count, "processes that ended long ago are taken out of the registry"),
                    Err(error) => tracing::debug!(%error, "processes that ended long ago can't be taken out yet"),
                }
            }
        }
    }

    /// How much later than the first one this process sees to a dead one.
    fn turn(&self, dead: &Member) -> Duration {
        if !self.knows_logs_of(dead) {
            return NOBODYS;
        }
        let mut others = self.live.members(&self.this.kind);
        others.retain(|member| member.incarnation != dead.incarnation);
        rank(&format!("closed:{}", dead.incarnation), &mut others);
        let before = others.iter().take_while(|member| member.incarnation != self.this.incarnation).count();
        TURN * u32::try_from(before).unwrap_or(TURNS).min(TURNS)
    }

    fn knows_logs_of(&self, dead: &Member) -> bool {
        *self.this.kind == *kind::POLITY || self.this.kind == dead.kind
    }

    /// Closes a process that doesn't answer, and finishes what it left.
    async fn see_to(&self, member: Member, progress: &Mutex<Progress>) {
        let alive = member.state == MemberState::Open && self.is_alive(&member).await;
        let done = !alive && self.finish(&member).await;
        let mut progress = progress.lock();
        progress.under_way.remove(&member.incarnation);
        if done {
            progress.done.insert(member.incarnation);
        }
        if alive {
            tracing::warn!(node = %member.node, "a process answers, but its beat stands still");
            progress.alive.insert(member.incarnation, self.clock.monotonic());
        }
    }

    /// Whether it may be asked, by what is heard on the bus.
    fn is_heard(&self, member: &Member) -> bool {
        self.live.members(&member.kind).iter().any(|heard| heard.incarnation == member.incarnation)
    }

    async fn is_alive(&self, member: &Member) -> bool {
        if planted(Mutation::ClosedByBus) {
            return self.is_heard(member);
        }
        !member.address.is_empty() && ping(self.connect.to(&member.address), member.incarnation).await
    }

    /// Whether there is nothing left that this process can do.
    async fn finish(&self, member: &Member) -> bool {
        if member.state == MemberState::Open {
            tracing::warn!(node = %member.node, incarnation = %member.incarnation, "a process that is dead is closed");
            metrics::counter!(metric::CLOSED).increment(1);
        }
        let finished = if self.knows_logs_of(member) {
            recover(&self.registry, member.incarnation, &self.uses).await
        } else {
            // Those that know its logs find it closed when they come.
            self.registry.close(member.incarnation).await.map(|_| 0)
        };
        match finished {
            Ok(logs) => {
                metrics::counter!(metric::RECOVERED).increment(logs as u64);
                tracing::info!(node = %member.node, logs, "what a dead process left is finished");
                true
            }
            Err(error) => {
                tracing::warn!(%error, node = %member.node, "what a dead process left can't be finished yet");
                false
            }
        }
    }
}
