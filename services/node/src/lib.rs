//! The composition root: the only crate that names a backend. It reads the configuration, builds the tiers, runs them, and ends them.

mod bus;
mod clients;
mod command;
mod digests;
mod failure;
mod greeting;
mod ground;
mod health;
mod members;
mod ports;
mod readiness;
mod restored;
mod rooms;
mod run;
mod schema;
mod store;
mod tenants;
mod tier;
mod wait;

pub use command::main;
pub use tier::Tier;
