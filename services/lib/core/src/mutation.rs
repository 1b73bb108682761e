//! Bugs that can be planted, so that a test says which of them the simulation finds. Only with the feature `mutations`, which no build
//! of the product has: without it nothing is planted, and asking costs nothing.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are in `ALL`, each with what it is")]
pub enum Mutation {
    PlainAppend,
    AnswerBeforeAppend,
    UnknownIsLost,
    FenceByRead,
    FenceKeepsEpoch,
    FenceOnFullBucket,
    LoadUnfenced,
    LoadForgetsRows,
    NoOldTransactions,
    RefuseByMemory,
    AnswerBeforeProjection,
    GroupAcrossBuckets,
    NoActivation,
    SlotsLeftOpen,
    DrainedUnseen,
    LeftUnprojected,
    PurgeDropsHead,
    SealIsEpoch,
    ClosedByBus,
    ForwardedAgain,
    NodesUnwritten,
    GapIgnored,
    FlushUnderWay,
    SilentTrusted,
    NotTold,
    MapByLast,
    AbsentIsUnmoved,
    OvertakenReadKept,
    ReadUnderWayShared,
    MarkUnmoved,
    AccessByMap,
    SnapshotChanged,
    AppendUntold,
    InboxKnowsNothing,
    InboxPageFromHead,
    InboxTrimmedWhole,
    KeyByRead,
    KeyGivenUnknown,
    FoundWithoutKeys,
    JoinUnseen,
    FreshJobCleared,
    HeadBeforeRows,
    TokenBehind,
    TokenAhead,
    LeaveIsOver,
    WatchStays,
    StaysByMembership,
    HiddenIsTold,
    UnreadRejoin,
    SummaryStale,
    InvitationUntold,
    ReceiptUntold,
    PurgedReceiptsStay,
    PurgedStateStays,
    PurgedRedactionsStay,
    UndoneIsShown,
    ForgottenForEver,
    ExMemberReads,
    PrivateIsShown,
    StateTwice,
    LookAlikes,
    ListsUntold,
    MembersInGap,
    ForgetCleared,
    RedactionSubtracted,
    LastWriteStays,
    SameLife,
    FinishedForGood,
    BeyondTheEndStays,
    DeletionForgotten,
}

/// All of them, with what each is.
pub const ALL: &[(Mutation, &str)] = &[
    (Mutation::PlainAppend, "an append that is not conditional"),
    (Mutation::AnswerBeforeAppend, "an answer before its rows are durable"),
    (Mutation::UnknownIsLost, "an append of unknown outcome that counts as lost"),
    (Mutation::FenceByRead, "a fence replaced by a read"),
    (Mutation::FenceKeepsEpoch, "a fence that doesn't raise the epoch"),
    (Mutation::FenceOnFullBucket, "a fence in a bucket that is full, instead of the next one"),
    (Mutation::LoadUnfenced, "a log that is taken from who is dead, silent or in doubt, without a fence"),
    (Mutation::LoadForgetsRows, "an owner that doesn't read the unprojected rows before its first command"),
    (Mutation::NoOldTransactions, "transactions that are looked for in memory only"),
    (Mutation::RefuseByMemory, "an answer for which nothing is appended, given without a look at the head"),
    (Mutation::AnswerBeforeProjection, "an answer before the projections that it promises"),
    (Mutation::GroupAcrossBuckets, "a group that goes beyond a bucket's end"),
    (Mutation::NoActivation, "a log that is opened without an entry in the registry"),
    (Mutation::SlotsLeftOpen, "a dead process whose slots stay open"),
    (Mutation::DrainedUnseen, "a dead process that is drained without a look at its logs"),
    (Mutation::LeftUnprojected, "rows of another process that a load doesn't project"),
    (Mutation::PurgeDropsHead, "a purge that deletes the heads with the rows"),
    (Mutation::SealIsEpoch, "a seal that counts as an epoch"),
    (Mutation::ClosedByBus, "a process that is closed because it isn't heard on the bus"),
    (Mutation::ForwardedAgain, "a call that was handed on and is handed on again"),
    (Mutation::NodesUnwritten, "a state whose nodes count as written though their write failed"),
    (Mutation::GapIgnored, "a digest's gap that is ignored"),
    (Mutation::FlushUnderWay, "a request that joins a flush under way"),
    (Mutation::SilentTrusted, "a silent process whose logs count as unmoved"),
    (Mutation::NotTold, "a write that others aren't told of"),
    (Mutation::MapByLast, "a head map set by what came last, not by what is greatest"),
    (Mutation::AbsentIsUnmoved, "a log that is absent in the head map and counts as unmoved"),
    (Mutation::OvertakenReadKept, "a read that was overtaken and is kept"),
    (Mutation::ReadUnderWayShared, "a read that joins one under way"),
    (Mutation::MarkUnmoved, "a mark that others' writes don't move"),
    (Mutation::AccessByMap, "access decided by what is known of the room, without asking whether it moved"),
    (Mutation::SnapshotChanged, "a token's snapshot that is changed in place"),
    (Mutation::AppendUntold, "an append that nobody is told of, the own head map neither"),
    (Mutation::InboxKnowsNothing, "an inbox that doesn't know its messages"),
    (Mutation::InboxPageFromHead, "a place in the inbox beyond the messages that were given"),
    (Mutation::InboxTrimmedWhole, "an inbox that is deleted beyond what was acknowledged"),
    (Mutation::KeyByRead, "a one-time key that is claimed by a read and then a write"),
    (Mutation::KeyGivenUnknown, "a one-time key that is given though its claim isn't known to stand"),
    (Mutation::FoundWithoutKeys, "a device that is found before its one-time keys are there"),
    (Mutation::JoinUnseen, "a join after which nobody looks whether it shows who the user is by then"),
    (Mutation::FreshJobCleared, "work that is taken off a record though it was given again since"),
    (Mutation::HeadBeforeRows, "a place at a head of which not all rows were seen"),
    (Mutation::TokenBehind, "a place in a room before the rows that were told"),
    (Mutation::TokenAhead, "a place in a room beyond the rows that were told"),
    (Mutation::LeaveIsOver, "a room that goes from the token without its leave"),
    (Mutation::WatchStays, "a sync that has ended and is still woken"),
    (Mutation::StaysByMembership, "who left and came back between two syncs, and counts as having stayed"),
    (Mutation::HiddenIsTold, "what was said while somebody was out of a room that hides it, and is told after"),
    (Mutation::UnreadRejoin, "a count of what is unread that is kept over a leave and a join"),
    (Mutation::SummaryStale, "a summary of a room that isn't told anew when a membership changes"),
    (Mutation::InvitationUntold, "an invitation that isn't told"),
    (Mutation::ReceiptUntold, "a receipt that other processes aren't told of"),
    (Mutation::PurgedReceiptsStay, "receipts that a purge leaves"),
    (Mutation::PurgedStateStays, "states of earlier rows that a purge leaves"),
    (Mutation::PurgedRedactionsStay, "redactions that a purge leaves"),
    (Mutation::UndoneIsShown, "a timeline that shows state which something hidden has undone"),
    (Mutation::ForgottenForEver, "a room that stays forgotten for who has come back since"),
    (Mutation::ExMemberReads, "the state of now for who has left the room"),
    (Mutation::PrivateIsShown, "a private receipt that others are shown"),
    (Mutation::StateTwice, "a state section with what was before beside what is"),
    (
        Mutation::LookAlikes,
        "rows of another one that count as those of an append of unknown outcome, since they look alike",
    ),
    (Mutation::ListsUntold, "devices that changed, of which nobody is told"),
    (Mutation::MembersInGap, "members that are loaded lazily, and whose changes aren't told"),
    (Mutation::ForgetCleared, "a forgotten room that an older leave brings back"),
    (Mutation::RedactionSubtracted, "a redaction that is subtracted also from what was read"),
    (Mutation::LastWriteStays, "a projection by the time at which it is written"),
    (Mutation::SameLife, "a store that was put back from a backup and goes on in the life that it had"),
    (Mutation::FinishedForGood, "a backup in which runs count as finished that were when the registry was copied"),
    (Mutation::BeyondTheEndStays, "buckets of a log that stay beyond the end of a backup"),
    (Mutation::DeletionForgotten, "rows that are written where a deletion still hides them"),
];

#[cfg(feature = "mutations")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in what this thread does from now on, or none.
#[cfg(feature = "mutations")]
pub fn plant(mutation: Option<Mutation>) {
    PLANTED.set(mutation);
}

/// Whether a bug is planted.
#[cfg(feature = "mutations")]
#[must_use]
pub fn planted(mutation: Mutation) -> bool {
    PLANTED.get() == Some(mutation)
}

/// Whether a bug is planted: none is.
#[cfg(not(feature = "mutations"))]
#[must_use]
#[inline]
pub const fn planted(_: Mutation) -> bool {
    false
}
