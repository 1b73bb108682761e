//! Makes a scenario that fails smaller, as long as it fails.

use super::{Outcome, Scenario, play};

/// Scenarios that are tried, at most.
const TRIES: usize = 400;

/// The smallest scenario that was found to fail, too, and what became of it.
#[must_use]
pub fn shrink(failing: &Scenario, outcome: Outcome) -> (Scenario, Outcome) {
    let (mut smallest, mut found, mut tries) = (failing.clone(), outcome, 0);
    'smaller: loop {
        for simpler in smallest.simpler() {
            tries += 1;
            if tries > TRIES {
                break 'smaller;
            }
            let outcome = play(&simpler);
            if outcome.fault.is_some() {
                (smallest, found) = (simpler, outcome);
                continue 'smaller;
            }
        }
        break;
    }
    (smallest, found)
}
