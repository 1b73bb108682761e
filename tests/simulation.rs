//! The simulation plays the same for the same seed, and finds nothing. Many more seeds: `simulate`.

use polity_tests::sim::{Scenario, play, restored};

#[test]
fn a_seed_gives_the_same_history_each_time() {
    for seed in [3, 4, 5] {
        let scenario = Scenario::of(seed);
        let (one, other) = (play(&scenario), play(&scenario));
        assert!(one.history.len() > 20, "something happens");
        let differs = one.history.iter().zip(&other.history).find(|(one, other)| one != other);
        assert_eq!((differs, one.digest()), (None, other.digest()), "seed {seed}");
    }
}

#[test]
fn what_was_promised_stands_whatever_goes_wrong() {
    for seed in 1..=40 {
        let scenario = Scenario::of(seed);
        let outcome = play(&scenario);
        assert_eq!(outcome.fault, None, "{scenario}");
    }
}

#[test]
fn a_store_put_back_from_a_backup_is_told_as_it_is() {
    for seed in 1..=8 {
        let outcome = restored(seed);
        assert_eq!(outcome.fault, None, "seed {seed}:\n{}", outcome.history.join("\n"));
        assert!(outcome.acknowledged > 0, "something happens");
    }
}
