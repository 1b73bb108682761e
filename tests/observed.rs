//! What operators see, and what they must never see.

use std::{collections::BTreeSet, time::Duration};

use http::{Method, StatusCode, header};
use polity_tests::{Client, Sandbox, escape};
use serde_json::{Value, json};

const PASSWORD: &str = "correct-horse-battery";

/// Asks until it is told to wait; at most `limit` times. What it was told then.
async fn until_limited(client: &Client, limit: usize, ask: impl Fn(usize) -> (Method, String, Value)) -> usize {
    for number in 0..limit {
        let (method, path, body) = ask(number);
        let answer = client.exchange(method, &path, Some(body.to_string().into())).await.expect("an answer");
        if answer.status() != StatusCode::TOO_MANY_REQUESTS {
            continue;
        }
        let value: Value = serde_json::from_slice(answer.body()).expect("JSON");
        assert_eq!(value["errcode"], "M_LIMIT_EXCEEDED");
        let ms = value["retry_after_ms"].as_u64().expect("a time to wait");
        let seconds =
            answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
        assert_eq!(seconds, Some(ms.div_ceil(1000).max(1)), "Retry-After in whole seconds");
        return number;
    }
    panic!("{limit} requests and no limit");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    // So slow that a test never sees a bucket fill up again.
    let mut settings = vec![("RATE_LIMITS__ENABLED", "true")];
    let names = ["MESSAGES", "JOINS", "INVITES", "LOGINS", "REGISTRATIONS"];
    let keys: Vec<_> =
        names.iter().map(|name| (format!("RATE_LIMITS__{name}_PER_S"), format!("RATE_LIMITS__{name}_BURST"))).collect();
    for (rate, burst) in &keys {
        settings.extend([(rate.as_str(), "0.001"), (burst.as_str(), "5")]);
    }
    let sandbox = Sandbox::start(&settings).await;
    let mut client = sandbox.client();
    client.register("often", PASSWORD).await.expect("an account");
    let room = client.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    let path = |rest: &str| format!("/rooms/{}/{rest}", escape(&room));
    let message = |n| (Method::PUT, path(&format!("send/m.room.message/{n}")), json!({"body": "a"}));
    assert_eq!(until_limited(&client, 20, message).await, 5);
    // Counted as messages are, and for themselves.
    let to_device = |n| (Method::PUT, format!("/sendToDevice/m.test/{n}"), json!({"messages": {}}));
    assert_eq!(until_limited(&client, 20, to_device).await, 5);
    let data = format!("/user/{}/account_data/m.test", escape(&client.user_id));
    let account_data = |n| (Method::PUT, data.clone(), json!({"n": n}));
    assert_eq!(until_limited(&client, 20, account_data).await, 5);
    let invite = |n| (Method::POST, path("invite"), json!({"user_id": format!("@user{n}:polity.test")}));
    assert_eq!(until_limited(&client, 20, invite).await, 5);
    // One was taken by the room.
    assert_eq!(until_limited(&client, 20, |_| (Method::POST, path("join"), json!({}))).await, 4);
    let login =
        json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "often"}, "password": "wrong"});
    assert_eq!(until_limited(&client, 20, |_| (Method::POST, "/login".to_owned(), login.clone())).await, 5);
    let register = |n| {
        let auth = json!({"type": "m.login.dummy"});
        (
            Method::POST,
            "/register".to_owned(),
            json!({"username": format!("more{n}"), "password": PASSWORD, "auth": auth}),
        )
    };
    assert_eq!(until_limited(&client, 20, register).await, 4);
    // What isn't limited goes on.
    client.sync(None, 0, &json!({})).await.expect("a sync");
    sandbox.assert_no_panic();
}

#[tokio::test]
async fn a_request_leaves_one_line_and_no_secret() {
    let mut sandbox =
        Sandbox::start(&[("LOG__LEVEL", "debug"), ("REGISTRATION__SHARED_SECRET", "between-operators")]).await;
    let mut client = sandbox.client();
    client.register("logged", PASSWORD).await.expect("an account");
    let first = client.token.clone().expect("a token");
    client.login("logged", PASSWORD).await.expect("a login");
    let room = client.create_room(json!({"name": "secret-name", "topic": "secret-topic"})).await.expect("a room");
    client.send(&room, "secret-txn", "secret-text").await.expect("a message");
    let own = escape(&client.user_id);
    let data = format!("/user/{own}/account_data/org.test");
    client.call(Method::PUT, &data, Some(json!({"of": "secret-data"}))).await.expect("account data");
    let device = json!({"messages": {&client.user_id: {"*": {"of": "secret-device"}}}});
    client.call(Method::PUT, "/sendToDevice/m.test/t", Some(device)).await.expect("a message to a device");
    let keys = json!({"one_time_keys": {"signed_curve25519:k": {"key": "secret-key"}}});
    client.call(Method::POST, "/keys/upload", Some(keys)).await.expect("a key");
    let answer = client.sync(None, 0, &json!({})).await.expect("a sync");
    let since = answer["next_batch"].as_str().expect("a token").to_owned();
    client.sync(Some(&since), 0, &json!({})).await.expect("a sync");
    // In a query, and in what is refused.
    let mut query = sandbox.client();
    query.token = None;
    let path = format!("/sync?timeout=0&access_token={}", client.token.as_deref().unwrap_or_default());
    query.call(Method::GET, &path, None).await.expect("a token in the query");
    let bad = query.call(
        Method::POST,
        "/login",
        Some(json!({"type": "m.login.password", "password": "secret-mistake", "user": "logged"})),
    );
    bad.await.expect_err("a wrong password");
    query.raw(Method::POST, "/login", Some("{\"password\": \"secret-broken".into())).await.expect("an answer");
    let answered = requests(&sandbox).await;
    sandbox.signal("TERM");
    assert_eq!(sandbox.ended(Duration::from_secs(40)).await.code(), Some(0));
    let said = sandbox.said();
    let lines = said.lines().filter(|line| line.contains("polity::request") && line.contains("/_matrix/")).count();
    assert_eq!(lines, answered, "one line a request");
    let tokens = [first.as_str(), client.token.as_deref().unwrap_or_default(), since.as_str()];
    for secret in tokens.into_iter().chain([PASSWORD, "between-operators", "secret-"]) {
        let line = said.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
    sandbox.assert_no_panic();
}

/// How many requests of clients the metrics count.
async fn requests(sandbox: &Sandbox) -> usize {
    let (_, text) = sandbox.operator().raw(Method::GET, "/metrics", None).await.expect("the metrics");
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let counts =
        text.lines().filter(|line| line.starts_with("polity_http_requests_total{") && line.contains("/_matrix/"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[tokio::test]
async fn every_metric_says_what_it_is() {
    let sandbox = Sandbox::start(&[]).await;
    let mut client = sandbox.client();
    client.register("measured", PASSWORD).await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    client.send(&room, "t", "text").await.expect("a message");
    client.sync(None, 0, &json!({})).await.expect("a sync");
    let (status, text) = sandbox.operator().raw(Method::GET, "/metrics", None).await.expect("the metrics");
    assert_eq!(status, StatusCode::OK);
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let described = |kind: &str| -> BTreeSet<String> {
        let start = format!("# {kind} ");
        let names = text.lines().filter_map(|line| line.strip_prefix(&start)?.split(' ').next().map(str::to_owned));
        names.collect()
    };
    let (help, types) = (described("HELP"), described("TYPE"));
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
        let name = name.split('{').next().unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|base| types.contains(*base)));
        seen.insert(base.unwrap_or(name).to_owned());
    }
    assert!(seen.len() > 10, "{seen:?}");
    let undescribed: Vec<_> = seen.iter().filter(|name| !help.contains(*name) || !types.contains(*name)).collect();
    assert!(undescribed.is_empty(), "without HELP or TYPE: {undescribed:?}");
    assert!(!text.contains("measured") && !text.contains(&room), "metrics name no user and no room");
    for (path, status) in [("/health/live", 200), ("/health/ready", 200), ("/_matrix/client/versions", 404)] {
        let (got, _) = sandbox.operator().raw(Method::GET, path, None).await.expect("an answer");
        assert_eq!(got.as_u16(), status, "{path} at the operators' listener");
    }
    let (public, _) = sandbox.client().raw(Method::GET, "/metrics", None).await.expect("an answer");
    assert_eq!(public, StatusCode::NOT_FOUND, "metrics are none of the public's business");
}
