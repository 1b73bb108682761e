//! What every crate of Polity speaks: identifiers, positions, clock and randomness, error kinds, tasks.
//!
//! It refuses to know a store, a wire or a Matrix endpoint. Everybody may import it; it imports no crate of ours.

mod budget;
mod clock;
pub mod cost;
mod error;
mod ids;
pub mod mutation;
mod position;
mod random;
pub mod sync_token;
pub mod tasks;

pub use budget::RetryBudget;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Classified, ErrorKind};
pub use ids::{Epoch, IncarnationId, InvalidId, Life, LogId, LogKey, TenantId};
pub use position::{BUCKET_LEN, Bucket, OrderKey, Position, Seq, Stamp};
pub use random::{Random, SystemRandom};
