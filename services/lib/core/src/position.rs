//! Positions are types of their own, never bare integers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Life;

/// How many rows a bucket (a partition of a log) holds.
pub const BUCKET_LEN: u64 = 1024;

/// The number of a row in its log: dense, from 1. 0 is "before the first row". At most 34 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(u64);

impl Seq {
    /// Before the first row.
    pub const ZERO: Self = Self(0);
    /// The last number that a [`Stamp`] can carry.
    pub const MAX: Self = Self((1 << 34) - 1);

    /// The row with this number.
    #[must_use]
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a CQL `bigint`.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// The row after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The row `n` further on.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }

    /// The bucket in which this row stands.
    #[must_use]
    pub const fn bucket(self) -> Bucket {
        Bucket(self.0 / BUCKET_LEN)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a log: the rows with `seq / 1024` equal to this number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket(u64);

impl Bucket {
    /// The first bucket.
    pub const FIRST: Self = Self(0);

    /// The bucket with this number.
    #[must_use]
    pub const fn new(bucket: u64) -> Self {
        Self(bucket)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a CQL `bigint`.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// The bucket after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The first row that belongs here.
    #[must_use]
    pub const fn first_seq(self) -> Seq {
        Seq(self.0 * BUCKET_LEN)
    }

    /// The last row that belongs here.
    #[must_use]
    pub const fn last_seq(self) -> Seq {
        Seq(self.0 * BUCKET_LEN + BUCKET_LEN - 1)
    }
}

/// A place in a log: the life of its name and the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The life of the log's name.
    pub life: Life,
    /// The row.
    pub seq: Seq,
}

impl Position {
    /// The place in `life` after the row `seq`.
    #[must_use]
    pub const fn new(life: Life, seq: Seq) -> Self {
        Self { life, seq }
    }
}

/// Where an event stands in a room's history: live rows have `sub` 0; what is backfilled into the gap below an anchor grows
/// downward from it (-1, -2, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    /// The live row at (or before) which it stands.
    pub anchor: Seq,
    /// 0, or how far below the anchor.
    pub sub: i64,
}

impl OrderKey {
    /// The key of a live row.
    #[must_use]
    pub const fn live(seq: Seq) -> Self {
        Self { anchor: seq, sub: 0 }
    }
}

/// The write timestamp of a projection row: a function of the log's prefix, never of a clock.
///
/// 50 bits: life (10), seq (34), projection version (6). As microseconds since 1970 it is always in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(u64);

impl Stamp {
    /// The lowest: what backfilled rows take.
    pub const LOWEST: Self = Self(1);

    /// The stamp of a projection made at `position` by projection code of `version` (below 64).
    #[must_use]
    pub fn new(position: Position, version: u8) -> Self {
        debug_assert!(version < 64 && position.seq <= Seq::MAX, "a stamp has 6 and 34 bits for these");
        Self((u64::from(position.life.get()) << 40) | (position.seq.get() << 6) | u64::from(version))
    }

    /// The stamp with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits, as CQL's `USING TIMESTAMP` takes them.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// The position at which the row was made.
    #[must_use]
    pub fn position(self) -> Position {
        let life = u16::try_from(self.0 >> 40).ok().and_then(|life| Life::new(life).ok()).unwrap_or(Life::MAX);
        Position { life, seq: Seq((self.0 >> 6) & Seq::MAX.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_orders_by_life_then_seq_then_version_and_gives_its_position_back() {
        let at = |life, seq| Position::new(Life::new(life).unwrap(), Seq::new(seq));
        assert!(Stamp::new(at(1, 9), 3) < Stamp::new(at(1, 10), 0));
        assert!(Stamp::new(at(1, Seq::MAX.get()), 63) < Stamp::new(at(2, 0), 0));
        assert!(Stamp::new(at(1, 9), 1) < Stamp::new(at(1, 9), 2));
        assert_eq!(Stamp::new(at(1023, Seq::MAX.get()), 63).position(), at(1023, Seq::MAX.get()));
        // 50 bits of microseconds end in 2005: no store can find it too far in the future.
        assert!(Stamp::new(at(1023, Seq::MAX.get()), 63).to_i64() < 1 << 50);
    }

    #[test]
    fn rows_fall_into_buckets_of_1024() {
        assert_eq!(Seq::new(1023).bucket(), Bucket::FIRST);
        assert_eq!(Seq::new(1024).bucket(), Bucket::new(1));
        assert_eq!(Bucket::FIRST.last_seq(), Seq::new(1023));
    }
}
