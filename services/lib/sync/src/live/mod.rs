//! The live path: news from the bus reach waiting syncs without a read of the store.

mod hub;
mod interest;
mod ring;
mod session;

pub use hub::Hub;
pub use interest::{Interest, Watch};
pub use ring::Ring;
pub use session::{Dirty, Session};
