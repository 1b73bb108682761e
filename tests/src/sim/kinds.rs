//! Scenarios that are made for one kind of trouble, which chance alone brings about too seldom: some seeds play one of these. They draw from
//! a stream of their own, so that a new kind changes no other seed.

use super::{
    chance::Chance,
    scenario::{Fault, OF_A_TIER, Planned, Scenario},
};
use crate::load::{Actor, Mix};

/// Of so many seeds one plays each kind.
const RARE: u64 = 50;
/// For how long these last, in milliseconds: longer than anybody's patience.
const LONG_MS: u64 = 7_000;
const SHORT_MS: u64 = 3_000;
const READS_MS: u64 = 5_000;
const CROWD_MS: u64 = 300;
const OVERTAKEN_MS: u64 = 9_000;
/// How slow reads of logs are, at most: so much that something happens meanwhile, and no more, or too little is read for anything to be
/// known (twice as slow, no kept read that was overtaken is found).
const LOG_READS_MS: u64 = 350;

/// What this seed plays, if that is made for one kind of trouble.
pub(super) fn of(seed: u64) -> Option<Scenario> {
    let chance = Chance::of(seed, "kind");
    let kind = match chance.below(RARE) {
        0 => owners_apart,
        1 => last_words,
        2 | 7 => at_the_brim,
        3 => crowd_at_the_brim,
        4 | 8 => slow_reads,
        5 => without_the_bus,
        6 => owners_change,
        9 => gaps,
        10 | 11 => overtaken,
        12 | 13 => names,
        14 | 15 => devices,
        _ => return None,
    };
    Some(made(seed, &chance, kind))
}

/// One in which reads are overtaken, whatever the seed plays else.
#[cfg(feature = "mutations")]
pub(super) fn overtaken_of(seed: u64) -> Scenario {
    made(seed, &Chance::of(seed, "overtaken"), overtaken)
}

/// One in which names change, whatever the seed plays else.
#[cfg(feature = "mutations")]
pub(super) fn names_of(seed: u64) -> Scenario {
    made(seed, &Chance::of(seed, "names"), names)
}

fn made(seed: u64, chance: &Chance, kind: fn(&Chance, &mut Scenario)) -> Scenario {
    let mut scenario = Scenario { seed, put_off: *chance.pick(&[0, 16, 64]).unwrap_or(&0), ..Scenario::calm() };
    kind(chance, &mut scenario);
    let ends = |planned: &Planned| planned.at_ms + planned.for_ms;
    scenario.load_ms = scenario.faults.iter().map(ends).max().unwrap_or(SHORT_MS) + 300;
    scenario
}

/// For all of the time there is this.
fn all_along(scenario: &mut Scenario, for_ms: u64, faults: impl IntoIterator<Item = Fault>) {
    scenario.faults.extend(faults.into_iter().map(|fault| Planned { at_ms: 0, for_ms, fault }));
}

fn mix(actors: Vec<Actor>, readers: Vec<usize>, slower: u64) -> Mix {
    Mix { actors, readers, slower, crowd: false }
}

/// Two processes that write rooms don't reach each other, and each is reached by others: each takes rooms from the other one.
fn owners_apart(chance: &Chance, scenario: &mut Scenario) {
    let others = [Actor::Writer(1), Actor::Writer(2), Actor::Guest];
    let mut actors = chance.some(others.to_vec(), 1);
    actors.push(Actor::Barred);
    scenario.mix = mix(actors, chance.some(vec![0, 2], 1), chance.between(4, 12));
    let client = OF_A_TIER + usize::from(chance.one_in(2));
    let mut faults = vec![Fault::Apart(0, 1), Fault::Apart(usize::from(chance.one_in(2)), client)];
    if chance.one_in(2) {
        faults.push(Fault::CallsSlow(120));
    }
    all_along(scenario, LONG_MS, faults);
    scenario.tight = chance.one_in(3);
}

/// Those who answer clients don't always reach the same process that writes rooms, and calls are slow: a room changes hands while it is
/// asked for.
fn owners_change(chance: &Chance, scenario: &mut Scenario) {
    scenario.mix = mix((0..4).map(Actor::Writer).collect(), vec![0], chance.between(2, 6));
    scenario.mix.crowd = true;
    let slow = *chance.pick(&[120, 400]).unwrap_or(&120);
    all_along(scenario, LONG_MS, [Fault::CallsSlow(slow)]);
    for _ in 0..5 {
        let client = OF_A_TIER + usize::from(chance.one_in(2));
        let fault = Fault::Apart(usize::from(chance.one_in(2)), client);
        scenario.faults.push(Planned { at_ms: chance.below(LONG_MS), for_ms: chance.between(300, 2_500), fault });
    }
    scenario.faults.sort_by_key(|planned| planned.at_ms);
}

/// All die with whoever waits for a write that is late, and nobody goes on where that lands.
fn last_words(chance: &Chance, scenario: &mut Scenario) {
    scenario.mix = mix(vec![Actor::LastWords], Vec::new(), chance.between(1, 4));
    let dies = [Fault::AllDieWaiting(60), Fault::AllDieWaiting(120), Fault::DiesWaiting(120)];
    all_along(scenario, LONG_MS, chance.pick(&dies).cloned());
    scenario.tight = chance.one_in(3);
}

/// The same where a bucket ends.
fn at_the_brim(chance: &Chance, scenario: &mut Scenario) {
    last_words(chance, scenario);
    scenario.faults.clear();
    all_along(scenario, 2_000, [Fault::AllDieWaiting(300)]);
    scenario.long = true;
}

/// Many write to one room whose bucket is nearly full, so that groups come to its end.
fn crowd_at_the_brim(chance: &Chance, scenario: &mut Scenario) {
    scenario.mix = mix((0..4).map(Actor::Writer).collect(), vec![0], 1);
    scenario.mix.crowd = true;
    let slow = *chance.pick(&[20, 60, 150]).unwrap_or(&60);
    all_along(scenario, CROWD_MS, [Fault::StoreSlow(slow)]);
    if chance.one_in(3) {
        all_along(scenario, CROWD_MS, [Fault::StoreUnanswered(60)]);
    }
    scenario.long = true;
}

/// Reads take long, whoever makes them has just begun or doesn't reach for a moment who writes, and so knows nothing, and the bus doesn't say
/// what they miss.
fn slow_reads(chance: &Chance, scenario: &mut Scenario) {
    let mut actors = vec![Actor::Writer(0), Actor::Writer(2), Actor::Barred];
    if chance.one_in(2) {
        actors.push(Actor::Guest);
    }
    scenario.mix = mix(actors, chance.some(vec![0, 2, 3, 0], 3), chance.between(4, 10));
    let slow = [Fault::StoreSlow(150), Fault::LogReadsSlow(150), Fault::LogReadsSlow(LOG_READS_MS)];
    all_along(scenario, READS_MS, chance.pick(&slow).cloned().into_iter().chain([Fault::BusLoses(1000)]));
    let any = || usize::from(chance.one_in(2));
    for _ in 0..chance.between(1, 3) {
        let fault = Fault::Killed(OF_A_TIER + any(), chance.below(100));
        scenario.faults.push(Planned { at_ms: chance.below(READS_MS), for_ms: 20, fault });
    }
    for _ in 0..chance.between(2, 6) {
        let fault = Fault::Apart(any(), OF_A_TIER + any());
        scenario.faults.push(Planned { at_ms: chance.below(READS_MS), for_ms: chance.between(50, 300), fault });
    }
    scenario.faults.sort_by_key(|planned| planned.at_ms);
}

/// The bus loses every other message, and so little is asked for that what was lost isn't asked for before more is told.
fn gaps(chance: &Chance, scenario: &mut Scenario) {
    scenario.mix = mix(vec![Actor::Writer(1), Actor::Writer(2)], vec![0], chance.between(4, 60));
    let often = *chance.pick(&[300, 500, 700]).unwrap_or(&500);
    all_along(scenario, READS_MS, [Fault::BusLoses(often)]);
}

/// Logs are read again and again, since little of them is remembered, so slowly that what is written meanwhile is told first; and so little
/// is written that a sync begins and ends before something else would tell of it. (It takes some hundred of these for one in which all of
/// that comes together.)
fn overtaken(chance: &Chance, scenario: &mut Scenario) {
    scenario.mix = mix((0..4).map(Actor::Writer).collect(), vec![0], chance.between(30, 100));
    all_along(scenario, OVERTAKEN_MS, [Fault::LogReadsSlow(LOG_READS_MS)]);
    scenario.forgetful = true;
}

/// Names change while rooms are given those before, and rows of a change are seen one after the other.
fn names(chance: &Chance, scenario: &mut Scenario) {
    // Devices that come keep something due for some seconds, so that what else is due isn't looked at at once.
    scenario.mix = mix(vec![Actor::Profile, Actor::Keys, Actor::Sessions], Vec::new(), chance.between(1, 4));
    let slow = *chance.pick(&[20, 60, 150]).unwrap_or(&60);
    all_along(scenario, READS_MS, [Fault::StoreSlow(slow)]);
}

/// Members who are followed come and go, and rows are seen before what is made of them.
fn devices(chance: &Chance, scenario: &mut Scenario) {
    let mut actors = chance.some(vec![Actor::Sessions, Actor::Keys], 2);
    actors.push(Actor::Devices);
    scenario.mix = mix(actors, Vec::new(), chance.between(1, 6));
    let slow = *chance.pick(&[60, 150, 600]).unwrap_or(&60);
    all_along(scenario, READS_MS, [Fault::StoreSlow(slow)]);
    if chance.one_in(2) {
        all_along(scenario, READS_MS, [Fault::StoreTorn(60)]);
    }
}

/// Nothing goes wrong but the bus.
fn without_the_bus(chance: &Chance, scenario: &mut Scenario) {
    let others = [Actor::Guest, Actor::Receipts, Actor::AccountData, Actor::Writer(0), Actor::Keys];
    let mut actors = chance.some(others.to_vec(), 2);
    actors.push(Actor::Barred);
    scenario.mix = mix(actors, chance.some(vec![0, 3], 1), chance.between(20, 60));
    let faults = [Fault::BusLoses(1000), Fault::BusLate(2_000), Fault::Deaf(0), Fault::Mute(1), Fault::Mute(2)];
    let for_ms = *chance.pick(&[5_000, 14_000]).unwrap_or(&5_000);
    all_along(scenario, for_ms, chance.some(faults.to_vec(), 1));
}
