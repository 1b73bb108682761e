//! Rooms.

use super::settings::{Check, Fault, section};

section! {
    /// Rooms.
    pub struct Rooms {
        /// The version of new rooms: "10", "11" or "12".
        default_version: String = "12".to_owned();
        /// Whether the list of public rooms is shown without a login.
        public_list_without_auth: bool = false;
    }
}

impl Check for Rooms {
    fn faults(&self) -> Vec<Fault> {
        if matches!(self.default_version.as_str(), "10" | "11" | "12") {
            return Vec::new();
        }
        vec![("default_version", format!("{:?} is not \"10\", \"11\" or \"12\"", self.default_version))]
    }
}
