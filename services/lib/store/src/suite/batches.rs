//! Conditional writes: whole or not at all, and only where the table allows them.

use super::{
    Subject,
    rows::{append, forever, get, head, head_of, is_misuse, on_head, plain, row, scan, scan_all, stamp, write},
};
use crate::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Row, Table, Value, Values, WriteKind, schema,
    values_of,
};

/// Of a write that is refused nothing is there, of one that is applied everything.
pub async fn all_or_nothing(on: Subject) {
    let (store, log): (_, Values) = (&*on.store, values_of![on.tenant, on.log(1), 0_i64]);
    let group = |text: &str| (1..=64).map(|seq| row(seq, text)).collect::<Vec<_>>();
    let refused = append(store, &log, Expect::Guards(0, 1), head(64, 1, "a"), group("a")).await;
    assert_eq!(refused.expect("an answer"), Cas::Refused(None));
    assert!(scan(store, &schema::LOG, &log, Bounds::all(), 100).await.rows.is_empty());
    let applied = append(store, &log, Expect::Absent, head(64, 1, "b"), group("b")).await;
    assert_eq!(applied.expect("an answer"), Cas::Applied);
    let refused = append(store, &log, Expect::Guards(64, 2), head(65, 2, "c"), group("c")).await;
    assert_eq!(refused.expect("an answer"), Cas::Refused(Some(head(64, 1, "b"))));
    let rows = scan_all(store, &schema::LOG, &log, Bounds::all(), 100).await;
    let wanted: Vec<Row> = group("b").into_iter().chain([head(64, 1, "b")]).collect();
    assert_eq!(rows, wanted);
    // A row with guards is written whole: what it doesn't have any more is null.
    let named = |columns| Row::new(Values::new(), bytes::Bytes::new()).guarded(1, 0).with_columns(columns);
    let name: Values = values_of![on.tenant, "room", "whole"];
    for (expect, columns) in [(Expect::Absent, vec![Some(Value::from(on.log(1)))]), (Expect::Guards(1, 0), Vec::new())]
    {
        let condition = Condition { row: Values::new(), expect };
        let change = vec![Change::Put(named(columns.clone()))];
        let applied = store.cas(&schema::LOG_NAMES, name.clone(), condition, change).await;
        assert_eq!(applied.expect("an answer"), Cas::Applied);
        assert_eq!(get(store, &schema::LOG_NAMES, &name, Values::new()).await, Some(named(columns)));
    }
}

/// Who is refused learns what stands there: nothing, or the row whole.
pub async fn a_refusal_gives_the_row_back(on: Subject) {
    let (store, name): (_, Values) = (&*on.store, values_of![on.tenant, "room", "a"]);
    let named = |life: i64| {
        let columns = vec![Some(Value::from(on.log(2)))];
        Row::new(Values::new(), "value".into()).guarded(life, 0).with_columns(columns)
    };
    let cas = async |expect: Expect, row: Row| {
        let condition = Condition { row: Values::new(), expect };
        store.cas(&schema::LOG_NAMES, name.clone(), condition, vec![Change::Put(row)]).await.expect("an answer")
    };
    assert_eq!(cas(Expect::Guards(1, 0), named(2)).await, Cas::Refused(None));
    assert_eq!(cas(Expect::Absent, named(1)).await, Cas::Applied);
    assert_eq!(cas(Expect::Absent, named(7)).await, Cas::Refused(Some(named(1))));
    for (first, second) in [(1, 1), (0, 0), (0, 1), (i64::MIN, i64::MAX)] {
        assert_eq!(cas(Expect::Guards(first, second), named(7)).await, Cas::Refused(Some(named(1))));
    }
    assert_eq!(cas(Expect::Guards(1, 0), named(2)).await, Cas::Applied);
    assert_eq!(get(store, &schema::LOG_NAMES, &name, Values::new()).await, Some(named(2)));
}

/// The condition's row isn't among the changes: it stays, and others are written beside it, also without guards.
pub async fn a_condition_on_another_row(on: Subject) {
    let (store, slot): (_, Values) = (&*on.store, values_of![on.log(3).as_bytes().to_vec(), 1_i64]);
    let sentinel = |open: i64| Row::new(values_of![""], bytes::Bytes::new()).guarded(open, 0);
    let cas = async |expect: Expect, row: Row| {
        let condition = Condition { row: values_of![""], expect };
        store.cas(&schema::ACTIVE, slot.clone(), condition, vec![Change::Put(row)]).await.expect("an answer")
    };
    let entry = |name: &str| plain(values_of![name], "");
    assert_eq!(cas(Expect::Guards(1, 0), entry("a")).await, Cas::Refused(None));
    assert_eq!(cas(Expect::Absent, sentinel(1)).await, Cas::Applied);
    assert_eq!(cas(Expect::Guards(1, 0), entry("a")).await, Cas::Applied);
    assert_eq!(cas(Expect::Guards(1, 0), entry("a")).await, Cas::Applied);
    assert_eq!(cas(Expect::Guards(1, 0), sentinel(0)).await, Cas::Applied);
    assert_eq!(cas(Expect::Guards(1, 0), entry("b")).await, Cas::Refused(Some(sentinel(0))));
    let rows = scan(store, &schema::ACTIVE, &slot, Bounds::all(), 10).await.rows;
    assert_eq!(rows, [sentinel(0), entry("a")]);
    // A row without guards meets no condition on them.
    let condition = Condition { row: values_of!["a"], expect: Expect::Guards(0, 0) };
    let refused = store.cas(&schema::ACTIVE, slot.clone(), condition, vec![Change::Put(entry("b"))]).await;
    assert_eq!(refused.expect("an answer"), Cas::Refused(Some(entry("a"))));
}

/// A range goes with the write that it belongs to, both ends included, and nothing beside it.
pub async fn ranges_are_deleted_with_the_write(on: Subject) {
    let store = &*on.store;
    let keys: Values = crate::values([on.tenant.into(), "@a:b".into(), "D".into(), "signed".into()]);
    let beside: Values = crate::values([on.tenant.into(), "@a:b".into(), "D".into(), "signed2".into()]);
    let top = |claim: i64| Row::new(values_of![-1_i64], bytes::Bytes::new()).guarded(claim, 10);
    let cas = async |partition: &Values, expect: Expect, changes: Vec<Change>| {
        let condition = Condition { row: values_of![-1_i64], expect };
        store.cas(&schema::ONE_TIME_KEYS, partition.clone(), condition, changes).await
    };
    let all =
        |top: Row| (0..10).map(|at| plain(values_of![at], "key")).chain([top]).map(Change::Put).collect::<Vec<_>>();
    for partition in [&keys, &beside] {
        assert_eq!(cas(partition, Expect::Absent, all(top(0))).await.expect("an answer"), Cas::Applied);
    }
    let gone = |first: i64, last: i64| Change::DeleteRange { first: first.into(), last: last.into() };
    let left = async |partition: &Values| -> Vec<i64> {
        let rows = scan_all(store, &schema::ONE_TIME_KEYS, partition, Bounds::all(), 3).await;
        rows.iter().filter_map(|row| row.key[0].as_int()).collect()
    };
    let refused = cas(&keys, Expect::Guards(9, 9), vec![Change::Put(top(1)), gone(0, 4)]).await;
    assert_eq!(refused.expect("an answer"), Cas::Refused(Some(top(0))));
    assert_eq!(left(&keys).await.len(), 11);
    let changes = vec![gone(2, 4), Change::Put(top(5)), gone(7, 7), Change::Put(plain(values_of![20_i64], "new"))];
    assert_eq!(cas(&keys, Expect::Guards(0, 10), changes).await.expect("an answer"), Cas::Applied);
    assert_eq!(left(&keys).await, [-1, 0, 1, 5, 6, 8, 9, 20]);
    let changes = vec![Change::Put(top(6)), gone(100, 200), gone(5, 4)];
    assert_eq!(cas(&keys, Expect::Guards(5, 10), changes).await.expect("an answer"), Cas::Applied);
    assert_eq!(left(&keys).await, [-1, 0, 1, 5, 6, 8, 9, 20]);
    assert_eq!(left(&beside).await.len(), 11);
    newest_first_ranges(&on).await;
}

async fn newest_first_ranges(on: &Subject) {
    let (store, log): (_, Values) = (&*on.store, values_of![on.tenant, on.log(4), 0_i64]);
    let rows = (1..=9).map(|seq| row(seq, "x")).collect();
    append(store, &log, Expect::Absent, head(9, 1, "a"), rows).await.expect("an append");
    let changes = vec![Change::Put(head(9, 2, "a")), Change::DeleteRange { first: Value::Int(3), last: Value::Int(7) }];
    let done = store.cas(&schema::LOG, log.clone(), on_head(Expect::Guards(9, 1)), changes).await;
    assert_eq!(done.expect("an answer"), Cas::Applied);
    let rows = scan_all(store, &schema::LOG, &log, Bounds::all().reversed(), 2).await;
    let left: Vec<_> = rows.iter().filter_map(|row| row.key[0].as_int()).collect();
    assert_eq!(left, [schema::HEAD_ROW, 9, 8, 2, 1]);
}

/// Each table takes the writes of its kind only, and a refused one leaves nothing.
pub async fn kinds_are_kept_apart(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@kinds:x"]);
    let log: Values = values_of![on.tenant, on.log(5), 0_i64];
    append(store, &log, Expect::Absent, head(1, 1, "a"), vec![row(1, "kept")]).await.expect("an append");
    let kinds = [forever(), WriteKind::Plain { ttl_s: 1 }, WriteKind::Delete, stamp(1 << 49)];
    for kind in kinds {
        let plain_write = write(&schema::LOG, &log, plain(values_of![1_i64], "lost"), kind);
        is_misuse(store.put(vec![plain_write], Durability::Acknowledged).await);
    }
    for kind in &kinds[..3] {
        let wrong = write(&schema::MEMBERSHIPS, &user, plain(values_of!["!a:x"], "x"), *kind);
        is_misuse(store.put(vec![wrong], Durability::Acknowledged).await);
    }
    let wrong = write(&schema::FILTERS, &user, plain(values_of!["f"], "x"), stamp(5));
    is_misuse(store.put(vec![wrong], Durability::Rebuildable).await);
    for table in [&schema::MEMBERSHIPS, &schema::FILTERS] as [&'static Table; 2] {
        let condition = Condition { row: values_of!["a"], expect: Expect::Absent };
        is_misuse(store.cas(table, user.clone(), condition, vec![Change::Put(plain(values_of!["a"], "x"))]).await);
        assert!(scan(store, table, &user, Bounds::all(), 10).await.rows.is_empty());
    }
    is_misuse(store.drop_partition(&schema::MEMBERSHIPS, user.clone()).await);
    is_misuse(store.drop_partition(&schema::EVENTS, user.clone()).await);
    assert_eq!(get(store, &schema::LOG, &log, values_of![1_i64]).await.map(|row| row.value), Some("kept".into()));
}

/// Keys of another shape, a row twice, a row within a range that goes, an absent row that isn't made.
pub async fn what_cql_could_not_say_is_refused(on: Subject) {
    let (store, log): (_, Values) = (&*on.store, values_of![on.tenant, on.log(6), 0_i64]);
    let cas = async |condition: Condition, changes: Vec<Change>| {
        is_misuse(store.cas(&schema::LOG, log.clone(), condition, changes).await);
    };
    let absent = || on_head(Expect::Absent);
    let top = || Change::Put(head(1, 1, "a"));
    cas(absent(), vec![Change::Put(row(1, "no head"))]).await;
    cas(absent(), vec![top(), Change::Put(row(1, "a")), Change::Put(row(1, "b"))]).await;
    let range = |first: i64, last: i64| Change::DeleteRange { first: first.into(), last: last.into() };
    cas(absent(), vec![top(), Change::Put(row(5, "a")), range(1, 5)]).await;
    cas(absent(), vec![top(), range(1, i64::MAX)]).await;
    cas(absent(), vec![top(), Change::DeleteRange { first: "a".into(), last: "b".into() }]).await;
    cas(absent(), vec![top(), Change::Put(plain(values_of!["text"], "a"))]).await;
    cas(absent(), vec![top(), Change::Put(plain(Values::new(), "a"))]).await;
    cas(absent(), vec![top(), Change::Put(row(1, "a").with_columns(vec![Some("text".into())]))]).await;
    cas(absent(), vec![top(), Change::Put(row(1, "a").with_columns(vec![None; schema::LOG.columns.len() + 1]))]).await;
    cas(Condition { row: values_of!["text"], expect: Expect::Absent }, vec![top()]).await;
    assert!(head_of(store, &log).await.is_none());
    is_misuse(store.get(&schema::LOG, values_of![on.tenant], values_of![1_i64], Consistency::Quorum).await);
    is_misuse(store.get(&schema::LOG, log.clone(), Values::new(), Consistency::Quorum).await);
    is_misuse(store.get(&schema::META, values_of![""], Values::new(), Consistency::Quorum).await);
    let bounds = Bounds::prefix(values_of![1_i64, 2_i64]);
    is_misuse(store.scan(&schema::LOG, log.clone(), bounds, 1, Consistency::Quorum).await);
    let guarded =
        write(&schema::FILTERS, &values_of![on.tenant, "a"], plain(values_of!["f"], "x").guarded(1, 1), forever());
    is_misuse(store.put(vec![guarded], Durability::Acknowledged).await);
}
