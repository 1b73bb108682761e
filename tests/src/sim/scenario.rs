//! What is played: who takes part, and what goes wrong when. All of it comes from the seed, and parts of it can be left away.

use std::fmt;

use super::{chance::Chance, weather::Conditions};
use crate::load::{Actor, Mix};

/// Processes of each tier.
pub(super) const OF_A_TIER: usize = 2;
/// Nodes: those that write rooms first, then those that answer clients.
pub(super) const NODES: usize = 2 * OF_A_TIER;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Decides all that isn't written here.
    pub seed: u64,
    /// Who takes part.
    pub mix: Mix,
    /// For how long something is done, in simulated milliseconds.
    pub load_ms: u64,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// Of so many steps of tasks one is put off; 0: none.
    pub put_off: u64,
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
    /// The store refuses what it is asked: nothing is done.
    StoreRefuses(u64),
    /// Writes are made, or made in part, and aren't answered.
    StoreUnanswered(u64),
    /// Writes aren't answered, and made much later, or never.
    StoreLate(u64),
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
    /// A node's process is stopped, and goes on when it is over.
    Stopped(usize),
    /// A node's process leaves in order, and another one comes when it is over.
    Leaves(usize),
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
            Self::StoreRefuses(often) => now.store_refuses = now.store_refuses.max(often),
            Self::StoreUnanswered(often) => now.store_unanswered = now.store_unanswered.max(often),
            Self::StoreLate(often) => now.store_late = now.store_late.max(often),
            Self::AnswersLost(often) => now.answers_lost = now.answers_lost.max(often),
            Self::CallsSlow(ms) => now.calls_ms = now.calls_ms.max(ms),
            Self::Apart(one, other) => drop(now.apart.insert((one.min(other), one.max(other)))),
            // What is done to a node: see the cluster.
            Self::Killed(..) | Self::AllKilled(_) | Self::Stopped(_) | Self::Leaves(_) | Self::ClockJumps(..) => {}
        }
    }

    /// One of all that there are.
    fn any(chance: &Chance) -> (Self, u64) {
        let node = || usize::try_from(chance.below(NODES as u64)).unwrap_or_default();
        let often = || *chance.pick(&[20, 100, 300, 1000]).unwrap_or(&100);
        let rarely = || *chance.pick(&[5, 20, 60, 200]).unwrap_or(&20);
        let fault = match chance.below(20) {
            0 => Self::BusLoses(often()),
            1 => Self::BusLate(*chance.pick(&[20, 200, 2_000]).unwrap_or(&20)),
            2 => Self::BusRepeats(often()),
            3 => Self::StoreSlow(*chance.pick(&[20, 150, 600]).unwrap_or(&20)),
            4 => Self::StoreRefuses(often()),
            5 | 6 => Self::StoreUnanswered(rarely()),
            7..=9 => Self::StoreLate(rarely()),
            10 => Self::AnswersLost(rarely()),
            11 => Self::CallsSlow(*chance.pick(&[20, 120, 1_000]).unwrap_or(&20)),
            12 => Self::Apart(node(), node()),
            13..=15 => Self::Killed(node(), chance.below(400)),
            16 => Self::AllKilled(chance.below(50)),
            17 => Self::Stopped(node()),
            18 => Self::Leaves(node()),
            _ => Self::ClockJumps(node(), i64::try_from(chance.below(20_000)).unwrap_or_default() - 10_000),
        };
        let for_ms = match fault {
            // Sometimes so long that others see to what it has left.
            Self::Killed(..) | Self::AllKilled(_) | Self::Stopped(_) | Self::Leaves(_) => {
                *chance.pick(&[20, 300, 1_500, 4_000, 16_000]).unwrap_or(&20)
            }
            _ => *chance.pick(&[200, 1_000, 3_000]).unwrap_or(&200),
        };
        (fault, for_ms)
    }
}

impl Scenario {
    /// What this seed plays.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let chance = Chance::of(seed, "scenario");
        let load_ms = *chance.pick(&[1_000, 2_500, 5_000]).unwrap_or(&2_500);
        let whole = Mix::whole();
        let actors: Vec<Actor> = chance.some(whole.actors, 2);
        let readers = chance.some(whole.readers, 1);
        let mix = Mix { actors, readers, slower: chance.between(4, 12) };
        let faults = (0..chance.below(7)).map(|_| {
            let (fault, for_ms) = Fault::any(&chance);
            Planned { at_ms: chance.below(load_ms), for_ms, fault }
        });
        let mut faults: Vec<Planned> = faults.collect();
        faults.sort_by_key(|planned| planned.at_ms);
        let put_off = *chance.pick(&[0, 4, 16, 64]).unwrap_or(&0);
        Self { seed, mix, load_ms, faults, put_off }
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
        let Self { seed, mix, load_ms, faults, put_off } = self;
        writeln!(f, "seed {seed}, {load_ms} ms, one step of {put_off} is put off (0: none)")?;
        writeln!(f, "  actors {:?}, readers {:?}, {} times slower", mix.actors, mix.readers, mix.slower)?;
        for Planned { at_ms, for_ms, fault } in faults {
            writeln!(f, "  {at_ms:>5} ms, for {for_ms} ms: {fault:?}")?;
        }
        Ok(())
    }
}
