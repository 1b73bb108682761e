//! The composition root: the only crate that names a backend. It reads the configuration, builds the tiers, runs them, and ends them.

mod command;
mod failure;
mod run;
mod tenants;

pub use command::main;
