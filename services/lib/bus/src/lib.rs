//! The bus: news between processes, by subject. **A hint, never the truth**: every consumer can lose every message and
//! lose only time, so publishing never waits, never fails and promises nothing.
//!
//! It refuses to store, to acknowledge and to order across subjects (one publisher's messages on one subject arrive in
//! order, or not at all). Here are the trait, the in-process implementation of the single binary, and the suite that
//! every implementation passes. Everybody below the services may import it.

mod bus;
mod local;
mod sink;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod wake;

pub use bus::{
    Bus, MESSAGES_LOST, MESSAGES_NOT_UNDERSTOOD, MESSAGES_PUBLISHED, Message, News, Receiver, Subject, SubjectKind,
    Subscriptions, describe_metrics, not_understood,
};
pub use local::LocalBus;
pub use sink::{Sink, SinkReceiver};
pub use wake::Wake;
