//! Writes to users' partitions whose outcome is unknown: they may land at any time, and whoever has read before would keep what he read.
//!
//! A projection that nobody else repeats (an acknowledgement was to rest on it, and its caller was told that it failed) is repeated until
//! it stands: it is a register, so that a repetition changes nothing that came later. Then its mark moves once more, and nothing can land
//! any more that isn't known. What can't be repeated so, a conditional write, is begun by its coordinator soon or never: its mark
//! moves again after that. (Filters, the one plain table with marks, never change what is kept under a name.)

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use polity_core::tasks;
use tokio::time::Instant;

use crate::{Durability, MarkPlace, Marks, Store, StoreError, Values, Write, WriteKind, marks::Moves};

/// How often it is tried.
const EVERY: Duration = Duration::from_secs(1);
/// Writes that are repeated at once.
const AT_ONCE: usize = 64;
/// Rows that are remembered. Further ones (the store has been away for long) aren't repeated: their marks move once more when no server
/// can begin them any more, as those of conditional writes.
const MOST: usize = 4096;
/// No server begins a write that was sent so long ago.
const BEGINS: Duration = Duration::from_secs(30);

/// A row: its table, its partition, its key.
type Place = (u8, Values, Values);

/// See the module.
pub(crate) struct Unsettled {
    inner: Arc<dyn Store>,
    moves: Moves,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// To be repeated: the greatest of each row.
    writes: BTreeMap<Place, Write>,
    /// Marks that move once more then.
    marks: BTreeMap<MarkPlace, Instant>,
    /// Whether the task is there that sees to them.
    seen_to: bool,
}

impl Open {
    fn count(&self) -> usize {
        self.writes.len() + self.marks.len()
    }
}

fn place(write: &Write) -> Place {
    (write.table.number, write.partition.clone(), write.row.key.clone())
}

// === impl Unsettled ===

impl Unsettled {
    pub(crate) fn new(inner: Arc<dyn Store>, moves: Moves) -> Arc<Self> {
        Arc::new(Self { inner, moves, open: Mutex::default() })
    }

    /// Notes rows whose write may have failed.
    pub(crate) fn writes(self: &Arc<Self>, writes: Vec<Write>) {
        self.note(|open| {
            for write in writes {
                let WriteKind::Projection(stamp) = write.kind else { continue };
                let at = place(&write);
                let newer = |known: &Write| matches!(known.kind, WriteKind::Projection(other) if other >= stamp);
                if open.writes.get(&at).is_some_and(newer) {
                    continue;
                }
                if open.writes.len() < MOST || open.writes.contains_key(&at) {
                    open.writes.insert(at, write);
                } else if let Some(place) = Marks::place_of(write.table, &write.partition) {
                    open.marks.insert(place, Instant::now() + BEGINS);
                }
            }
        });
    }

    /// Notes that a conditional write may land where this mark stands.
    pub(crate) fn conditional(self: &Arc<Self>, place: MarkPlace) {
        self.note(|open| {
            open.marks.insert(place, Instant::now() + BEGINS);
        });
    }

    fn note(self: &Arc<Self>, note: impl FnOnce(&mut Open)) {
        let begins = {
            let mut open = self.open.lock();
            note(&mut open);
            self.moves.owed(open.count());
            open.count() > 0 && !std::mem::replace(&mut open.seen_to, true)
        };
        if begins {
            tasks::spawn(see_to(Arc::downgrade(self)));
        }
    }

    /// Tries once more; whether anything is left.
    async fn again(&self) -> bool {
        let (now, some) =
            (Instant::now(), || self.open.lock().writes.values().take(AT_ONCE).cloned().collect::<Vec<_>>());
        let writes = some();
        if !writes.is_empty() {
            match self.inner.put(writes.clone(), Durability::Acknowledged).await {
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {}
                // Also if it can never be written: then it never was.
                Ok(()) | Err(_) => self.settled(&writes),
            }
        }
        let mut open = self.open.lock();
        let due: Vec<_> = open.marks.iter().filter(|(_, at)| **at <= now).map(|(place, _)| *place).collect();
        for place in due {
            self.moves.moved_at(place);
            open.marks.remove(&place);
        }
        self.moves.owed(open.count());
        open.seen_to = open.count() > 0;
        open.seen_to
    }

    fn settled(&self, writes: &[Write]) {
        let mut open = self.open.lock();
        for write in writes {
            if let Some(place) = Marks::place_of(write.table, &write.partition) {
                self.moves.moved_at(place);
            }
            let at = place(write);
            // A greater one may have failed meanwhile.
            if open.writes.get(&at).is_some_and(|known| known.kind == write.kind) {
                open.writes.remove(&at);
            }
        }
    }
}

/// Goes on until nothing is left, or nobody uses the store any more.
async fn see_to(unsettled: Weak<Unsettled>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(unsettled) = unsettled.upgrade() else { return };
        if !unsettled.again().await {
            return;
        }
    }
}
