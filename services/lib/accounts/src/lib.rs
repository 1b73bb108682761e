//! Users: accounts, tokens, devices, end-to-end keys, inboxes, device-list changes.
//!
//! A user's record is a log, materialised entry by entry; an account is its first row, so that of two who register one name at once
//! exactly one wins. A device's inbox and a tenant's device-list changes are logs, too. Access tokens stand as hashes in their
//! device's entry. It refuses to know rooms and HTTP. `sync`, the services and `node` may import it.

mod account;
mod accounts;
mod claims;
mod cross_signing;
mod data;
mod devices;
mod due;
mod error;
mod fallback;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inbox;
mod jobs;
mod keys;
mod lists;
mod login;
mod metric;
mod one_time;
mod password;
mod record;
mod shelf;
mod token;

#[cfg(test)]
mod tests;

pub use account::NewAccount;
pub use accounts::{Accounts, Uses};
pub use claims::{Claimed, Wanted};
pub use cross_signing::CrossSigningKey;
pub use data::{PROFILE_FIELDS, Public, public};
pub use devices::{Device, DeviceRef, Session};
pub use error::Error;
pub use inbox::{INBOX_PAGE, Message};
pub use jobs::{RoomWork, owed};
pub use keys::KeyUpload;
pub use lists::{changed_user, device_lists_log};
pub use login::{LoggedIn, NewDevice};
pub use metric::describe_metrics;
pub use one_time::{KeyCounts, OneTimeKey};
pub use record::{Change, Entry};
