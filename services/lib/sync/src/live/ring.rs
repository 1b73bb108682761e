//! The newest rows of a room that somebody here watches.

use std::{collections::VecDeque, sync::Arc};

use polity_core::Seq;

/// Rows in memory per watched room,
const ROWS: usize = 32;
/// and their bytes: whoever is in many rooms could fill the memory with large ones. (A row that is larger alone is kept alone.)
const BYTES: usize = 128 << 10;

/// The newest rows, without a hole. Rows that don't follow the last one begin it anew: what is missing stands in the store.
#[derive(Debug)]
pub struct Ring<R> {
    rows: VecDeque<Kept<R>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<R> {
    seq: Seq,
    row: Arc<R>,
    bytes: usize,
}

impl<R> Default for Ring<R> {
    fn default() -> Self {
        Self { rows: VecDeque::new(), bytes: 0 }
    }
}

impl<R> Ring<R> {
    /// Takes a row of so many bytes in. Old and repeated ones are passed over.
    pub fn push(&mut self, seq: Seq, row: Arc<R>, bytes: usize) {
        if let Some(last) = self.last() {
            if seq <= last {
                return;
            }
            if seq != last.next() {
                *self = Self::default();
            }
        }
        self.bytes += bytes;
        while self.rows.len() == ROWS || self.bytes > BYTES {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
        self.rows.push_back(Kept { seq, row, bytes });
    }

    /// About how many bytes its rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The `count` rows up to `from`, newest first; `None` if some of them aren't here.
    #[must_use]
    pub fn back(&self, from: Seq, count: usize) -> Option<Vec<Arc<R>>> {
        let first = self.rows.front()?.seq;
        // How many of the rows here are none after `from`.
        let here = usize::try_from((from.get() + 1).checked_sub(first.get())?).ok()?;
        if here > self.rows.len() || count > here {
            return None;
        }
        Some(self.rows.range(here - count..here).rev().map(|kept| Arc::clone(&kept.row)).collect())
    }

    /// The newest row's number.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.rows.back().map(|kept| kept.seq)
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
            ring.push(Seq::new(n), Arc::new(n), 1);
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
    #[test]
    fn large_rows_are_fewer() {
        let mut large = Ring::default();
        for n in 1..=9 {
            large.push(Seq::new(n), Arc::new(n), BYTES / 4);
        }
        assert_eq!((large.bytes(), back(&large, 9, 4)), (BYTES, Some(vec![9, 8, 7, 6])));
        assert_eq!(back(&large, 9, 5), None);
        large.push(Seq::new(10), Arc::new(10), 2 * BYTES);
        assert_eq!((back(&large, 10, 1), back(&large, 10, 2)), (Some(vec![10]), None));
        large.push(Seq::new(11), Arc::new(11), 1);
        assert_eq!((large.bytes(), back(&large, 11, 1), back(&large, 11, 2)), (1, Some(vec![11]), None));
    }
}
