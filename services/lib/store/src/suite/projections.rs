//! Projections: max-registers, in whatever order their writes arrive.

use std::sync::Arc;

use polity_core::Stamp;

use super::{
    Subject,
    rows::{get, plain, put, stamp, write},
};
use crate::{Durability, Row, Value, Values, Write, schema, values_of};

fn user(on: &Subject) -> Values {
    values_of![on.tenant, "@user:x"]
}

fn membership(on: &Subject, room: &str, bits: u64, value: &str) -> Write {
    let columns = vec![Some(Value::from(format!("{value} at {bits}")))];
    write(&schema::MEMBERSHIPS, &user(on), plain(values_of![room], value).with_columns(columns), stamp(bits))
}

async fn found(on: &Subject, room: &str) -> Option<Row> {
    get(&*on.store, &schema::MEMBERSHIPS, &user(on), values_of![room]).await
}

/// Late, twice and reversed: every order of the same writes ends in the same row, alone or in one call.
pub async fn the_greatest_stamp_stays_in_every_order(on: Subject) {
    let stamps = [1 << 6, 2 << 6, 2 << 6 | 1, 1 << 40];
    let mut order = 0;
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                let d = 6 - a - b - c;
                let one_by_one = format!("!one-{order}:x");
                // Each twice, the first one once more at the end.
                for at in [a, b, b, c, d, c, d, a] {
                    put(&*on.store, vec![membership(&on, &one_by_one, stamps[at], "v")]).await;
                }
                let at_once = format!("!all-{order}:x");
                put(&*on.store, [a, b, c, d, a].map(|at| membership(&on, &at_once, stamps[at], "v")).to_vec()).await;
                for room in [one_by_one, at_once] {
                    let row = found(&on, &room).await.expect("a row");
                    let wanted = membership(&on, &room, stamps[3], "v").row;
                    assert_eq!(row, Row { stamp: Some(Stamp::from_bits(stamps[3])), ..wanted }, "{room}");
                }
                order += 1;
            }
        }
    }
}

/// Of two rows with one stamp the greater stays, whole: its columns come with its value.
pub async fn equal_stamps_keep_the_greater_row(on: Subject) {
    let rows = ["\u{1}", "a", "b", "ba", "\u{e9}"];
    let mut columns_decide = Vec::new();
    for (number, order) in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 1, 3], [3, 4, 4, 0, 2]].into_iter().enumerate()
    {
        let room = format!("!equal-{number}:x");
        for at in order {
            put(&*on.store, vec![membership(&on, &room, 77, rows[at])]).await;
        }
        let row = found(&on, &room).await.expect("a row");
        assert_eq!((&*row.value, row.columns), ("\u{e9}".as_bytes(), vec![Some("\u{e9} at 77".into())]), "{order:?}");
        let room = format!("!columns-{number}:x");
        for at in order {
            let row = plain(values_of![&*room], "same").with_columns(vec![Some(rows[at].into())]);
            put(&*on.store, vec![write(&schema::MEMBERSHIPS, &user(&on), row, stamp(77))]).await;
        }
        columns_decide.push(found(&on, &room).await.expect("a row").columns);
    }
    assert!(columns_decide[..3].windows(2).all(|pair| pair[0] == pair[1]), "{columns_decide:?}");
}

/// Many writers of one row at once, acknowledged or rebuildable.
pub async fn racing_projections_end_in_the_greatest(on: Subject) {
    let on = Arc::new(on);
    let (writers, writes) = (on.sizes.writers, on.sizes.writes);
    let tasks = (0..writers).map(|writer| {
        let on = Arc::clone(&on);
        polity_core::tasks::spawn(async move {
            for number in 0..writes {
                // Each writer in an order of its own.
                let bits = 1 + (number * 7 + writer * 13) % (writers * writes);
                let durability = [Durability::Acknowledged, Durability::Rebuildable][number % 2];
                let write = membership(&on, "!race:x", bits as u64, "v");
                on.store.put(vec![write], durability).await.expect("a write");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a writer");
    }
    let greatest = (0..writers * writes).map(|at| 1 + (at % writes * 7 + at / writes * 13) % (writers * writes)).max();
    let row = found(&on, "!race:x").await.expect("a row");
    assert_eq!(row.stamp, greatest.map(|bits| Stamp::from_bits(bits as u64)));
}

/// Rows without value and columns are rows; the lowest stamp is one.
pub async fn the_lowest_stamp_is_kept_until_a_greater_one(on: Subject) {
    let (store, log): (_, Values) = (&*on.store, values_of![on.tenant, on.log(1)]);
    let empty = |bits: u64| write(&schema::PROJECTED, &log, Row::new(Values::new(), bytes::Bytes::new()), stamp(bits));
    put(store, vec![empty(Stamp::LOWEST.to_i64().cast_unsigned())]).await;
    let row = get(store, &schema::PROJECTED, &log, Values::new()).await.expect("a row");
    assert_eq!((row.stamp, row.columns.len(), row.value.len()), (Some(Stamp::LOWEST), 0, 0));
    put(store, vec![empty((1 << 50) - 1)]).await;
    put(store, vec![empty(2)]).await;
    let row = get(store, &schema::PROJECTED, &log, Values::new()).await.expect("a row");
    assert_eq!(row.stamp, Some(Stamp::from_bits((1 << 50) - 1)));
}
