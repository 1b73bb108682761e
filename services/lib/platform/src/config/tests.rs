//! The reference is the defaults, faults come all at once, secrets stay secret.

use std::fs;

use super::*;

fn from(text: &str, environment: &[(&str, &str)]) -> Result<Config, Faults> {
    let path = std::env::temp_dir().join(format!("polity-config-{}-{:p}.toml", std::process::id(), text));
    fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = load(Some(&path), environment.collect::<Vec<_>>(), Config::default());
    fs::remove_file(path).unwrap();
    loaded
}

#[test]
fn the_reference_is_the_defaults_and_every_key_has_docs() {
    assert_eq!(from(&reference(), &[]), Ok(Config::default()));
    assert!(keys::KEYS.iter().all(|key| key.doc.len() > 10));
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = from(
        "server_name = \"a\"\n[store]\nkind = \"embedded\"",
        &[
            ("POLITY__STORE__KIND", "memory"),
            ("POLITY__SHUTDOWN_TIMEOUT_S", "5"),
            ("POLITY__REGISTRATION__SHARED_SECRET", "1234"),
            ("OTHER", "x"),
        ],
    );
    let config = config.unwrap();
    assert_eq!((config.store.kind, config.shutdown_timeout_s), (StoreKind::Memory, 5));
    assert_eq!(config.registration.shared_secret, "1234");
    assert!(!format!("{config:?}").contains("1234"));
}

#[test]
fn all_faults_come_at_once_and_name_the_nearest_key() {
    let faults = from("servername = \"a\"\n[log]\nlevl = \"info\"", &[("POLITY__STORE__KINDS", "x")]).unwrap_err();
    assert_eq!(faults.0.len(), 3, "{faults}");
    assert!(
        faults.0.iter().any(|fault| fault.contains("log.level"))
            && faults.0.iter().any(|fault| fault.contains("server_name"))
    );
    let faults = from("server_name = \"\"\npublic_baseurl = \"x\"\n[rooms]\ndefault_version = \"3\"", &[]).unwrap_err();
    assert_eq!(faults.0.len(), 3, "{faults}");
    assert!(from("shutdown_timeout_s = \"x\"", &[]).is_err());
}
