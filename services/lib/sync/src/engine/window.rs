//! The newest rows of a room between two positions, as far as a timeline's limit goes.

use std::sync::Arc;

use polity_core::{LogKey, Seq};

use crate::{
    engine::SyncError,
    read::{Rooms, StateView, StoredRow},
};

/// Rows looked at for one timeline. A filter that lets hardly anything pass, or somebody ignored who says a lot, ends here; the client pages
/// back from there.
pub(crate) const SCAN: usize = 1000;
/// Rows read at once.
const PAGE: usize = 100;

/// Some rows of a room, without a hole.
pub(crate) struct Window {
    /// All rows looked at, oldest first.
    pub rows: Vec<Arc<StoredRow>>,
    /// Those of them that are to be shown, by their place in `rows`.
    pub shown: Vec<usize>,
    /// Whether rows before them weren't looked at, or didn't find a place.
    pub limited: bool,
}

/// The rows with `after < seq <= to`, newest first, until there are `limit` that `shows` wants.
pub(crate) async fn window(
    rooms: &Rooms,
    key: LogKey,
    (after, to): (Seq, Seq),
    shows: impl Fn(&StoredRow) -> bool,
    limit: usize,
) -> Result<Window, SyncError> {
    let mut newest_first: Vec<Arc<StoredRow>> = Vec::new();
    let (mut passed, mut next) = (0, to);
    'pages: while next > after && newest_first.len() < SCAN {
        let wanted = PAGE.min(usize::try_from(next.get() - after.get()).unwrap_or(PAGE));
        let page = rooms.back(key, next, wanted.min(limit.saturating_sub(passed).max(10))).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if row.seq <= after || passed == limit {
                break 'pages;
            }
            next = Seq::new(row.seq.get() - 1);
            passed += usize::from(shows(&row));
            newest_first.push(row);
        }
    }
    newest_first.reverse();
    let rows = newest_first;
    let limited = rows.first().is_some_and(|first| first.seq > after.next());
    let shown = (0..rows.len()).filter(|at| shows(&rows[*at])).collect();
    Ok(Window { rows, shown, limited })
}

/// The state before a row.
pub(crate) async fn state_before(rooms: &Rooms, key: LogKey, row: &StoredRow) -> Result<StateView, SyncError> {
    let first = row.meta.group_first;
    if first >= row.seq {
        return Ok(StateView::before(row, []));
    }
    let count = usize::try_from(row.seq.get() - first.get()).unwrap_or(0);
    let mut group = rooms.back(key, Seq::new(row.seq.get() - 1), count).await?;
    group.reverse();
    Ok(StateView::before(row, group.iter().map(|row| &**row)))
}

/// The state after the row `seq`; that of an empty room for the beginning.
pub(crate) async fn state_after(rooms: &Rooms, key: LogKey, seq: Seq) -> Result<StateView, SyncError> {
    match rooms.back(key, seq, 1).await?.pop() {
        Some(row) if row.seq == seq => Ok(state_before(rooms, key, &row).await?.after(&row)),
        _ => Ok(StateView::default()),
    }
}
