//! Tests of the whole; nothing here is part of the product. This library is what they share: a homeserver process that can be
//! killed, and a client that speaks plain HTTP.

mod client;
pub mod kill;
mod raw;
mod sandbox;

pub use client::{Client, Failure, escape};
pub use raw::{Answer, Raw};
pub use sandbox::{Sandbox, run};
