//! Bugs that are planted: what the invariants don't find they don't prove.

use polity_core::mutation::{Mutation, plant};

use super::{Scenario, beginning::Beginning, play};

/// A bug that was found.
#[derive(Debug)]
pub struct Caught {
    /// By which seed.
    pub seed: u64,
    /// As what.
    pub fault: String,
}

/// Looks for a planted bug with so many seeds, from `first` on.
#[must_use]
pub fn catch(mutation: Mutation, first: u64, seeds: u64) -> Option<Caught> {
    // What all begin with has no bug.
    [false, true].map(Beginning::get);
    (first..first + seeds).find_map(|seed| {
        plant(Some(mutation));
        let outcome = play(&Scenario::of(seed));
        plant(None);
        outcome.fault.map(|fault| Caught { seed, fault })
    })
}
