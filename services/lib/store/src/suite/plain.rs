//! Plain tables: the last write stays, deletes, times to live; partitions apart from each other.

use bytes::Bytes;
use polity_core::TenantId;

use super::{
    Subject,
    rows::{append, forever, get, head, plain, put, row, scan, scan_all, stamp, write},
};
use crate::{Bounds, Expect, Row, Store, Values, WriteKind, schema, values_of};

async fn filter(store: &dyn Store, partition: &Values, id: &str) -> Option<Bytes> {
    get(store, &schema::FILTERS, partition, values_of![id]).await.map(|row| row.value)
}

/// What is written again is replaced whole.
pub async fn the_last_write_stays(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@a:x"]);
    for value in ["z", "a", "", "m"] {
        put(store, vec![write(&schema::FILTERS, &user, plain(values_of!["f"], value), forever())]).await;
        assert_eq!(filter(store, &user, "f").await.as_deref(), Some(value.as_bytes()));
    }
    let rows = scan(store, &schema::FILTERS, &user, Bounds::all(), 10).await.rows;
    assert_eq!(rows, [plain(values_of!["f"], "m")]);
}

/// A deleted row is gone until it is written again; deleting what isn't there is fine.
pub async fn deleted_rows_are_gone(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@a:x"]);
    let delete = |id: &str| write(&schema::FILTERS, &user, plain(values_of![id], ""), WriteKind::Delete);
    put(store, vec![delete("never")]).await;
    for id in ["a", "b", "c"] {
        put(store, vec![write(&schema::FILTERS, &user, plain(values_of![id], "x"), forever())]).await;
    }
    put(store, vec![delete("b")]).await;
    assert_eq!(filter(store, &user, "b").await, None);
    assert_eq!(scan_all(store, &schema::FILTERS, &user, Bounds::all(), 1).await.len(), 2);
    put(store, vec![write(&schema::FILTERS, &user, plain(values_of!["b"], "again"), forever())]).await;
    assert_eq!(filter(store, &user, "b").await.as_deref(), Some(&b"again"[..]));
}

/// A row with a time to live goes by itself, from reads and pages alike; the last write says how long.
pub async fn rows_live_as_long_as_they_may(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@ttl:x"]);
    let living = async |id: &str, ttl_s: u32| {
        put(store, vec![write(&schema::FILTERS, &user, plain(values_of![id], "x"), WriteKind::Plain { ttl_s })]).await;
    };
    for (id, times) in
        [("a", &[5][..]), ("b", &[0]), ("c", &[5, 0]), ("d", &[0, 5]), ("e", &[5, 5000]), ("f", &[5000, 5])]
    {
        for ttl_s in times {
            living(id, *ttl_s).await;
        }
    }
    assert_eq!(scan(store, &schema::FILTERS, &user, Bounds::all(), 10).await.rows.len(), 6);
    on.backend.pass(7).await;
    assert_eq!(filter(store, &user, "a").await, None);
    let rows = scan_all(store, &schema::FILTERS, &user, Bounds::all(), 1).await;
    let left: Vec<_> = rows.iter().filter_map(|row| row.key[0].as_text()).collect();
    assert_eq!(left, ["b", "c", "e"]);
    let page = scan(store, &schema::FILTERS, &user, Bounds::all(), 3).await;
    assert_eq!((page.rows.len(), page.more), (3, false));
    living("a", 0).await;
    assert!(filter(store, &user, "a").await.is_some());
}

/// Names that begin with each other, empty parts, the next tenant: no partition sees another's rows.
pub async fn partitions_do_not_touch_each_other(on: Subject) {
    let store = &*on.store;
    let next = TenantId::new(on.tenant.get() + 1);
    let names = ["", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "\u{7f}", "\u{e9}", "\u{10ffff}"];
    let partitions: Vec<Values> =
        [on.tenant, next].into_iter().flat_map(|tenant| names.map(|name| values_of![tenant, name])).collect();
    for (number, partition) in partitions.iter().enumerate() {
        for id in ["", "a", "\u{10ffff}"] {
            let value = format!("{number}/{id}");
            put(store, vec![write(&schema::FILTERS, partition, plain(values_of![id], &value), forever())]).await;
            put(store, vec![write(&schema::MEMBERSHIPS, partition, plain(values_of![id], &value), stamp(1))]).await;
        }
    }
    for (number, partition) in partitions.iter().enumerate() {
        for bounds in [Bounds::all(), Bounds::all().reversed(), Bounds::prefix(Values::new())] {
            let rows = scan_all(store, &schema::FILTERS, partition, bounds, 2).await;
            assert_eq!(rows.len(), 3, "{partition:?}");
            assert!(rows.iter().all(|row| row.value.starts_with(format!("{number}/").as_bytes())), "{partition:?}");
        }
    }
    store.drop_partition(&schema::FILTERS, partitions[1].clone()).await.expect("a drop");
    for (number, partition) in partitions.iter().enumerate() {
        let rows = scan(store, &schema::FILTERS, partition, Bounds::all(), 10).await.rows;
        assert_eq!(rows.len(), if number == 1 { 0 } else { 3 }, "{partition:?}");
        assert_eq!(scan(store, &schema::MEMBERSHIPS, partition, Bounds::all(), 10).await.rows.len(), 3);
    }
}

/// Of a dropped partition nothing is left, also not of the log kind; dropping again is fine.
pub async fn a_dropped_partition_is_empty(on: Subject) {
    let store = &*on.store;
    let bucket = |number: i64| -> Values { values_of![on.tenant, on.log(9), number] };
    for number in 0..3 {
        let rows = (1..60).map(|seq| row(seq, "x")).collect();
        append(store, &bucket(number), Expect::Absent, head(59, 1, "a"), rows).await.expect("an append");
    }
    for _ in 0..2 {
        store.drop_partition(&schema::LOG, bucket(1)).await.expect("a drop");
        let left = scan(store, &schema::LOG, &bucket(1), Bounds::all(), 10).await.rows;
        assert_eq!(left, Vec::<Row>::new());
    }
    // Nor of a projection that belongs to one log.
    let receipts = [8, 9].map(|log| values_of![on.tenant, on.log(log)]);
    for partition in &receipts {
        let row = plain(values_of!["@a:x", "m.read", ""], "x");
        put(store, vec![write(&schema::RECEIPTS, partition, row, stamp(7))]).await;
    }
    store.drop_partition(&schema::RECEIPTS, receipts[0].clone()).await.expect("a drop");
    for (partition, left) in receipts.iter().zip([0, 1]) {
        assert_eq!(scan(store, &schema::RECEIPTS, partition, Bounds::all(), 10).await.rows.len(), left);
    }
    for number in [0, 2] {
        assert_eq!(scan_all(store, &schema::LOG, &bucket(number), Bounds::all(), 50).await.len(), 60);
    }
}
