//! Pages: every row once, in order, in both directions, between any bounds.

use std::ops::Bound;

use super::{
    Subject,
    rows::{append, head, plain, put, row, scan, scan_all, stamp, write},
};
use crate::{Bounds, Expect, Row, Store, Table, Value, Values, schema, values_of};

/// Rows of one page; no divisor of the partition's length.
const PAGE: usize = 997;

fn seqs(rows: &[Row]) -> Vec<i64> {
    rows.iter().filter_map(|row| row.key.first()?.as_int()).collect()
}

async fn page_both_ways(store: &dyn Store, table: &'static Table, partition: &Values, length: i64) {
    let forward = seqs(&scan_all(store, table, partition, Bounds::all(), PAGE).await);
    assert!(forward.iter().copied().eq(1..=length), "{} rows forward", forward.len());
    let back = seqs(&scan_all(store, table, partition, Bounds::all().reversed(), PAGE).await);
    assert!(back.iter().copied().eq((1..=length).rev()), "{} rows back", back.len());
    let middle = Bounds {
        from: Bound::Excluded(values_of![length / 3]),
        to: Bound::Included(values_of![length / 3 + 2500]),
        reverse: false,
    };
    let last = (length / 3 + 2500).min(length);
    assert!(seqs(&scan_all(store, table, partition, middle.clone(), PAGE).await).into_iter().eq(length / 3 + 1..=last));
    let back = seqs(&scan_all(store, table, partition, middle.reversed(), PAGE).await);
    assert!(back.into_iter().eq((length / 3 + 1..=last).rev()));
    let newest = scan(store, table, partition, Bounds::all().reversed(), 1).await;
    assert_eq!((seqs(&newest.rows), newest.more), (vec![length], length > 1));
}

/// 100,000 rows that are stored smallest first.
pub async fn a_long_partition_is_paged_both_ways(on: Subject) {
    let (store, bucket): (_, Values) = (&*on.store, values_of![on.tenant, on.log(1), 0_i64]);
    let length = i64::try_from(on.sizes.rows).expect("few rows");
    for first in (1..=length).step_by(500) {
        let rows = (first..(first + 500).min(length + 1)).map(|seq| plain(values_of![seq], "r"));
        put(store, rows.map(|row| write(&schema::REDACTIONS, &bucket, row, stamp(1))).collect()).await;
    }
    page_both_ways(store, &schema::REDACTIONS, &bucket, length).await;
}

/// 100,000 rows that are stored greatest first, below a head.
pub async fn a_long_descending_partition_is_paged_both_ways(on: Subject) {
    let (store, log): (_, Values) = (&*on.store, values_of![on.tenant, on.log(2), 0_i64]);
    let length = i64::try_from(on.sizes.rows).expect("few rows");
    let mut expect = Expect::Absent;
    for first in (1..=length).step_by(400) {
        let last = (first + 399).min(length);
        let rows = (first..=last).map(|seq| row(seq, "r")).collect();
        append(store, &log, expect, head(last, 1, "a"), rows).await.expect("an append");
        expect = Expect::Guards(last, 1);
    }
    let below = Bounds { from: Bound::Unbounded, to: Bound::Excluded(values_of![schema::HEAD_ROW]), reverse: false };
    let forward = seqs(&scan_all(store, &schema::LOG, &log, below.clone(), PAGE).await);
    assert!(forward.iter().copied().eq(1..=length), "{} rows forward", forward.len());
    let back = seqs(&scan_all(store, &schema::LOG, &log, below.reversed(), PAGE).await);
    assert!(back.iter().copied().eq((1..=length).rev()), "{} rows back", back.len());
    let newest = scan(store, &schema::LOG, &log, Bounds::all().reversed(), 3).await;
    assert_eq!((seqs(&newest.rows), newest.more), (vec![schema::HEAD_ROW, length, length - 1], length > 2));
}

/// Whether a row lies between bounds, by the contract's words.
fn between(key: &Values, bounds: &Bounds) -> bool {
    let begins = |values: &Values| key[..values.len()].cmp(&values[..]);
    let from = match &bounds.from {
        Bound::Unbounded => true,
        Bound::Included(values) => begins(values).is_ge(),
        Bound::Excluded(values) => begins(values).is_gt(),
    };
    let to = match &bounds.to {
        Bound::Unbounded => true,
        Bound::Included(values) => begins(values).is_le(),
        Bound::Excluded(values) => begins(values).is_lt(),
    };
    from && to
}

async fn try_all_bounds(
    store: &dyn Store,
    table: &'static Table,
    partition: &Values,
    keys: &[Values],
    edges: &[Values],
) {
    let bound = |values: &Values| [Bound::Included(values.clone()), Bound::Excluded(values.clone())];
    let edges: Vec<Bound<Values>> = edges.iter().flat_map(bound).chain([Bound::Unbounded]).collect();
    for from in &edges {
        for to in &edges {
            for reverse in [false, true] {
                let bounds = Bounds { from: from.clone(), to: to.clone(), reverse };
                let mut wanted: Vec<&Values> = keys.iter().filter(|key| between(key, &bounds)).collect();
                if reverse {
                    wanted.reverse();
                }
                for limit in [1, 3, 100] {
                    let rows = scan_all(store, table, partition, bounds.clone(), limit).await;
                    let found: Vec<&Values> = rows.iter().map(|row| &row.key).collect();
                    assert_eq!(found, wanted, "{}: {bounds:?} by {limit}", table.name);
                }
            }
        }
    }
}

/// Every pair of bounds, whole keys and beginnings, also crossed ones, against the contract's words.
pub async fn bounds_mean_what_they_say(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@bounds:x"]);
    let mut keys: Vec<Values> = Vec::new();
    for kind in ["", "a", "ab"] {
        for scope in ["", "s"] {
            for key in ["k", "k\0"] {
                keys.push(values_of![kind, scope, key]);
            }
        }
    }
    put(store, keys.iter().map(|key| write(&schema::USER_RECORD, &user, plain(key.clone(), ""), stamp(1))).collect())
        .await;
    let edges: Vec<Values> = vec![
        Values::new(),
        values_of![""],
        values_of!["a"],
        values_of!["a", "s"],
        values_of!["a", "s", "k"],
        values_of!["aa"],
        values_of!["ab", "", "k\0"],
        values_of!["b"],
    ];
    try_all_bounds(store, &schema::USER_RECORD, &user, &keys, &edges).await;
    let prefixed = scan_all(store, &schema::USER_RECORD, &user, Bounds::prefix(values_of!["a"]), 3).await;
    assert_eq!(prefixed.len(), 4);

    let log: Values = values_of![on.tenant, on.log(3), 0_i64];
    let numbers = [i64::MIN, -2, 1, 2, 3, i64::MAX];
    let rows = numbers[..5].iter().map(|seq| row(*seq, "r")).collect();
    append(store, &log, Expect::Absent, head(3, 1, "a"), rows).await.expect("an append");
    let keys: Vec<Values> = numbers.iter().map(|seq| values_of![*seq]).collect();
    let edges: Vec<Values> = [i64::MIN, -3, 1, 2, i64::MAX].iter().map(|seq| values_of![*seq]).collect();
    try_all_bounds(store, &schema::LOG, &log, &keys, &edges).await;
}

/// Numbers as numbers, texts and blobs by their bytes.
pub async fn values_sort_by_number_and_bytes(on: Subject) {
    let store = &*on.store;
    let texts = ["b", "", "\u{10ffff}", "a\0", "a", "\u{e9}", "a\0b", "A", "aa", "\u{ffff}"];
    let user: Values = values_of![on.tenant, "@sort:x"];
    put(store, texts.map(|text| write(&schema::MEMBERSHIPS, &user, plain(values_of![text], ""), stamp(1))).to_vec())
        .await;
    let rows = scan_all(store, &schema::MEMBERSHIPS, &user, Bounds::all(), 4).await;
    let mut wanted = texts;
    wanted.sort_unstable_by_key(|text| text.as_bytes());
    assert_eq!(rows.iter().filter_map(|row| row.key[0].as_text()).collect::<Vec<_>>(), wanted);

    let bucket: Values = values_of![on.tenant, on.log(4), 0_i64];
    let numbers = [3, i64::MIN, 0, -1, i64::MAX, 1 << 40, -(1 << 40), 256, 255];
    let writes = numbers.map(|at| write(&schema::REDACTIONS, &bucket, plain(values_of![at], ""), stamp(1)));
    put(store, writes.to_vec()).await;
    let mut wanted = numbers;
    wanted.sort_unstable();
    let rows = scan_all(store, &schema::REDACTIONS, &bucket, Bounds::all().reversed(), 4).await;
    assert!(seqs(&rows).into_iter().eq(wanted.into_iter().rev()));
}

/// A page ends before it grows without bound, and is never empty for that.
pub async fn large_rows_make_short_pages(on: Subject) {
    let (store, user): (_, Values) = (&*on.store, values_of![on.tenant, "@large:x"]);
    for at in 0..20_i64 {
        let row = Row::new(values_of![format!("{at:02}")], vec![1; 900_000].into())
            .with_columns(vec![Some(Value::from("c"))]);
        put(store, vec![write(&schema::MEMBERSHIPS, &user, row, stamp(1))]).await;
    }
    let page = scan(store, &schema::MEMBERSHIPS, &user, Bounds::all(), 1000).await;
    assert!(page.more && page.rows.len() < 20, "{} rows of 900 kB in one page", page.rows.len());
    assert_eq!(scan_all(store, &schema::MEMBERSHIPS, &user, Bounds::all().reversed(), 1000).await.len(), 20);
}
