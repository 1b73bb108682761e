//! The store and the bus on real servers, and what only those can show: `tests/servers/install` brings them.

mod columns;
mod cql;
mod log;
mod lost_commits;
mod nats;
mod nats_accounts;
mod nodes;
mod schema;
