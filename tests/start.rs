//! How the program starts, and how it refuses to: one clear message, the code that scripts go by, nothing overwritten.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use http::{Method, StatusCode};
use polity_tests::{Client, Sandbox, escape, run, servers::Authority};
use serde_json::json;
use tokio::process::Command;

const USAGE: i32 = 64;
const DAMAGED: i32 = 65;
const UNAVAILABLE: i32 = 69;
const CANT_CREATE: i32 = 73;
const IN_USE: i32 = 75;

/// The one message of a program that refused, after its code was looked at.
fn refused(output: &Output, code: i32) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(out, "", "who refuses says nothing else");
    assert!(error.starts_with("polity: "), "{error}");
    assert!(!error.contains("panicked") && !error.contains("backtrace"), "{error}");
    error
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.clone(), fs::read(path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_faulty_file_is_told_all_at_once() {
    let sandbox = Sandbox::new(&[]);
    let file = sandbox.folder().join("polity.toml");
    let text = "servername = \"a\"\n[listeners.client]\nbid = \"127.0.0.1:1\"\n[store]\nkind = \"cloud\"\n[federation]\nenabled = true\n";
    fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("UTF-8");
    for arguments in [["config", "check", "--config", path].as_slice(), &["serve", "--config", path]] {
        let message = refused(&run(sandbox.command(arguments).env_remove("POLITY__SERVER_NAME")).await, USAGE);
        for part in [
            "servername: unknown key (the nearest known one is server_name)",
            "listeners.client.bid: unknown key (the nearest known one is listeners.client.bind)",
            "store.kind: \"cloud\" is not one of",
            "federation: unknown key",
        ] {
            assert!(message.contains(part), "{part} isn't in {message}");
        }
    }
    let mut command = sandbox.command(&["serve"]);
    let message =
        refused(&run(command.env("POLITY__STORE__KIND", "cloud").env("POLITY__LOG__LEVL", "info")).await, USAGE);
    assert!(message.contains("POLITY__STORE__KIND") && message.contains("POLITY__LOG__LEVEL"), "{message}");
    refused(&sandbox.run(&["config", "check", "--config", "/nowhere/polity.toml"]).await, USAGE);
    let unknown = sandbox.run(&["fly"]).await;
    assert_eq!(unknown.status.code(), Some(USAGE));
    assert!(!sandbox.folder().join("data").exists(), "who refuses to start makes nothing");
}

#[tokio::test]
async fn the_reference_is_a_good_file_and_the_environment_goes_over_it() {
    let mut sandbox = Sandbox::new(&[]);
    let reference = sandbox.run(&["config", "reference"]).await;
    assert!(reference.status.success());
    let file = sandbox.folder().join("polity.toml");
    fs::write(&file, &reference.stdout).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let checked = sandbox.run(&["config", "check", "--config", path]).await;
    assert!(checked.status.success(), "{checked:?}");
    sandbox.launch_with(&["serve", "--config", path]);
    sandbox.ready().await;
    let (status, _) = sandbox.client().raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_secret_stands_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "between us\n").expect("a file");
    let path = file.to_str().expect("UTF-8");
    let sandbox =
        Sandbox::start(&[("REGISTRATION__SHARED_SECRET_FILE", path), ("REGISTRATION__ENABLED", "false")]).await;
    let nonce = sandbox.client().call(Method::GET, "/_synapse/admin/v1/register", None).await.expect("a nonce");
    assert!(nonce["nonce"].is_string());
    let body = json!({"nonce": nonce["nonce"], "username": "a", "password": "b", "mac": "00"});
    let failure =
        sandbox.client().call(Method::POST, "/_synapse/admin/v1/register", Some(body)).await.expect_err("a bad mac");
    assert_eq!(failure.errcode(), Some("M_FORBIDDEN"));
    assert!(!sandbox.said().contains("between us"));
}

#[tokio::test]
async fn a_port_or_a_folder_in_use_is_left_alone() {
    let sandbox = Sandbox::start(&[]).await;
    let before = contents(&sandbox.folder().join("data"));
    let message = refused(&sandbox.run(&["serve"]).await, UNAVAILABLE);
    assert!(message.contains(&sandbox.address()), "{message}");
    let mut elsewhere = sandbox.command(&["serve"]);
    for listener in ["CLIENT", "OPS"] {
        elsewhere.env(format!("POLITY__LISTENERS__{listener}__BIND"), "127.0.0.1:0");
    }
    let message = refused(&run(&mut elsewhere).await, IN_USE);
    assert!(message.contains("in use by another process"), "{message}");
    let message = refused(&sandbox.run(&["tenant", "create", "b.test"]).await, IN_USE);
    assert!(message.contains("in use by another process"), "{message}");
    let after = contents(&sandbox.folder().join("data"));
    assert!(before == after, "the running server's files were touched");
    let (status, _) = sandbox.client().raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let sandbox = Sandbox::new(&[]);
    let file = sandbox.folder().join("file");
    fs::write(&file, "no folder").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let mut command = sandbox.command(&["serve"]);
        let message = refused(&run(command.env("POLITY__DATA_DIR", &path)).await, CANT_CREATE);
        assert!(message.contains(file.to_str().expect("UTF-8")), "{message}");
    }
    assert_eq!(fs::read(&file).expect("the file"), b"no folder");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() {
    const NOBODY: u32 = 65_534;
    let sandbox = Sandbox::new(&[]);
    let data = sandbox.folder().join("data");
    fs::create_dir(&data).expect("a folder");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(&data, 0o555);
    let usual = sandbox.command(&["serve"]);
    let usual = usual.as_std();
    // Root may write anywhere: then it is tried as somebody else, who must reach the program.
    let root = fs::metadata("/proc/self").expect("this process").uid() == 0;
    let mut command = if root {
        mode(sandbox.folder(), 0o755);
        let program = sandbox.folder().join("polity");
        fs::copy(usual.get_program(), &program).expect("a copy of the program");
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
        command
    } else {
        Command::new(usual.get_program())
    };
    command.args(usual.get_args()).current_dir(sandbox.folder()).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let message = refused(&run(&mut command).await, CANT_CREATE);
    assert!(message.contains(data.to_str().expect("UTF-8")) && message.contains("ermission denied"), "{message}");
    assert!(contents(&data).is_empty());
    mode(&data, 0o755);
    assert_eq!(run(command.arg("--help")).await.status.code(), Some(0), "it was the folder, and nothing else");
}

#[tokio::test]
async fn the_data_folder_is_its_users_alone() {
    let below = Sandbox::new(&[]);
    let data = below.folder().join("one/two");
    let sandbox = Sandbox::start(&[("DATA_DIR", data.to_str().expect("UTF-8"))]).await;
    for folder in [&data, &below.folder().join("one")] {
        let mode = fs::metadata(folder).expect("it was made").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
    sandbox.assert_no_panic();
}

const MESSAGES: usize = 50;

/// A server that was used and ended well, with an account and a room of messages.
async fn used() -> (Sandbox, Client, String) {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut client = sandbox.client();
    client.register("writer", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    for number in 0..MESSAGES {
        client.send(&room, &format!("t{number}"), "text").await.expect("a message");
    }
    sandbox.signal("TERM");
    let ended = sandbox.ended(Duration::from_secs(40)).await;
    assert_eq!(ended.code(), Some(0), "{}", sandbox.said());
    (sandbox, client, room)
}

#[tokio::test]
async fn a_damaged_key_is_not_replaced() {
    let (mut sandbox, _, _) = used().await;
    let path = sandbox.folder().join("data/signing.key");
    let good = fs::read(&path).expect("a key");
    for damage in [&b""[..], b"ed25519 a\n", b"ed25519 a AAAA\n", b"\xff\xfe\x00", &good[..good.len() - 5]] {
        fs::write(&path, damage).expect("a damaged key");
        let message = refused(&sandbox.run(&["serve"]).await, DAMAGED);
        assert!(message.contains("signing.key") && message.contains("damaged"), "{message}");
        assert_eq!(fs::read(&path).expect("the key"), damage, "a damaged key may yet be repaired");
    }
    fs::write(&path, good).expect("the good key");
    sandbox.restart().await;
}

/// A way to damage a file, and its name.
type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: [Damage; 3] = [
    ("overwritten", |bytes| bytes.fill(0xff)),
    ("emptied", Vec::clear),
    ("garbled", |bytes| {
        // In the part that is in use: journals are made large and fill up.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if let Some(byte) = bytes.get_mut(used / 2) {
            *byte ^= 0xff;
        }
    }),
];

/// Whatever is damaged: the server refuses and leaves all as it is, or nothing was lost. It never serves a part.
#[tokio::test]
async fn a_damaged_store_is_told_and_never_served_in_part() {
    let (sandbox, client, room) = used().await;
    let store = sandbox.folder().join("data/store");
    let files = contents(&store);
    let mut told = 0;
    for (path, good) in files.iter().filter(|(_, good)| !good.is_empty()) {
        for (what, damage) in DAMAGES {
            let mut damaged = good.clone();
            damage(&mut damaged);
            fs::write(path, &damaged).expect("a damaged file");
            let case = format!("{} {what}", path.display());
            if let Some(output) = refuses(&sandbox, &client, &room, &case).await {
                let message = refused(&output, DAMAGED);
                assert!(message.contains("the store in "), "{case}: {message}");
                told += 1;
            }
            restore(&store, &files);
        }
    }
    assert!(told > 10, "{told} damages were told");
    fs::remove_dir_all(&store).expect("a folder that can be removed");
    restore(&store, &files);
    assert!(refuses(&sandbox, &client, &room, "restored").await.is_none(), "what was restored is good again");
}

fn restore(store: &Path, files: &[(PathBuf, Vec<u8>)]) {
    if store.exists() {
        fs::remove_dir_all(store).expect("a folder that can be removed");
    }
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// What a server said that refused; none: it serves everything, and is killed.
async fn refuses(sandbox: &Sandbox, client: &Client, room: &str, case: &str) -> Option<Output> {
    let mut command = sandbox.command(&["serve"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let ready = async {
        let operator = sandbox.operator();
        while !operator.raw(Method::GET, "/health/ready", None).await.is_ok_and(|(status, _)| status.is_success()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = child.wait() => {}
        () = ready => {
            let path = format!("/rooms/{}/messages?dir=b&limit=100", escape(room));
            let page = client.call(Method::GET, &path, None).await;
            let page = page.unwrap_or_else(|failure| panic!("{case}: served, and the room is gone: {failure}"));
            let texts = page["chunk"].as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.message");
            assert_eq!(texts.count(), MESSAGES, "{case}: served in part");
            child.kill().await.expect("a child can be killed");
            return None;
        }
    }
    Some(child.wait_with_output().await.expect("its output"))
}

#[tokio::test]
async fn tenants_are_made_once_and_named_well() {
    let sandbox = Sandbox::new(&[]);
    let made = sandbox.run(&["tenant", "create", "b.test"]).await;
    assert!(made.status.success(), "{made:?}");
    for name in ["b.test", "polity.test", "no name", ""] {
        refused(&sandbox.run(&["tenant", "create", name]).await, USAGE);
    }
}

#[tokio::test]
async fn a_process_waits_for_its_store_and_ends_while_it_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path());
    let (ca, own) = (authority.certificate(), authority.issue("member", "polity.internal"));
    let path = |path: &Path| path.display().to_string();
    let (ca, certificate, key) = (path(&ca), path(&own.certificate), path(&own.key));
    let mut sandbox = Sandbox::new(&[
        ("STORE__KIND", "cql"),
        // Nobody listens there.
        ("STORE__CQL__CONTACT_POINTS", "127.0.0.1:1"),
        ("CLUSTER__INTERNAL_CA", &ca),
        ("CLUSTER__INTERNAL_CERT", &certificate),
        ("CLUSTER__INTERNAL_KEY", &key),
    ]);
    sandbox.launch();
    let said = async {
        while !sandbox.said().contains("waiting for the store") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), said).await.expect("it says what it waits for");
    let (status, _) = sandbox.operator().raw(Method::GET, "/health/ready", None).await.expect("an answer");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _) = sandbox.operator().raw(Method::GET, "/health/live", None).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert!(sandbox.client().raw(Method::GET, "/_matrix/client/versions", None).await.is_err());
    sandbox.signal("TERM");
    assert!(sandbox.ended(Duration::from_secs(5)).await.success(), "{}", sandbox.said());

    // A certificate that other processes would refuse is no reason to wait.
    let other = authority.issue("other", "somebody.else");
    let mut command = sandbox.command(&["serve"]);
    command.env("POLITY__CLUSTER__INTERNAL_CERT", &other.certificate).env("POLITY__CLUSTER__INTERNAL_KEY", &other.key);
    let message = refused(&run(&mut command).await, USAGE);
    assert!(message.contains("other members would refuse this certificate"), "{message}");
}

#[tokio::test]
async fn a_store_put_back_from_a_backup_begins_another_life() {
    let mut sandbox = Sandbox::start(&[]).await;
    let mut client = sandbox.client();
    client.register("amy", "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    let event = client.send(&room, "1", "before").await.expect("an event");
    let keys = json!({"one_time_keys": {"signed_curve25519:a": {"key": "a"}, "signed_curve25519:b": {"key": "b"}}});
    client.call(Method::POST, "/keys/upload", Some(keys.clone())).await.expect("keys");
    let before = client.sync(None, 0, &json!({})).await.expect("a sync");
    assert_eq!(before["device_one_time_keys_count"]["signed_curve25519"], 2);
    let since = before["next_batch"].as_str().expect("a token").to_owned();
    sandbox.kill().await;
    let file = sandbox.folder().join("polity.toml");
    fs::write(&file, "").expect("a file");
    let restored = ["schema", "restored", "--config", file.to_str().expect("UTF-8")];
    for _ in 0..2 {
        let output = sandbox.run(&restored).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("the store is in a new life") && !said.contains("the rest"), "{said}");
    }
    sandbox.restart().await;
    let after = client.sync(Some(&since), 0, &json!({})).await.expect("a sync with the token of the life before");
    let timeline = &after["rooms"]["join"][&room]["timeline"];
    let told = timeline["events"].as_array().is_some_and(|events| events.iter().any(|told| told["event_id"] == *event));
    assert!(told, "all is told anew: {after}");
    assert_eq!(after["device_one_time_keys_count"]["signed_curve25519"], 0);
    client.call(Method::POST, "/keys/upload", Some(keys)).await.expect("the same keys again are no keys");
    let again = client.sync(None, 0, &json!({})).await.expect("a sync");
    assert_eq!(again["device_one_time_keys_count"]["signed_curve25519"], 0);
}
