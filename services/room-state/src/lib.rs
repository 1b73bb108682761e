//! Room state: the only writer of rooms. One task per hot room takes commands, decides them with the pure `room-engine`, and appends
//! through `lib/log`. It calls no other service. `node` imports it; everybody else speaks gRPC to it.

mod command;
mod deps;
mod error;
mod found;
mod grpc;
mod hot;
mod machine;
mod membership;
mod metric;
mod nodes;
mod profiles;
mod project;
mod purge;
mod restricted;
mod rooms;
mod stage;
mod summary;

pub use deps::{Deps, Tenant, Tenants};
pub use error::RoomError;
pub use metric::describe_metrics;
pub use rooms::{ROOM_LOG, Service};

#[cfg(test)]
mod tests;
