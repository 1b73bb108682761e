//! Makes a scenario that fails smaller, as long as it fails in the same way.

use super::{Outcome, Scenario, play};

/// Scenarios that are tried, at most.
const TRIES: usize = 400;

/// The smallest scenario that was found to fail at the same place, with no longer a history; and what became of it.
#[must_use]
pub fn shrink(failing: &Scenario, outcome: Outcome) -> (Scenario, Outcome) {
    let (place, longest) = (outcome.place().map(str::to_owned), outcome.history.len());
    let (mut smallest, mut found, mut tries) = (failing.clone(), outcome, 0);
    'smaller: loop {
        for simpler in smallest.simpler() {
            tries += 1;
            if tries > TRIES {
                break 'smaller;
            }
            let outcome = play(&simpler);
            if outcome.place() == place.as_deref() && outcome.history.len() <= longest {
                (smallest, found) = (simpler, outcome);
                continue 'smaller;
            }
        }
        break;
    }
    (smallest, found)
}
