//! Values and keys at their limits come back; over them nothing is written.

use bytes::Bytes;

use super::{
    Subject,
    rows::{forever, get, head, head_of, is_too_large, on_head, plain, put, row, scan, stamp, write},
};
use crate::{
    Bounds, Cas, Change, Consistency, Durability, Expect, Row, Value, Values, WriteKind,
    check::{KEY_MAX, ROW_MAX, TTL_MAX_S, WRITE_MAX},
    schema, values_of,
};

/// A row of exactly the limit is a row; one byte more, in value or columns, leaves nothing of the whole write.
pub async fn values_at_and_over_their_limit(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@a:x"]);
    let sized = |bytes: usize| Row::new(values_of!["big"], vec![7; bytes].into());
    put(store, vec![write(&schema::FILTERS, &user, sized(ROW_MAX), forever())]).await;
    let found = get(store, &schema::FILTERS, &user, values_of!["big"]).await;
    assert_eq!(found.map(|row| row.value.len()), Some(ROW_MAX));
    let small = write(&schema::FILTERS, &user, plain(values_of!["small"], "x"), forever());
    let over = write(&schema::FILTERS, &user, sized(ROW_MAX + 1), forever());
    is_too_large(store.put(vec![small, over], Durability::Acknowledged).await);
    let rows = scan(store, &schema::FILTERS, &user, Bounds::all(), 10).await.rows;
    assert_eq!(rows.iter().map(|row| row.value.len()).collect::<Vec<_>>(), [ROW_MAX]);
    let wide = sized(ROW_MAX - 3).with_columns(vec![Some("four".into())]);
    is_too_large(store.put(vec![write(&schema::MEMBERSHIPS, &user, wide, stamp(1))], Durability::Acknowledged).await);

    let log: Values = values_of![on.tenant, on.log(1), 0_i64];
    let rows = |count: usize, each: usize| {
        let rows = (1..).take(count).map(move |seq| Row::new(values_of![seq], vec![1; each].into()));
        rows.chain([head(1, 1, "a")]).map(Change::Put).collect::<Vec<_>>()
    };
    for changes in [rows(1, ROW_MAX + 1), rows(WRITE_MAX / ROW_MAX, ROW_MAX)] {
        is_too_large(store.cas(&schema::LOG, log.clone(), on_head(Expect::Absent), changes).await);
        assert!(head_of(store, &log).await.is_none());
        assert!(scan(store, &schema::LOG, &log, Bounds::all(), 10).await.rows.is_empty());
    }
    let whole = rows(WRITE_MAX / ROW_MAX, ROW_MAX - 64);
    let applied = store.cas(&schema::LOG, log.clone(), on_head(Expect::Absent), whole).await;
    assert_eq!(applied.expect("an answer"), Cas::Applied);
    let last = get(store, &schema::LOG, &log, values_of![i64::try_from(WRITE_MAX / ROW_MAX).expect("few")]).await;
    assert_eq!(last.map(|row| row.value.len()), Some(ROW_MAX - 64));
    let long = write(&schema::FILTERS, &user, plain(values_of!["ttl"], "x"), WriteKind::Plain { ttl_s: TTL_MAX_S });
    put(store, vec![long]).await;
    assert!(get(store, &schema::FILTERS, &user, values_of!["ttl"]).await.is_some());
}

/// Keys of exactly the limit, of the bytes that take most room; over it reads and writes alike are refused.
pub async fn keys_at_and_over_their_limit(on: Subject) {
    let store = &*on.store;
    for filler in ["k", "\0"] {
        let (name, id) = (filler.repeat(KEY_MAX - 8), filler.repeat(KEY_MAX));
        let user: Values = values_of![on.tenant, &*name];
        put(store, vec![write(&schema::FILTERS, &user, plain(values_of![&*id], "x"), forever())]).await;
        assert!(get(store, &schema::FILTERS, &user, values_of![&*id]).await.is_some());
        let rows = scan(store, &schema::FILTERS, &user, Bounds::all(), 10).await.rows;
        assert_eq!(rows, [plain(values_of![&*id], "x")]);
        let (over_name, over_id): (Values, Values) =
            (values_of![on.tenant, format!("{name}k")], values_of![format!("{id}k")]);
        for (user, id) in [(&over_name, values_of!["f"]), (&user, over_id)] {
            let over = write(&schema::FILTERS, user, plain(id.clone(), "x"), forever());
            is_too_large(store.put(vec![over], Durability::Acknowledged).await);
            is_too_large(store.get(&schema::FILTERS, user.clone(), id.clone(), Consistency::Quorum).await);
            is_too_large(store.scan(&schema::FILTERS, over_name.clone(), Bounds::all(), 1, Consistency::Quorum).await);
        }
    }
}

/// Empty, extreme, and not ASCII.
pub async fn edge_values_come_back(on: Subject) {
    let store = &*on.store;
    let log: Values = values_of![on.tenant, on.log(2), i64::MIN];
    let texts = ["", "\0", "\u{e9}\u{1f4a9}\u{10ffff}", "a\0b", "'; DROP TABLE log; --"];
    let mut written = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        let seq = [i64::MIN, -1, 0, 1, i64::MAX - 1][at];
        let columns = vec![Some(Value::Int(seq)), Some(text.into()), None, Some(text.into())];
        written.push(Row::new(values_of![seq], Bytes::copy_from_slice(text.as_bytes())).with_columns(columns));
    }
    let top = head(i64::MAX, i64::MIN, "");
    let changes = written.iter().cloned().chain([top.clone()]).map(Change::Put).collect();
    let applied = store.cas(&schema::LOG, log.clone(), on_head(Expect::Absent), changes).await;
    assert_eq!(applied.expect("an answer"), Cas::Applied);
    let rows = scan(store, &schema::LOG, &log, Bounds::all(), 10).await.rows;
    assert_eq!(rows, written.into_iter().chain([top]).collect::<Vec<_>>());
    let again = vec![Change::Put(head(0, 0, "")), Change::Put(row(7, ""))];
    let applied = store.cas(&schema::LOG, log, on_head(Expect::Guards(i64::MAX, i64::MIN)), again).await;
    assert_eq!(applied.expect("an answer"), Cas::Applied);
    let user: Values = values_of![on.tenant, "\u{e9}"];
    for text in texts {
        let key: Values = values_of![text, "", text];
        put(store, vec![write(&schema::USER_RECORD, &user, plain(key.clone(), ""), stamp(1))]).await;
        assert_eq!(get(store, &schema::USER_RECORD, &user, key.clone()).await.map(|row| row.key), Some(key));
    }
    let blob: Values = values_of![on.tenant, Bytes::from_static(&[0, 255, 0, 1])];
    put(store, vec![write(&schema::SYNC_SNAPSHOTS, &blob, plain(values_of![0_i64], ""), forever())]).await;
    assert!(get(store, &schema::SYNC_SNAPSHOTS, &blob, values_of![0_i64]).await.is_some());
}
