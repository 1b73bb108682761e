//! Two client-api instances beside each other: a client that is never twice in a row at the same one can't tell them from one, and
//! whatever the bus loses costs it a second at most.

#![expect(clippy::unwrap_used, reason = "a test's own parts: what isn't there ends it")]

mod bus;
#[path = "../sync/counted.rs"]
mod counted;
mod keys;
mod lost;
mod profile;
mod seen;
mod unheard;
mod world;
