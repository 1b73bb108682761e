//! What must hold of rows wherever somebody has them: debug builds look at each group that is appended and at what a load reads, the
//! simulation and the kill tests at the whole logs of rooms when all is over.

use std::collections::HashSet;

use polity_core::Seq;

use crate::LogRow;

/// Whether these rows follow `after`, one number after the other, up to the head, and none of them is an event or a transaction once more.
///
/// # Errors
/// The row with which something is wrong (or the last one), and what.
pub fn check_rows(after: Seq, rows: &[LogRow], head: Seq) -> Result<(), (Seq, String)> {
    let (mut last, mut events, mut transactions) = (after, HashSet::new(), HashSet::new());
    for row in rows {
        if row.seq != last.next() {
            return Err((row.seq, format!("row {} follows row {last}", row.seq)));
        }
        last = row.seq;
        if let Some(event_id) = &row.event_id
            && !events.insert(event_id)
        {
            return Err((row.seq, format!("{event_id} stands twice")));
        }
        if let (Some(device), Some(txn)) = (&row.device, &row.txn)
            && !transactions.insert((device, txn))
        {
            return Err((row.seq, format!("{txn} of {device} gave two rows")));
        }
    }
    if last == head { Ok(()) } else { Err((last, format!("the head is at {head}, the rows end at {last}"))) }
}
