//! Where the installed programs are.

use std::path::{Path, PathBuf};

/// The folder into which `tests/servers/install` puts them.
fn installed() -> PathBuf {
    let cache = std::env::var_os("POLITY_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/polity"))
    });
    cache.expect("POLITY_CACHE or HOME").join("servers")
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} isn't there: run tests/servers/install", path.display());
    path
}

/// The Java that Cassandra runs on.
pub(super) fn java() -> PathBuf {
    existing(installed().join("java"))
}

/// The folder of Cassandra's jars.
pub(super) fn cassandra_jars() -> PathBuf {
    existing(installed().join("cassandra/lib"))
}

/// The agent by which rules are put into a node.
pub(super) fn byteman() -> PathBuf {
    existing(cassandra_jars().join("byteman-4.0.24.jar"))
}

pub(super) fn nats_server() -> PathBuf {
    existing(installed().join("nats/bin/nats-server"))
}

/// From the distribution, which has it where only administrators look.
pub(super) fn haproxy() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("haproxy")).find(|program| program.exists());
    found.expect("haproxy isn't there: run tests/servers/install")
}
