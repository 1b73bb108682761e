//! Ids, positions, clock and randomness, error kinds: what every crate speaks.
