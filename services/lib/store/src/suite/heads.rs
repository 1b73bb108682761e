//! One head, several writers: exactly one wins, and a fence holds.

use std::sync::Arc;

use super::{
    Subject,
    rows::{append, get, head, head_of, on_head, row},
};
use crate::{Cas, Change, Expect, Store, Values, schema, values_of};

async fn race(on: Subject, writers: usize) {
    let log: Values = values_of![on.tenant, on.log(1), 0_i64];
    let mut expect = Expect::Absent;
    for seq in 1..=i64::try_from(on.sizes.rounds).expect("few rounds") {
        let attempts = (0..writers).map(|writer| {
            let (store, log) = (Arc::clone(&on.store), log.clone());
            polity_core::tasks::spawn(async move {
                let name = format!("writer {writer}");
                let won = append(&*store, &log, expect, head(seq, 1, &name), vec![row(seq, &name)]).await;
                (name, won.expect("an answer"))
            })
        });
        let outcomes = futures_util::future::join_all(attempts).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("a writer")).collect();
        let winners: Vec<&String> =
            outcomes.iter().filter(|(_, cas)| *cas == Cas::Applied).map(|(name, _)| name).collect();
        let [winner] = winners[..] else { panic!("round {seq}: {winners:?} won") };
        for (name, outcome) in &outcomes {
            let stands = Cas::Refused(Some(head(seq, 1, winner)));
            assert!(name == winner || *outcome == stands, "round {seq}: {name} saw {outcome:?}");
        }
        let found = get(&*on.store, &schema::LOG, &log, values_of![seq]).await;
        assert_eq!(found, Some(trimmed(row(seq, winner))), "round {seq}");
        expect = Expect::Guards(seq, 1);
    }
}

/// As a store gives it back.
fn trimmed(mut row: crate::Row) -> crate::Row {
    while row.columns.last().is_some_and(Option::is_none) {
        row.columns.pop();
    }
    row
}

/// In every round one of two writers wins, and the other sees its head.
pub async fn two_writers_race_for_one_head(on: Subject) {
    race(on, 2).await;
}

/// In every round one of eight writers wins.
pub async fn eight_writers_race_for_one_head(on: Subject) {
    let rounds = on.sizes.rounds / 4;
    race(Subject { sizes: super::Sizes { rounds, ..on.sizes.clone() }, ..on }, 8).await;
}

/// An append under the old epoch that starts after the fence never lands, however often it is tried; one that came before it is
/// seen by the fence.
pub async fn a_fence_stops_an_append_that_starts_after_it(on: Subject) {
    let (store, log) = (&*on.store, values_of![on.tenant, on.log(2), 0_i64]);
    append(store, &log, Expect::Absent, head(1, 1, "old"), vec![row(1, "first")]).await.expect("an append");
    // A serial read stops nobody: this append begins after it and lands.
    assert_eq!(head_of(store, &log).await, Some(head(1, 1, "old")));
    let late = append(store, &log, Expect::Guards(1, 1), head(2, 1, "old"), vec![row(2, "late")]).await;
    assert_eq!(late.expect("an answer"), Cas::Applied);
    // So the fence by what was read is refused, and says why.
    let fence = append(store, &log, Expect::Guards(1, 1), head(1, 2, "new"), Vec::new()).await;
    assert_eq!(fence.expect("an answer"), Cas::Refused(Some(head(2, 1, "old"))));
    let fence = append(store, &log, Expect::Guards(2, 1), head(2, 2, "new"), Vec::new()).await;
    assert_eq!(fence.expect("an answer"), Cas::Applied);
    for _ in 0..3 {
        let late = append(store, &log, Expect::Guards(2, 1), head(3, 1, "old"), vec![row(3, "too late")]).await;
        assert_eq!(late.expect("an answer"), Cas::Refused(Some(head(2, 2, "new"))));
    }
    assert!(get(store, &schema::LOG, &log, values_of![3_i64]).await.is_none());
    assert!(get(store, &schema::LOG, &log, values_of![2_i64]).await.is_some());
}

/// A fence and an append at once: once the fence is known to be applied, the append is in the log below it, or never.
pub async fn a_fence_and_an_append_race(on: Subject) {
    let log: Values = values_of![on.tenant, on.log(3), 0_i64];
    append(&*on.store, &log, Expect::Absent, head(0, 1, "old"), Vec::new()).await.expect("a head");
    let (mut seq, mut landed) = (0, 0);
    for epoch in 1..=i64::try_from(on.sizes.rounds / 4).expect("few rounds") {
        let late = {
            let (store, log) = (Arc::clone(&on.store), log.clone());
            polity_core::tasks::spawn(async move {
                append(
                    &*store,
                    &log,
                    Expect::Guards(seq, epoch),
                    head(seq + 1, epoch, "old"),
                    vec![row(seq + 1, "late")],
                )
                .await
            })
        };
        let fenced = fence(&*on.store, &log, seq, epoch).await;
        let in_time = late.await.expect("a writer").expect("an answer") == Cas::Applied;
        assert_eq!(in_time, fenced == seq + 1, "epoch {epoch}: the fence stands at {fenced}");
        let stands = head_of(&*on.store, &log).await.and_then(|head| head.guards);
        assert_eq!(stands, Some((fenced, epoch + 1)));
        assert_eq!(get(&*on.store, &schema::LOG, &log, values_of![seq + 1]).await.is_some(), in_time);
        landed += usize::from(in_time);
        seq = fenced;
    }
    assert_eq!(seq, i64::try_from(landed).expect("few rounds"));
}

/// Raises the epoch, over whatever lands meanwhile; where the head stands then.
async fn fence(store: &dyn Store, log: &Values, mut seq: i64, epoch: i64) -> i64 {
    loop {
        match append(store, log, Expect::Guards(seq, epoch), head(seq, epoch + 1, "new"), Vec::new()).await {
            Ok(Cas::Applied) => return seq,
            Ok(Cas::Refused(Some(now))) => seq = now.guards.expect("a head").0,
            other => panic!("a fence: {other:?}"),
        }
    }
}

/// The append that fills a bucket is followed by one that makes the next, once.
pub async fn a_bucket_rolls_over(on: Subject) {
    let bucket = |number: i64| -> Values { values_of![on.tenant, on.log(4), number] };
    let store = &*on.store;
    let rows = (1000..=1023).map(|seq| row(seq, "old")).collect();
    append(store, &bucket(0), Expect::Absent, head(1023, 1, "a"), rows).await.expect("an append");
    let next =
        append(store, &bucket(1), Expect::Absent, head(1025, 1, "a"), vec![row(1024, "x"), row(1025, "y")]).await;
    assert_eq!(next.expect("an answer"), Cas::Applied);
    let again = append(store, &bucket(1), Expect::Absent, head(1024, 1, "b"), vec![row(1024, "z")]).await;
    assert_eq!(again.expect("an answer"), Cas::Refused(Some(head(1025, 1, "a"))));
    assert_eq!(head_of(store, &bucket(0)).await, Some(head(1023, 1, "a")));
    let found = get(store, &schema::LOG, &bucket(1), values_of![1024_i64]).await;
    assert_eq!(found.map(|row| row.value), Some("x".into()));
}

/// A fence on a full bucket stands in the next one, where the stale writer's next append would go.
pub async fn a_full_bucket_is_fenced_under_a_stale_writer(on: Subject) {
    let bucket = |number: i64| -> Values { values_of![on.tenant, on.log(5), number] };
    let store = &*on.store;
    append(store, &bucket(0), Expect::Absent, head(1023, 1, "stale"), vec![row(1023, "last")])
        .await
        .expect("an append");
    let fence = vec![Change::Put(head(1023, 2, "new"))];
    let fenced = store.cas(&schema::LOG, bucket(1), on_head(Expect::Absent), fence).await;
    assert_eq!(fenced.expect("an answer"), Cas::Applied);
    let stale = append(store, &bucket(1), Expect::Absent, head(1024, 1, "stale"), vec![row(1024, "stale")]).await;
    assert_eq!(stale.expect("an answer"), Cas::Refused(Some(head(1023, 2, "new"))));
    assert!(get(store, &schema::LOG, &bucket(1), values_of![1024_i64]).await.is_none());
    let new = append(store, &bucket(1), Expect::Guards(1023, 2), head(1024, 2, "new"), vec![row(1024, "new")]).await;
    assert_eq!(new.expect("an answer"), Cas::Applied);
    let found = get(store, &schema::LOG, &bucket(1), values_of![1024_i64]).await;
    assert_eq!(found.map(|row| row.value), Some("new".into()));
}
