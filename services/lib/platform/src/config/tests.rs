//! The reference is the defaults, faults come all at once, secrets stay secret.

use std::{collections::BTreeMap, fs};

use super::*;

fn from(text: &str, environment: &[(&str, &str)]) -> Result<Config, Faults> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polity.toml");
    fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(&path), environment.collect::<Vec<_>>(), Config::default())
}

fn without_file(environment: &[(&str, &str)]) -> Config {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(None, environment, Config::single_binary_default()).unwrap()
}

#[test]
fn the_reference_is_the_defaults_and_every_key_has_docs() {
    assert_eq!(from(&reference(), &[]), Ok(Config::default()));
    let keys = reference::keys();
    assert!(keys.len() > 30);
    for key in keys {
        assert!(key.doc.concat().len() > 10, "{} has no docs", key.path);
    }
}

#[test]
fn every_key_can_be_set_by_the_environment() {
    let keys = reference::keys();
    let text = |default: &str| default.trim_matches(['"', '[', ']']).to_owned();
    let environment: Vec<(String, String)> = keys
        .iter()
        .map(|key| (format!("POLITY__{}", key.path.to_uppercase().replace('.', "__")), text(&key.default)))
        .collect();
    assert_eq!(load(None, environment, Config::default()), Ok(Config::default()));
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = from(
        "server_name = \"a\"\n[store]\nkind = \"embedded\"\n[listeners.client]\nbind = \"127.0.0.1:1\"",
        &[
            ("POLITY__STORE__KIND", "memory"),
            ("POLITY__SHUTDOWN_TIMEOUT_S", "5"),
            ("POLITY__REGISTRATION__SHARED_SECRET", "1234"),
            ("POLITY__RATE_LIMITS__JOINS_PER_S", "3"),
            ("POLITY__LISTENERS__CLIENT__TRUSTED_PROXIES", "10.0.0.1, ::1"),
            ("OTHER", "x"),
        ],
    );
    let config = config.unwrap();
    assert_eq!((config.store.kind, config.shutdown_timeout_s), (StoreKind::Memory, 5));
    assert_eq!(config.registration.shared_secret.expose(), "1234");
    assert!(!format!("{config:?}").contains("1234"));
    assert_eq!(config.listeners.client.bind.port(), 1);
    assert_eq!(config.listeners.client.trusted_proxies.len(), 2);
    assert!((config.rate_limits.joins_per_s - 3.0).abs() < f64::EPSILON);
}

#[test]
fn all_faults_come_at_once_and_name_the_nearest_key() {
    let text = "servername = \"a\"\nshutdown_timeout_s = \"x\"\n[log]\nlevl = \"info\"\n[federation]\nenabled = true";
    let faults =
        from(text, &[("POLITY__STORE__KINDS", "x"), ("POLITY__ROOMS__DEFAULT_VERSION", "3")]).unwrap_err().to_string();
    for part in [
        "servername: unknown key (the nearest known one is server_name)",
        "shutdown_timeout_s: \"x\" is not a whole number",
        "log.levl: unknown key (the nearest known one is log.level)",
        "federation: unknown key",
        "POLITY__STORE__KINDS: unknown key (the nearest known one is POLITY__STORE__KIND)",
        "rooms.default_version: \"3\" is not",
    ] {
        assert!(faults.contains(part), "{part} isn't in:\n{faults}");
    }
    assert_eq!(faults.lines().count(), 6, "{faults}");
}

#[test]
fn values_that_cannot_be_are_refused() {
    for (text, key) in [
        ("server_name = \"\"", "server_name"),
        ("server_name = \"a/b\"", "server_name"),
        ("public_baseurl = \"x\"", "public_baseurl"),
        ("public_baseurl = \"x.org\"", "public_baseurl"),
        ("public_baseurl = \"https://\"", "public_baseurl"),
        ("public_baseurl = \"https:///x\"", "public_baseurl"),
        ("public_baseurl = \"https://:80\"", "public_baseurl"),
        ("public_baseurl = \"https://me@x.org\"", "public_baseurl"),
        ("public_baseurl = \"https://x.org/?a=b\"", "public_baseurl"),
        ("public_baseurl = \"ftp://x.org\"", "public_baseurl"),
        ("data_dir = \"\"", "data_dir"),
        ("shutdown_timeout_s = -1", "shutdown_timeout_s"),
        ("store = 1", "store: is a section"),
        ("[store]\nkind = \"cqll\"", "store.kind"),
        ("[listeners.client]\nbind = \"8008\"", "listeners.client.bind"),
        ("[listeners.client]\ntls_cert = \"a\"", "listeners.client.tls_key"),
        ("[listeners.ops]\nbind = \"127.0.0.1:8008\"", "listeners.ops.bind"),
        ("[rate_limits]\nmessages_per_s = 0", "rate_limits.messages_per_s"),
        ("[rate_limits]\ninvites_burst = 0", "rate_limits.invites_burst"),
        ("[limits]\nrequest_body_bytes = 10", "limits.request_body_bytes"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[telemetry]\notlp_endpoint = \"here\"", "telemetry.otlp_endpoint"),
        ("[registration]\nshared_secret_file = \"/nowhere\"", "registration.shared_secret_file"),
        ("a = [", "polity.toml"),
    ] {
        let faults = from(text, &[]).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{faults}");
        assert!(faults.0[0].contains(key), "{key} isn't in {faults}");
    }
    assert!(from("[log]\nlevel = \"warn,polity_log=debug\"", &[]).is_ok());
    assert!(load(Some("/nowhere.toml".as_ref()), [], Config::default()).is_err());
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "hush\n").unwrap();
    let file = ("POLITY__REGISTRATION__SHARED_SECRET_FILE", path.to_str().unwrap());
    assert_eq!(from("", &[file]).unwrap().registration.shared_secret.get(), Some("hush"));
    let twice = from("", &[file, ("POLITY__REGISTRATION__SHARED_SECRET", "loud")]).unwrap_err().to_string();
    assert!(twice.contains("twice") && !twice.contains("loud"));
}

#[test]
fn registration_is_open_on_loopback_only_unless_it_was_asked_for() {
    let public = ("POLITY__LISTENERS__CLIENT__BIND", "0.0.0.0:8008");
    assert!(without_file(&[]).registration.enabled);
    assert!(!without_file(&[public]).registration.enabled);
    assert!(without_file(&[public, ("POLITY__REGISTRATION__ENABLED", "true")]).registration.enabled);
    assert!(!from("", &[]).unwrap().registration.enabled);
}

#[test]
fn addresses_and_names_have_defaults() {
    let mut config = Config::default();
    assert_eq!(config.base_url(), "http://127.0.0.1:8008");
    config.public_baseurl = "https://m.example.org/".to_owned();
    assert_eq!(config.base_url(), "https://m.example.org");
    assert!(config.node_name(config.listeners.client.bind).ends_with(":8008"));
    config.cluster.node_name = "a".to_owned();
    assert_eq!(config.node_name(config.listeners.client.bind), "a");
}

#[test]
fn a_shared_store_needs_what_processes_call_each_other_with() {
    let faults = from(
        "[store]\nkind = \"cql\"\n[listeners.internal]\nbind = \"0.0.0.0:8009\"\n[store.cql]\nreplication = { here = 3 }\n\
         tls_cert = \"a.pem\"\ncontact_points = [\"a\"]\n[bus.nats]\nurls = [\"http://a\"]\nusername = \"u\"",
        &[],
    );
    let faults = faults.unwrap_err().to_string();
    for key in [
        "cluster.internal_ca: missing",
        "cluster.internal_cert: missing",
        "cluster.internal_key: missing",
        "listeners.internal.advertise: missing",
        "store.cql.local_datacenter: \"dc1\" is not one",
        "store.cql.tls_key: missing",
        "store.cql.contact_points: \"a\" is not a host",
        "bus.nats.urls: \"http://a\" is not",
        "bus.nats.password: missing",
    ] {
        assert!(faults.contains(key), "{key} isn't in:\n{faults}");
    }
    assert_eq!(faults.lines().count(), 9, "{faults}");
}

#[test]
fn a_cluster_is_configured_by_file_and_by_environment_alike() {
    let file = "[store]\nkind = \"cql\"\n[store.cql]\ncontact_points = [\"a:1\", \"b:2\"]\nlocal_datacenter = \"x\"\n\
                replication = { x = 3, y-z = 1 }\n[bus]\nkind = \"nats\"\n[listeners.internal]\nbind = \"0.0.0.0:8009\"\n\
                advertise = \"here.local:8009\"\n\
                [cluster]\ninternal_ca = \"ca\"\ninternal_cert = \"cert\"\ninternal_key = \"key\"";
    let environment = [
        ("POLITY__STORE__KIND", "cql"),
        ("POLITY__STORE__CQL__CONTACT_POINTS", "a:1,b:2"),
        ("POLITY__STORE__CQL__LOCAL_DATACENTER", "x"),
        ("POLITY__STORE__CQL__REPLICATION", "x=3, y-z=1"),
        ("POLITY__BUS__KIND", "nats"),
        ("POLITY__LISTENERS__INTERNAL__BIND", "0.0.0.0:8009"),
        ("POLITY__LISTENERS__INTERNAL__ADVERTISE", "here.local:8009"),
        ("POLITY__CLUSTER__INTERNAL_CA", "ca"),
        ("POLITY__CLUSTER__INTERNAL_CERT", "cert"),
        ("POLITY__CLUSTER__INTERNAL_KEY", "key"),
    ];
    let config = from(file, &[]).unwrap();
    assert_eq!(config.store.cql.replication, BTreeMap::from([("x".to_owned(), 3), ("y-z".to_owned(), 1)]));
    assert_eq!(from("", &environment), Ok(config));
}
