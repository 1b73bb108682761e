//! Tests of the whole; nothing here is part of the product. This library is what they share: a homeserver process that can be
//! killed, the servers that a cluster needs, the parts put together by hand (`parts`), and a client that speaks plain HTTP.

mod client;
pub mod cluster;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod kill;
pub mod load;
pub mod parts;
mod ports;
mod raw;
mod sandbox;
pub mod servers;
pub mod sim;
mod stopped;

pub use client::{Client, Failure, Way, escape};
pub use raw::{Answer, Raw};
pub use sandbox::{Sandbox, run};
pub use stopped::Stopped;
