//! Digests: what every process that writes tells those that read, so that they know what they needn't read.
//!
//! A process numbers what it writes from 1 (its [`Journal`]): the heads of logs, and the marks of users' partitions. Others follow it
//! without a gap: by the bus a few times a second, as a hint, and by asking ([`Flush`]), which every request does before anything
//! else. What isn't known for certain is forgotten, and read. An entry stands in the journal before its write is answered, so whoever
//! asks afterwards gets it. It refuses to carry contents.

mod entry;
mod flush;
mod journal;
mod metric;
mod writers;

#[cfg(test)]
mod tests;

pub use entry::{Digest, Entry, InvalidDigest};
pub use flush::{Asked, Flush, Follow};
pub use journal::{Journal, publish};
pub use metric::describe_metrics;
pub use writers::Writers;
