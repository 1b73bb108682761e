//! The client-server API over HTTP. It has no truth of its own: rooms are changed through gRPC to room-state, users through
//! `lib/accounts`, and both are read through `lib/sync`. Only `node` imports it.

mod account;
mod api;
mod auth;
mod call;
mod directory;
mod discovery;
mod endpoint;
mod error;
mod interactive;

mod keys;
mod limits;
mod parser_names;
mod room;
mod room_client;
mod routes;
mod session;
mod sync;
mod user;

pub use api::{Api, Parts, Tenant, Tenants};
pub use error::ApiError;
pub use limits::Limits;
pub use routes::router;
pub use user::OwedToRooms;
