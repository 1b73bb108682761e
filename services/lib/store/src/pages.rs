//! What is longer than one page.

use std::ops::Bound;

use crate::{Bounds, Consistency, Row, Store, StoreError, Table, Values};

/// Rows read at once.
const PAGE: usize = 1000;

/// The first `most` rows of a partition between some bounds, in their order, page by page.
///
/// # Errors
/// When the store can't be read.
pub async fn rows(
    store: &dyn Store,
    table: &'static Table,
    partition: Values,
    mut bounds: Bounds,
    most: usize,
    consistency: Consistency,
) -> Result<Vec<Row>, StoreError> {
    let mut out = Vec::new();
    while out.len() < most {
        let limit = PAGE.min(most - out.len());
        let page = store.scan(table, partition.clone(), bounds.clone(), limit, consistency).await?;
        let last = page.rows.last().map(|row| row.key.clone());
        out.extend(page.rows);
        let Some(last) = last.filter(|_| page.more) else { break };
        let further = Bound::Excluded(last);
        if bounds.reverse { bounds.to = further } else { bounds.from = further }
    }
    Ok(out)
}
