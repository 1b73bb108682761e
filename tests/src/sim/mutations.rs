//! Bugs that are planted: what the invariants don't find they don't prove.
//!
//! Five that one might plant do no harm, and so are none:
//! - A silent or closed process's room that is taken without a fence. Its append is conditional on the same head as the successor's, so
//!   that one of the two is lost; what a silent one has under way it settles itself by a fence, what a dead one has is fenced by whoever
//!   finishes it; and what nothing is appended for is answered only after a look at the head. Planted is what protects there: no load
//!   fences ([`Mutation::LoadUnfenced`]).
//! - A state node that isn't written because a read says that it is there. All that a node holds are ids of events, which no two attempts
//!   at an append share; so whoever writes the same one again has written it before, or waits for it. Only what drops nodes, a purge in
//!   place, makes that a loss. Planted is an append that doesn't wait for its nodes ([`Mutation::NodesUnwritten`]).
//! - Access decided from the head map behind the flush with which every request begins: the map knows then what was acknowledged to
//!   anybody. Planted is the map without the flush ([`Mutation::AccessByMap`]).
//! - A plain write on a log table. No store is asked for it: what a table takes is decided before (`polity_store::check`), for each of
//!   them alike, and a write of another kind is refused (the conformance suite asks every store).
//! - A digest that is dropped for an entry of a later version. Who can't follow a process by what it tells counts it as silent, and reads
//!   what it may have written: slow, and right.
//!
//! Slots that are read before they are closed chance finds too seldom: planted is that none is closed ([`Mutation::SlotsLeftOpen`]), and the
//! order is played step by step in `log/src/tests/ordered.rs`. And what isn't there can't be broken: marks of destinations that owe something
//! come with federation (what a record owes its rooms is there: [`Mutation::FreshJobCleared`]).

use polity_core::mutation::{Mutation, plant};

use super::{Scenario, beginning::Beginning, kinds, play, restored};

/// By which seed each was found when that was looked for last. Tried first, so that planting all of them takes seconds; whatever changes
/// what a seed plays makes some of these useless, and a search necessary.
const FOUND_BY: &[(Mutation, u64)] = &[
    (Mutation::PlainAppend, 5),
    (Mutation::AnswerBeforeAppend, 7),
    (Mutation::UnknownIsLost, 71),
    (Mutation::FenceByRead, 52),
    (Mutation::LoadForgetsRows, 122),
    (Mutation::NoOldTransactions, 68),
    (Mutation::AnswerBeforeProjection, 13),
    (Mutation::NoActivation, 15),
    (Mutation::PurgeDropsHead, 5),
    (Mutation::SealIsEpoch, 5),
    (Mutation::SlotsLeftOpen, 1),
    (Mutation::DrainedUnseen, 11),
    (Mutation::LeftUnprojected, 30),
    (Mutation::GapIgnored, 1611),
    (Mutation::FlushUnderWay, 10),
    (Mutation::SilentTrusted, 268),
    (Mutation::NotTold, 3),
    (Mutation::MapByLast, 128),
    (Mutation::AbsentIsUnmoved, 2),
    (Mutation::AppendUntold, 2),
    (Mutation::InboxKnowsNothing, 256),
    (Mutation::InboxPageFromHead, 123),
    (Mutation::InboxTrimmedWhole, 16),
    (Mutation::KeyByRead, 1),
    (Mutation::KeyGivenUnknown, 42),
    (Mutation::FoundWithoutKeys, 13),
    (Mutation::FreshJobCleared, 41),
    (Mutation::HeadBeforeRows, 71),
    (Mutation::TokenBehind, 1),
    (Mutation::TokenAhead, 1),
    (Mutation::LeaveIsOver, 2),
    (Mutation::WatchStays, 1),
    (Mutation::RedactionSubtracted, 14),
    (Mutation::LastWriteStays, 8),
    (Mutation::FenceKeepsEpoch, 52),
    (Mutation::FenceOnFullBucket, 563),
    (Mutation::LoadUnfenced, 66),
    (Mutation::ForgetCleared, 3),
    (Mutation::RefuseByMemory, 200),
    (Mutation::GroupAcrossBuckets, 45),
    (Mutation::MarkUnmoved, 3),
    (Mutation::AccessByMap, 3),
    (Mutation::SnapshotChanged, 1),
    (Mutation::ClosedByBus, 22),
    (Mutation::NodesUnwritten, 46),
    (Mutation::ForwardedAgain, 169),
    (Mutation::ReadUnderWayShared, 266),
    (Mutation::SameLife, 1),
    (Mutation::FinishedForGood, 32),
    (Mutation::BeyondTheEndStays, 46),
    (Mutation::DeletionForgotten, 177),
    (Mutation::OvertakenReadKept, 785),
    (Mutation::JoinUnseen, 7),
    (Mutation::StaysByMembership, 2),
    (Mutation::HiddenIsTold, 20),
    (Mutation::UnreadRejoin, 2),
    (Mutation::SummaryStale, 2),
    (Mutation::InvitationUntold, 2),
    (Mutation::ReceiptUntold, 802),
    (Mutation::UndoneIsShown, 313),
    (Mutation::ForgottenForEver, 2),
    (Mutation::ExMemberReads, 2),
    (Mutation::PrivateIsShown, 42),
    (Mutation::StateTwice, 313),
    (Mutation::PurgedReceiptsStay, 35),
    (Mutation::PurgedStateStays, 35),
    (Mutation::ListsUntold, 1),
    (Mutation::MembersInGap, 16),
    (Mutation::LookAlikes, 1267),
    (Mutation::PurgedRedactionsStay, 35),
];

/// Each must be found by one of the first 2,000 seeds.
const _: () = {
    let mut at = 0;
    while at < FOUND_BY.len() {
        assert!(FOUND_BY[at].1 <= 2_000);
        at += 1;
    }
};

/// Those of a store that was put back from a backup.
const RESTORED: &[Mutation] =
    &[Mutation::SameLife, Mutation::FinishedForGood, Mutation::BeyondTheEndStays, Mutation::DeletionForgotten];

/// A bug that was found.
#[derive(Debug)]
pub struct Caught {
    /// By which seed.
    pub seed: u64,
    /// Whether that one was tried first, as it had found it before.
    pub known: bool,
    /// As what.
    pub fault: String,
}

/// What a seed plays to find a bug; `None`: the restore of that seed.
#[must_use]
pub fn scenario(mutation: Mutation, seed: u64) -> Option<Scenario> {
    match mutation {
        _ if RESTORED.contains(&mutation) => None,
        // So much must come together for it that some two hundred scenarios are played in vain, and of 2,000 seeds eighty play one.
        Mutation::OvertakenReadKept => Some(kinds::overtaken_of(seed)),
        // Three names must come to a room in the wrong order: one in some hundred of its own kind brings that about.
        Mutation::JoinUnseen => Some(kinds::names_of(seed)),
        _ => Some(Scenario::of(seed)),
    }
}

/// Looks for a planted bug: with the seed that found it before, then with so many, from `first` on.
///
/// # Errors
/// A seed that finds something without a bug, too.
pub fn catch(mutation: Mutation, first: u64, seeds: u64) -> Result<Option<Caught>, String> {
    // What all begin with has no bug.
    for nearly_full in [false, true] {
        Beginning::get(nearly_full);
    }
    let known = FOUND_BY.iter().filter(|(bug, _)| *bug == mutation).map(|(_, seed)| (*seed, true));
    let play = |seed| scenario(mutation, seed).map_or_else(|| restored(seed), |scenario| play(&scenario));
    for (seed, known) in known.chain((first..first + seeds).map(|seed| (seed, false))) {
        plant(Some(mutation));
        let outcome = play(seed);
        plant(None);
        let Some(fault) = outcome.fault else { continue };
        return match play(seed).fault {
            None => Ok(Some(Caught { seed, known, fault })),
            Some(fault) => Err(format!("seed {seed} fails without a bug: {fault}")),
        };
    }
    Ok(None)
}
