//! The server under load: where it answers and which processes it consists of.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::LoadError;

/// A process that a server uses (its database, say), with the processes below it.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The name in reports; several of one name are one.
    pub name: String,
    /// The root of its process tree.
    pub pid: u32,
}

/// A server and its processes.
#[derive(Debug)]
pub struct Target {
    /// The name in reports.
    pub name: String,
    /// `host:port`.
    pub authority: String,
    /// The roots of its process trees.
    pub pids: Vec<u32>,
    /// What it uses, told apart: names and the roots of their process trees.
    pub beside: Vec<Beside>,
    /// The secret of the shared-secret registration, where open registration is off.
    pub secret: Option<String>,
    run: String,
    names: AtomicU64,
}

// === impl Beside ===

impl FromStr for Beside {
    type Err = String;

    /// Parses `name=pid`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
        let (name, pid) = parsed.ok_or_else(|| format!("{text:?} is not name=pid"))?;
        Ok(Self { name, pid })
    }
}

// === impl Target ===

impl Target {
    /// A target by its base URL.
    ///
    /// # Errors
    /// When the URL isn't plain `http://host:port`.
    pub fn new(name: &str, url: &str, pids: Vec<u32>, secret: Option<String>) -> Result<Self, LoadError> {
        let wrong = || LoadError::Argument(format!("{url:?} is not of the form http://host:port"));
        let authority = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            return Err(wrong());
        }
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        // Names must not meet those of an earlier run against the same server.
        let run = format!("{:08x}", RandomState::new().build_hasher().finish() >> 32);
        Ok(Self { name: name.to_owned(), authority, pids, beside: Vec::new(), secret, run, names: AtomicU64::new(0) })
    }

    /// Parses `name=url,pid,pid…`.
    ///
    /// # Errors
    /// When it isn't of that form.
    pub fn parse(text: &str, secret: Option<String>) -> Result<Self, LoadError> {
        let (name, rest) =
            text.split_once('=').ok_or_else(|| LoadError::Argument(format!("{text:?} is not name=url,pid…")))?;
        let mut parts = rest.split(',');
        let url = parts.next().unwrap_or_default();
        let pids = parts.map(|pid| pid.trim().parse()).collect::<Result<Vec<u32>, _>>()?;
        Self::new(name, url, pids, secret)
    }

    /// A user name no one else has.
    #[must_use]
    pub fn fresh_name(&self) -> String {
        format!("load-{}-{}", self.run, self.names.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_a_url_and_pids() {
        let target = Target::parse("peer=http://127.0.0.1:8008/,12,34", None).unwrap();
        assert_eq!((target.name.as_str(), target.authority.as_str()), ("peer", "127.0.0.1:8008"));
        assert_eq!(target.pids, [12, 34]);
        assert_ne!(target.fresh_name(), target.fresh_name());
    }

    #[test]
    fn tls_paths_and_bad_pids_are_refused() {
        for wrong in ["x", "x=https://a:1", "x=http://a:1/path", "x=http://", "x=http://a:1,pid"] {
            assert!(Target::parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
