//! The newest rows of a room that somebody here watches.

use std::{collections::VecDeque, sync::Arc};

use polity_core::Seq;

/// Rows in memory per watched room.
const ROWS: usize = 32;

/// The newest rows, without a hole. Rows that don't follow the last one begin it anew: what is missing stands in the store.
#[derive(Debug)]
pub struct Ring<R> {
    rows: VecDeque<(Seq, Arc<R>)>,
}

impl<R> Default for Ring<R> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<R> Ring<R> {
    /// Takes a row in. Old and repeated ones are passed over.
    pub fn push(&mut self, seq: Seq, row: Arc<R>) {
        if let Some((last, _)) = self.rows.back() {
            if seq <= *last {
                return;
            }
            if seq != last.next() {
                self.rows.clear();
            }
        }
        if self.rows.len() == ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back((seq, row));
    }

    /// The `count` rows up to `from`, newest first; `None` if some of them aren't here.
    #[must_use]
    pub fn back(&self, from: Seq, count: usize) -> Option<Vec<Arc<R>>> {
        let (first, _) = self.rows.front()?;
        // How many of the rows here are none after `from`.
        let here = usize::try_from((from.get() + 1).checked_sub(first.get())?).ok()?;
        if here > self.rows.len() || count > here {
            return None;
        }
        Some(self.rows.range(here - count..here).rev().map(|(_, row)| Arc::clone(row)).collect())
    }

    /// The newest row's number.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.rows.back().map(|(seq, _)| *seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(ring: &Ring<u64>, from: u64, count: usize) -> Option<Vec<u64>> {
        ring.back(Seq::new(from), count).map(|rows| rows.into_iter().map(|n| *n).collect())
    }

    fn ring(of: impl IntoIterator<Item = u64>) -> Ring<u64> {
        let mut ring = Ring::default();
        for n in of {
            ring.push(Seq::new(n), Arc::new(n));
        }
        ring
    }

    #[test]
    fn it_never_shows_a_hole() {
        let few = ring([3, 4, 4, 3, 5]);
        assert_eq!(back(&few, 5, 2), Some(vec![5, 4]));
        assert_eq!(back(&few, 4, 2), Some(vec![4, 3]));
        assert_eq!(back(&few, 4, 3), None, "2 is missing");
        assert_eq!(back(&few, 6, 1), None, "6 didn't come yet");
        assert_eq!((back(&few, 2, 1), back(&few, 1, 1), back(&few, 5, 0)), (None, None, Some(vec![])));
        let later = ring([3, 4, 9]);
        assert_eq!((back(&later, 9, 2), back(&later, 9, 1)), (None, Some(vec![9])), "5 to 8 are missing");
        assert_eq!(back(&ring([]), 1, 1), None);
        let long = ring(1..=100);
        assert_eq!(back(&long, 100, ROWS + 1), None);
        assert_eq!(back(&long, 100, ROWS).map(|rows| (rows.len(), rows[0])), Some((ROWS, 100)));
    }
}
