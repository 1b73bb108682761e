//! Who may make accounts, and how passwords are kept.

use std::path::PathBuf;

use super::{
    Secret,
    settings::{Check, Fault, section},
};

section! {
    /// Who may make accounts.
    pub struct Registration {
        /// Whether anybody may make an account (m.login.dummy).
        enabled: bool = false;
        /// Whoever has it may make accounts: GET and POST /_synapse/admin/v1/register. Default: nobody.
        shared_secret: Secret = Secret::default();
        /// A file that holds the shared secret, instead.
        shared_secret_file: PathBuf = PathBuf::new();
    }
}

section! {
    /// How passwords are kept.
    pub struct Passwords {
        /// Hashes that cost nothing and protect nothing. For tests only.
        cheap_hash_for_tests: bool = false;
    }
}

impl Check for Registration {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Check for Passwords {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}
