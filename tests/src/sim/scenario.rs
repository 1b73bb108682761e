//! What is played: who takes part, and what goes wrong when. All of it comes from the seed, and parts of it can be left away.

use std::fmt;

use super::{chance::Chance, kinds, weather::Conditions};
use crate::load::{Actor, Mix};

/// Processes of each tier, if a scenario says nothing else.
pub(super) const OF_A_TIER: usize = 2;
/// Of so many scenarios one has one process more in each tier.
const WIDE: u64 = 8;

/// Nobody hears anybody on the bus for so long, when it is off.
const BUS_OFF_MS: u64 = 60_000;
/// There is load for so long after the last fault is over.
const AFTER_MS: u64 = 300;
/// Clocks that disagree are off by so much.
const CLOCKS_MS: u64 = 500;
/// No fault is made shorter than this.
const SHORT_MS: u64 = 20;
/// A usual pause of somebody as fast as can be.
const PAUSE_MS: u64 = 15;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Decides all that isn't written here.
    pub seed: u64,
    /// Who takes part.
    pub mix: Mix,
    /// For how long something is done, in simulated milliseconds.
    pub load_ms: u64,
    /// Processes of each tier. Those that write rooms are the first nodes, those that answer clients the others.
    pub of_a_tier: usize,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// Of so many steps of tasks one is put off; 0: none.
    pub put_off: u64,
    /// Slots of the registry and journals have little room.
    pub tight: bool,
    /// Caches hold next to nothing, so that what was known is forgotten.
    pub forgetful: bool,
    /// A room's bucket is nearly full when it begins.
    pub long: bool,
    /// Clocks of processes, and of the servers of the store, are off by so many milliseconds at most. Then plain writes may be late,
    /// too: their times say what stays.
    pub clocks_ms: u64,
    /// Half of the processes that it begins with are of the next version.
    pub upgrade: bool,
    /// When an operator purges a room that others write to, in milliseconds after the load began.
    pub purge_ms: Option<u64>,
}

/// Something that goes wrong at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When, in milliseconds after the load began.
    pub at_ms: u64,
    /// For how long.
    pub for_ms: u64,
    /// What.
    pub fault: Fault,
}

/// What can go wrong. A number is how often it does, of a thousand times, or how long it takes at most, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The bus loses messages.
    BusLoses(u64),
    /// Messages are late, and overtake each other.
    BusLate(u64),
    /// Messages come twice.
    BusRepeats(u64),
    /// The store is slow.
    StoreSlow(u64),
    /// Reads of logs are slow: of partitions that much is asked of.
    LogReadsSlow(u64),
    /// The store refuses what it is asked: nothing is done.
    StoreRefuses(u64),
    /// Writes are made, or made in part, and aren't answered.
    StoreUnanswered(u64),
    /// Writes aren't answered, and made much later, or never.
    StoreLate(u64),
    /// The same of conditional writes, and whoever waits for one dies.
    DiesWaiting(u64),
    /// The same, and all others die with it.
    AllDieWaiting(u64),
    /// Conditional writes aren't answered, and a part of them is seen before the whole.
    StoreTorn(u64),
    /// Nobody hears what a process says in its first milliseconds.
    Unheard(u64),
    /// A node hears nothing on the bus.
    Deaf(usize),
    /// Nobody hears a node on the bus.
    Mute(usize),
    /// Clients don't get their answers.
    AnswersLost(u64),
    /// Calls between processes are slow.
    CallsSlow(u64),
    /// Two nodes don't reach each other.
    Apart(usize, usize),
    /// A node's process is killed after so many steps of its tasks, and started again when it is over.
    Killed(usize, u64),
    /// All are.
    AllKilled(u64),
    /// A node's process is stopped after so many steps of its tasks, and goes on when it is over.
    Stopped(usize, u64),
    /// A node's process leaves in order, and another one comes when it is over.
    Leaves(usize),
    /// A node's process leaves in order, and one of the other version (the next one, or this) comes when it is over.
    Replaced(usize),
    /// A node's wall time jumps so far, forward or back.
    ClockJumps(usize, i64),
}

impl Fault {
    /// What it changes for everybody while it lasts.
    pub(super) fn change(&self, now: &mut Conditions) {
        match *self {
            Self::BusLoses(often) => now.bus_loses = now.bus_loses.max(often),
            Self::BusLate(ms) => now.bus_ms = now.bus_ms.max(ms),
            Self::BusRepeats(often) => now.bus_repeats = now.bus_repeats.max(often),
            Self::StoreSlow(ms) => now.store_ms = now.store_ms.max(ms),
            Self::LogReadsSlow(ms) => now.log_reads_ms = now.log_reads_ms.max(ms),
            Self::StoreRefuses(often) => now.store_refuses = now.store_refuses.max(often),
            Self::StoreUnanswered(often) => now.store_unanswered = now.store_unanswered.max(often),
            Self::StoreLate(often) => now.store_late = now.store_late.max(often),
            Self::DiesWaiting(often) => {
                now.store_late = now.store_late.max(often);
                now.dies_waiting = true;
            }
            Self::AllDieWaiting(often) => {
                now.store_late = now.store_late.max(often);
                (now.dies_waiting, now.all_die_waiting) = (true, true);
            }
            Self::StoreTorn(often) => now.store_torn = now.store_torn.max(often),
            Self::Unheard(ms) => now.unheard_ms = now.unheard_ms.max(ms),
            Self::Deaf(node) => drop(now.deaf.insert(node)),
            Self::Mute(node) => drop(now.mute.insert(node)),
            Self::AnswersLost(often) => now.answers_lost = now.answers_lost.max(often),
            Self::CallsSlow(ms) => now.calls_ms = now.calls_ms.max(ms),
            Self::Apart(one, other) => drop(now.apart.insert((one.min(other), one.max(other)))),
            // What is done to a node: see the cluster.
            Self::Killed(..)
            | Self::AllKilled(_)
            | Self::Stopped(..)
            | Self::Leaves(_)
            | Self::Replaced(_)
            | Self::ClockJumps(..) => {}
        }
    }

    /// For the figures.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::BusLoses(_) | Self::BusLate(_) | Self::BusRepeats(_) | Self::Unheard(_) => "times the bus was bad",
            Self::Deaf(_) | Self::Mute(_) => "nodes off the bus",
            Self::StoreSlow(_) | Self::LogReadsSlow(_) | Self::StoreRefuses(_) => "times the store was slow or refused",
            Self::StoreUnanswered(_)
            | Self::StoreLate(_)
            | Self::DiesWaiting(_)
            | Self::AllDieWaiting(_)
            | Self::StoreTorn(_) => "times the store didn't answer",
            Self::AnswersLost(_) | Self::CallsSlow(_) | Self::Apart(..) => "times the network was bad",
            Self::Killed(..) => "kills",
            Self::AllKilled(_) => "kills of all",
            Self::Stopped(..) => "stops",
            Self::Leaves(_) => "departures",
            Self::Replaced(_) => "processes replaced by another version",
            Self::ClockJumps(..) => "clocks set",
        }
    }

    /// Whether it kills.
    pub(super) fn kills(&self) -> bool {
        matches!(self, Self::Killed(..) | Self::AllKilled(_))
    }

    /// Whether it stops somebody.
    pub(super) fn stops(&self) -> bool {
        matches!(self, Self::Stopped(..))
    }

    /// Whether it concerns certain nodes.
    fn names_nodes(&self) -> bool {
        matches!(
            self,
            Self::Deaf(_)
                | Self::Mute(_)
                | Self::Apart(..)
                | Self::Killed(..)
                | Self::Stopped(..)
                | Self::Leaves(_)
                | Self::Replaced(_)
                | Self::ClockJumps(..)
        )
    }

    /// Whether it concerns the bus, and nothing else.
    pub(super) fn is_of_the_bus(&self) -> bool {
        matches!(
            self,
            Self::BusLoses(_)
                | Self::BusLate(_)
                | Self::BusRepeats(_)
                | Self::Unheard(_)
                | Self::Deaf(_)
                | Self::Mute(_)
        )
    }

    /// Whether a process begins because of it.
    fn begins(&self) -> bool {
        self.kills() || matches!(self, Self::Leaves(_) | Self::Replaced(_) | Self::DiesWaiting(_))
    }

    /// One of all that there are, on so many nodes.
    fn any(chance: &Chance, nodes: usize) -> Self {
        let node = || usize::try_from(chance.below(nodes as u64)).unwrap_or_default();
        let often = || *chance.pick(&[20, 100, 300, 1000]).unwrap_or(&100);
        let rarely = || *chance.pick(&[5, 20, 60, 200]).unwrap_or(&20);
        match chance.below(26) {
            0 => Self::BusLoses(often()),
            1 => Self::BusLate(*chance.pick(&[20, 200, 2_000]).unwrap_or(&20)),
            2 => Self::BusRepeats(often()),
            3 => Self::StoreSlow(*chance.pick(&[20, 150, 600]).unwrap_or(&20)),
            4 => Self::StoreRefuses(often()),
            5 | 6 => Self::StoreUnanswered(rarely()),
            7..=9 => Self::StoreLate(rarely()),
            10 | 11 => Self::StoreTorn(rarely()),
            12 => Self::AnswersLost(rarely()),
            13 => Self::CallsSlow(*chance.pick(&[20, 120, 1_000]).unwrap_or(&20)),
            14 => Self::Apart(node(), node()),
            15..=17 => Self::Killed(node(), chance.below(400)),
            18 => Self::AllKilled(chance.below(50)),
            19 => Self::Stopped(node(), chance.below(400)),
            20 => Self::Leaves(node()),
            21 => Self::ClockJumps(node(), i64::try_from(chance.below(20_000)).unwrap_or_default() - 10_000),
            22 => Self::Deaf(node()),
            23 | 24 => Self::DiesWaiting(*chance.pick(&[20, 60, 200]).unwrap_or(&20)),
            _ => Self::Mute(node()),
        }
    }
}

impl Planned {
    /// Something, some time while there is load.
    fn any(chance: &Chance, load_ms: u64, nodes: usize) -> Self {
        let fault = Fault::any(chance, nodes);
        let for_ms = match fault {
            // Sometimes so long that others see to what it has left.
            Fault::Killed(..) | Fault::AllKilled(_) | Fault::Stopped(..) | Fault::Leaves(_) => {
                *chance.pick(&[20, 20, 300, 300, 1_500, 1_500, 4_000, 16_000]).unwrap_or(&20)
            }
            // Or so long that who isn't heard isn't asked any more.
            Fault::Deaf(_) | Fault::Mute(_) => *chance.pick(&[1_000, 5_000]).unwrap_or(&1_000),
            _ => *chance.pick(&[200, 1_000, 3_000]).unwrap_or(&200),
        };
        Self { at_ms: chance.below(load_ms), for_ms, fault }
    }
}

/// Those of this version are replaced by the next one, one after the other, and one of the others is taken back meanwhile.
fn upgrades(chance: &Chance, load_ms: u64, of_a_tier: u64) -> Vec<Planned> {
    let taken_back = chance.below(2) * of_a_tier;
    let old = (0..2 * of_a_tier).filter(|at| at % of_a_tier != 0);
    let order: Vec<u64> = if chance.one_in(2) {
        old.chain([taken_back]).collect()
    } else {
        [taken_back].into_iter().chain(old).collect()
    };
    let each_ms = load_ms / order.len() as u64;
    let replaced = order.into_iter().zip(0..).map(|(at, nth)| {
        let (at_ms, for_ms) = (nth * each_ms + chance.below(each_ms), *chance.pick(&[20, 100, 300]).unwrap_or(&20));
        Planned { at_ms, for_ms, fault: Fault::Replaced(usize::try_from(at).unwrap_or_default()) }
    });
    replaced.collect()
}

/// Whether caches hold next to nothing.
pub(super) fn forgetful(seed: u64) -> bool {
    Chance::of(seed, "caches").one_in(4)
}

impl Scenario {
    /// Nobody does anything, and nothing goes wrong.
    pub(super) fn calm() -> Self {
        let mix = Mix { actors: Vec::new(), readers: Vec::new(), slower: 1, crowd: false };
        Self {
            seed: 0,
            mix,
            load_ms: 0,
            of_a_tier: OF_A_TIER,
            faults: Vec::new(),
            put_off: 0,
            tight: false,
            forgetful: false,
            long: false,
            clocks_ms: 0,
            upgrade: false,
            purge_ms: None,
        }
    }

    /// What this seed plays.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let forgetful = forgetful(seed);
        if let Some(special) = kinds::of(seed) {
            return Self { forgetful: forgetful || special.forgetful, ..special };
        }
        let chance = Chance::of(seed, "scenario");
        let begins_ms = *chance.pick(&[500, 1_000, 2_500, 5_000]).unwrap_or(&2_500);
        let whole = Mix::whole();
        let mut actors: Vec<Actor> = chance.some(chance.some(whole.actors, 4), 2);
        if chance.one_in(4) {
            actors.push(Actor::Neighbour);
        }
        if Chance::of(seed, "profile").one_in(6) {
            actors.push(Actor::Profile);
        }
        if Chance::of(seed, "sessions").one_in(6) {
            actors.push(Actor::Sessions);
        }
        if Chance::of(seed, "barred").one_in(4) {
            actors.push(Actor::Barred);
        }
        let readers = chance.some(chance.some(whole.readers, 2), 1);
        let of_a_tier = OF_A_TIER + usize::from(Chance::of(seed, "tiers").one_in(WIDE));
        let any = |_| Planned::any(&chance, begins_ms, 2 * of_a_tier);
        let mut faults: Vec<Planned> = (0..chance.below(5)).map(any).collect();
        if chance.one_in(4) {
            // At once: one hides what would mend the other.
            let (at_ms, for_ms) = (chance.below(begins_ms), 3_000);
            faults.iter_mut().for_each(|planned| (planned.at_ms, planned.for_ms) = (at_ms, planned.for_ms.max(for_ms)));
        }
        if chance.one_in(40) {
            faults.push(Planned { at_ms: 0, for_ms: BUS_OFF_MS, fault: Fault::BusLoses(1000) });
        }
        let upgrade = Chance::of(seed, "upgrade").one_in(4);
        if upgrade {
            faults.extend(upgrades(&Chance::of(seed, "upgrades"), begins_ms, of_a_tier as u64));
        }
        // While something is wrong, and for a while after.
        let load_ms = faults.iter().map(|planned| planned.at_ms + planned.for_ms).fold(begins_ms, u64::max) + AFTER_MS;
        if faults.iter().any(|planned| planned.fault.begins()) && chance.one_in(3) {
            // Whoever begins meanwhile isn't heard at first.
            faults.push(Planned { at_ms: 0, for_ms: load_ms, fault: Fault::Unheard(1_500) });
        }
        // So slow that each does some things, however long it takes.
        let slower = (load_ms / (PAUSE_MS * chance.between(4, 16))).max(1);
        faults.sort_by_key(|planned| planned.at_ms);
        let put_off = *chance.pick(&[0, 4, 16, 64]).unwrap_or(&0);
        let tight = chance.one_in(3);
        let long = chance.one_in(8);
        let clocks_ms = if Chance::of(seed, "clocks").one_in(4) { CLOCKS_MS } else { 0 };
        let purge = Chance::of(seed, "purge");
        let purge_ms = if purge.one_in(4) { Some(purge.below(begins_ms)) } else { None };
        let mix = Mix { actors, readers, slower, crowd: false };
        Self { seed, mix, load_ms, of_a_tier, faults, put_off, tight, forgetful, long, clocks_ms, upgrade, purge_ms }
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> usize {
        2 * self.of_a_tier
    }

    /// The same, ending soon after the last fault does.
    fn no_longer_than_needed(self) -> Self {
        let over = self.faults.iter().map(|planned| planned.at_ms + planned.for_ms).max().unwrap_or(0);
        Self { load_ms: self.load_ms.min(over + AFTER_MS), ..self }
    }

    /// The same with something left away, simplest first.
    pub(super) fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if !self.faults.is_empty() {
            all.push(Self { faults: Vec::new(), ..self.clone() });
        }
        for at in 0..self.faults.len() {
            let mut simpler = self.clone();
            simpler.faults.remove(at);
            all.push(simpler.clone().no_longer_than_needed());
            all.push(simpler);
        }
        for at in 0..self.mix.actors.len() {
            let mut simpler = self.clone();
            simpler.mix.actors.remove(at);
            all.push(simpler);
        }
        for at in 0..self.mix.readers.len() {
            let mut simpler = self.clone();
            simpler.mix.readers.remove(at);
            all.push(simpler);
        }
        for at in 0..self.faults.len() {
            let for_ms = self.faults[at].for_ms / 2;
            if for_ms >= SHORT_MS {
                let mut simpler = self.clone();
                simpler.faults[at].for_ms = for_ms;
                all.push(simpler.no_longer_than_needed());
            }
        }
        if self.of_a_tier > OF_A_TIER && !self.faults.iter().any(|planned| planned.fault.names_nodes()) {
            all.push(Self { of_a_tier: OF_A_TIER, ..self.clone() });
        }
        if self.tight {
            all.push(Self { tight: false, ..self.clone() });
        }
        if self.forgetful {
            all.push(Self { forgetful: false, ..self.clone() });
        }
        if self.long {
            all.push(Self { long: false, ..self.clone() });
        }
        if self.clocks_ms > 0 {
            all.push(Self { clocks_ms: 0, ..self.clone() });
        }
        if self.purge_ms.is_some() {
            all.push(Self { purge_ms: None, ..self.clone() });
        }
        if self.upgrade {
            all.push(Self { upgrade: false, ..self.clone() });
        }
        if self.put_off > 0 {
            all.push(Self { put_off: 0, ..self.clone() });
        }
        if self.load_ms > 100 {
            all.push(Self { load_ms: self.load_ms / 2, ..self.clone() });
            all.push(Self { load_ms: self.load_ms * 9 / 10, ..self.clone() });
        }
        all
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            mix,
            load_ms,
            of_a_tier,
            faults,
            put_off,
            tight,
            forgetful,
            long,
            clocks_ms,
            upgrade,
            purge_ms,
        } = self;
        let wide = if *of_a_tier > OF_A_TIER { ", a process more of each tier" } else { "" };
        let room = if *tight { "little" } else { "much" };
        let forgetful = if *forgetful { ", small caches" } else { "" };
        let long = if *long { ", a long room" } else { "" };
        let clocks = if *clocks_ms > 0 { ", clocks disagree" } else { "" };
        let upgrade = if *upgrade { ", two versions" } else { "" };
        write!(f, "seed {seed}, {load_ms} ms, one step of {put_off} is put off (0: none), ")?;
        let purge = purge_ms.map(|ms| format!(", a purge after {ms} ms")).unwrap_or_default();
        writeln!(f, "{room} room{wide}{forgetful}{long}{clocks}{upgrade}{purge}")?;
        let crowd = if mix.crowd { ", all in one room" } else { "" };
        writeln!(f, "  actors {:?}, readers {:?}, {} times slower{crowd}", mix.actors, mix.readers, mix.slower)?;
        for Planned { at_ms, for_ms, fault } in faults {
            writeln!(f, "  {at_ms:>5} ms, for {for_ms} ms: {fault:?}")?;
        }
        Ok(())
    }
}
