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

    /// The rows after `seq`, oldest first; `None` if some of them aren't here.
    #[must_use]
    pub fn after(&self, seq: Seq) -> Option<Vec<(Seq, Arc<R>)>> {
        let (first, _) = self.rows.front()?;
        if *first > seq.next() {
            return None;
        }
        let skip = usize::try_from(seq.next().get() - first.get()).ok()?;
        Some(self.rows.iter().skip(skip).cloned().collect())
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

    fn numbers(rows: Option<Vec<(Seq, Arc<u64>)>>) -> Option<Vec<u64>> {
        rows.map(|rows| rows.into_iter().map(|(_, n)| *n).collect())
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
        assert_eq!(numbers(ring([3, 4, 4, 3, 5]).after(Seq::new(3))), Some(vec![4, 5]));
        assert_eq!(numbers(ring([3, 4]).after(Seq::new(1))), None, "2 is missing");
        assert_eq!(numbers(ring([3, 4, 9]).after(Seq::new(4))), None, "5 to 8 are missing");
        assert_eq!(numbers(ring([3, 4, 9]).after(Seq::new(8))), Some(vec![9]));
        assert_eq!(numbers(ring([3]).after(Seq::new(7))), Some(vec![]));
        assert_eq!(numbers(ring([]).after(Seq::ZERO)), None);
        let long = ring(1..=100);
        assert_eq!(numbers(long.after(Seq::new(10))), None);
        assert_eq!(long.after(Seq::new(100 - ROWS as u64)).map(|rows| rows.len()), Some(ROWS));
    }
}
