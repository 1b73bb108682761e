//! What was acknowledged is there after the store was opened again.

use std::sync::Arc;

use super::{
    Subject,
    rows::{append, forever, get, head, head_of, plain, put, row, scan_all, stamp, write},
};
use crate::{Bounds, Cas, Durability, Expect, Values, schema, values_of};

/// One write of each kind, then another life of the process.
pub async fn what_was_acknowledged_is_there_after_reopening(on: Subject) {
    let (log, user): (Values, Values) = (values_of![on.tenant, on.log(1), 0_i64], values_of![on.tenant, "@a:x"]);
    let Subject { store, backend, .. } = on;
    let incarnation = store.incarnation();
    append(&*store, &log, Expect::Absent, head(2, 1, "a"), vec![row(1, "x"), row(2, "y")]).await.expect("an append");
    put(&*store, vec![write(&schema::FILTERS, &user, plain(values_of!["f"], "plain"), forever())]).await;
    put(&*store, vec![write(&schema::MEMBERSHIPS, &user, plain(values_of!["!r:x"], "new"), stamp(9))]).await;
    drop(store);
    let store = &*backend.reopen().await;
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(head_of(store, &log).await, Some(head(2, 1, "a")));
    assert_eq!(scan_all(store, &schema::LOG, &log, Bounds::all(), 2).await.len(), 3);
    assert!(get(store, &schema::FILTERS, &user, values_of!["f"]).await.is_some());
    put(store, vec![write(&schema::MEMBERSHIPS, &user, plain(values_of!["!r:x"], "old"), stamp(8))]).await;
    let row = get(store, &schema::MEMBERSHIPS, &user, values_of!["!r:x"]).await.expect("a row");
    assert_eq!(&*row.value, b"new");
    let next = append(store, &log, Expect::Guards(2, 1), head(2, 2, "b"), Vec::new()).await;
    assert_eq!(next.expect("an answer"), Cas::Applied);
}

/// What was written ahead of an append is there with it, for readers at once and after reopening.
pub async fn what_an_append_names_is_there_with_it(on: Subject) {
    let (tenant, id) = (on.tenant, on.log(3));
    let log: Values = values_of![tenant, id, 0_i64];
    let node = |hash: i64| -> Values { values_of![tenant, id, 0_i64, hash.to_be_bytes().to_vec()] };
    let Subject { store, backend, .. } = on;
    let mut expect = Expect::Absent;
    for seq in 1..=20 {
        let ahead = write(&schema::STATE_NODES, &node(seq), plain(Values::new(), "node"), forever());
        store.put(vec![ahead], Durability::Ahead).await.expect("a write");
        let done = append(&*store, &log, expect, head(seq, 1, "a"), vec![row(seq, "x")]).await;
        assert_eq!(done.expect("an answer"), Cas::Applied);
        assert!(get(&*store, &schema::STATE_NODES, &node(seq), Values::new()).await.is_some(), "{seq}");
        expect = Expect::Guards(seq, 1);
    }
    drop(store);
    let reopened = &*backend.reopen().await;
    for seq in 1..=20 {
        assert!(get(reopened, &schema::STATE_NODES, &node(seq), Values::new()).await.is_some(), "{seq}");
    }
}

/// Many writers at once, of logs and of plain rows: nothing that any of them was told is missing.
pub async fn many_writers_share_commits_and_lose_nothing(on: Subject) {
    let (writers, writes) = (on.sizes.writers, on.sizes.writes);
    let logs: Vec<Values> =
        (0..writers).map(|writer| values_of![on.tenant, on.log(2), i64::try_from(writer).expect("few")]).collect();
    let user: Values = values_of![on.tenant, "@shared:x"];
    let tasks = logs.iter().enumerate().map(|(writer, log)| {
        let (store, log, user) = (Arc::clone(&on.store), log.clone(), user.clone());
        polity_core::tasks::spawn(async move {
            let mut expect = Expect::Absent;
            for seq in (1..).take(writes) {
                let done = append(&*store, &log, expect, head(seq, 1, "a"), vec![row(seq, "x")]).await;
                assert_eq!(done.expect("an answer"), Cas::Applied);
                let id: Values = values_of![format!("{writer}/{seq}")];
                put(&*store, vec![write(&schema::FILTERS, &user, plain(id, "x"), forever())]).await;
                expect = Expect::Guards(seq, 1);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a writer");
    }
    drop(on.store);
    let store = &*on.backend.reopen().await;
    for log in &logs {
        let rows = scan_all(store, &schema::LOG, log, Bounds::all(), 100).await;
        assert_eq!(rows.len(), writes + 1, "{log:?}");
    }
    assert_eq!(scan_all(store, &schema::FILTERS, &user, Bounds::all(), 100).await.len(), writers * writes);
}
