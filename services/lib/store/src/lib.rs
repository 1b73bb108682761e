//! What Polity asks of a store: tables of three kinds, six operations, typed aggregates over them, and the conformance
//! suite that every backend must pass. No driver, no file, no network: backends are crates of their own.
//!
//! **Every operation is one conditional or plain write to one partition of one table, or one bounded read of one
//! partition.** Whatever can't be said that way can't be asked for. The tables are data ([`schema::ALL`]): an embedded
//! store derives its keys from them, a CQL store its statements; what an aggregate means is written once, here.
//!
//! It refuses to know the protocol (events are opaque bytes here). Everybody below the services may import it.

pub mod check;
mod codec;
pub mod cql;
mod error;
mod kept;
pub mod life;
mod marks;
mod observe;
pub mod once;
pub mod packed;
mod pages;
pub mod rooms;
pub mod schema;
mod store;
#[cfg(feature = "suite")]
pub mod suite;
mod table;
pub mod tenants;
mod unsettled;
pub mod users;
mod value;
mod wrap;

pub use error::StoreError;
pub use kept::Kept;
pub use marks::{Mark, MarkMoved, MarkPlace, MarkedStore, Marks};
pub use observe::{Observed, describe_metrics};
pub use pages::rows;
pub use store::{Bounds, Cas, Change, Condition, Consistency, Durability, Expect, Page, Row, Store, Write, WriteKind};
pub use table::{Column, ColumnType, Direction, Kind, Table};
pub use value::{Value, Values, values};
pub use wrap::Wrap;
