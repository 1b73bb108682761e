//! What `deploy/` says is what the programs take: no container is needed to see that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use polity_tests::{Sandbox, run};
use serde_json::{Map, Value};

fn deploy() -> PathBuf {
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    Path::new(&tests).parent().expect("the tests stand in the workspace").join("deploy")
}

fn text(file: &str) -> String {
    fs::read_to_string(deploy().join(file)).unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&text("compose.yaml")).expect("YAML")
}

fn services(compose: &Value) -> &Map<String, Value> {
    compose["services"].as_object().expect("services")
}

/// The services that are ours, by the tier that they are.
fn of_tier<'a>(compose: &'a Value, tier: &str) -> BTreeMap<&'a str, &'a Value> {
    let is_it = |service: &&Value| service["build"]["target"] == tier;
    services(compose)
        .iter()
        .filter(|(_, service)| is_it(service))
        .map(|(name, service)| (name.as_str(), service))
        .collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    let given = service["environment"].as_object().expect("an environment");
    given.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
}

/// What a tier's program says of the file, as a service would start it.
async fn check(tier: &str, file: &str, environment: &BTreeMap<String, String>) -> Output {
    let (sandbox, folder) = (Sandbox::new(&[]), tempfile::tempdir().expect("a folder"));
    // Where the services find their secrets, there is nothing here.
    let secrets = folder.path().join("secrets");
    fs::create_dir_all(&secrets).expect("a folder");
    for secret in ["nats_password", "registration_secret"] {
        fs::write(secrets.join(secret), "secret").expect("a file");
    }
    let path = folder.path().join("polity.toml");
    fs::write(&path, file.replace("/run/secrets", &secrets.display().to_string())).expect("a file");
    let program = sandbox.command(&[]).as_std().get_program().to_owned();
    let program = Path::new(&program).with_file_name(format!("polity-{tier}"));
    let mut command = tokio::process::Command::new(program);
    command.args(["config", "check", "--config"]).arg(&path).env_clear().envs(environment);
    run(&mut command).await
}

#[tokio::test]
async fn every_service_of_ours_has_a_configuration_that_its_program_takes() {
    let (compose, file) = (compose(), text("polity.toml"));
    for tier in ["client-api", "room-state"] {
        let of_tier = of_tier(&compose, tier);
        assert!(of_tier.len() >= 2, "{tier}: {of_tier:?}");
        let mut nodes = BTreeSet::new();
        for (name, service) in &of_tier {
            let given = environment(service);
            let checked = check(tier, &file, &given).await;
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
            // Where others find it is itself.
            assert_eq!(given["POLITY__LISTENERS__INTERNAL__ADVERTISE"], format!("{name}:8009"));
            assert!(nodes.insert(given["POLITY__CLUSTER__NODE_NAME"].clone()), "{name}: a name that another one has");
            assert!(strings(&service["volumes"]).contains(&"./polity.toml:/etc/polity/polity.toml:ro"), "{name}");
            let asked = strings(&service["healthcheck"]["test"]);
            let program = format!("/polity-{tier}");
            assert_eq!(asked, ["CMD", program.as_str(), "health", "--config", "/etc/polity/polity.toml"], "{name}");
        }
        // The check can fail.
        let lacking = file.replace("internal_ca =", "internal_ce =");
        let checked = check(tier, &lacking, &environment(of_tier.values().next().expect("a service"))).await;
        assert!(String::from_utf8_lossy(&checked.stderr).contains("cluster.internal_ce: unknown key"), "{checked:?}");
        assert!(!check(tier, &file, &BTreeMap::new()).await.status.success(), "nobody is told where it is");
    }
}

#[test]
fn what_services_name_is_there() {
    let compose = compose();
    let all = services(&compose);
    let defined = |kind: &str, name: &str| compose[kind].get(name).is_some();
    for (name, service) in all {
        for secret in strings(&service["secrets"]) {
            assert!(defined("secrets", secret), "{name}: there is no secret {secret}");
        }
        let needed: Vec<&str> = match &service["depends_on"] {
            Value::Object(by_name) => by_name.keys().map(String::as_str).collect(),
            list => strings(list),
        };
        assert!(needed.iter().all(|needed| all.contains_key(*needed)), "{name} depends on {needed:?}");
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            let there = match source.strip_prefix("./") {
                Some(file) => deploy().join(file).is_file(),
                None => defined("volumes", source),
            };
            assert!(there, "{name}: {source} isn't there");
        }
    }
    for (name, secret) in compose["secrets"].as_object().expect("secrets") {
        let path = secret["file"].as_str().expect("a file");
        let made = path.rsplit('/').next().expect("a name").split('.').next().expect("a name");
        // Who runs the proxy brings its certificate.
        assert!(name == "proxy_certificate" || text("secrets.sh").contains(made), "nobody makes {path}");
    }
}

#[test]
fn images_and_proxy_fit_the_services() {
    let (compose, container, proxy) = (compose(), text("Containerfile"), text("haproxy.cfg"));
    for tier in ["client-api", "room-state"] {
        assert!(container.contains(&format!("AS {tier}\n")), "no image of {tier}");
        assert!(container.contains(&format!("ENTRYPOINT [\"/polity-{tier}\"]")), "{tier} isn't what its image starts");
    }
    let servers: BTreeMap<&str, &str> = proxy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("server "))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let wanted: Vec<String> = of_tier(&compose, "client-api").keys().map(|name| format!("{name}:8008")).collect();
    assert_eq!(servers.values().copied().collect::<Vec<_>>(), wanted);
    let address = compose["services"]["proxy"]["networks"]["inner"]["ipv4_address"].as_str().expect("an address");
    for service in of_tier(&compose, "client-api").values() {
        assert_eq!(environment(service)["POLITY__LISTENERS__CLIENT__TRUSTED_PROXIES"], address);
    }
    let refusal = text("503.http");
    let (head, body) = refusal.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 503 "));
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["errcode"], "M_UNKNOWN");
}
