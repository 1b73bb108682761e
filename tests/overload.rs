//! More requests than the server can do, and its end under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use polity_core::tasks;
use polity_tests::{Client, Raw, Sandbox, escape};
use serde_json::{Value, json};
use tokio::sync::Mutex;

async fn account(sandbox: &Sandbox, name: &str) -> (Client, String) {
    let mut client = sandbox.client();
    client.register(name, "a long password").await.expect("an account");
    let room = client.create_room(json!({})).await.expect("a room");
    (client, room)
}

fn send_path(room: &str, txn: &str) -> String {
    format!("/rooms/{}/send/m.room.message/{txn}", escape(room))
}

/// Sends on its own connection; what was acknowledged, and how many were refused.
async fn storm(client: Client, room: String, me: usize) -> (Vec<String>, usize) {
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..25 {
        let txn = format!("{me}-{number}");
        let body = json!({"msgtype": "m.text", "body": txn}).to_string();
        let answer =
            client.exchange(Method::PUT, &send_path(&room, &txn), Some(body.into())).await.expect("an answer at once");
        let value: Value = serde_json::from_slice(answer.body()).expect("JSON");
        match answer.status() {
            StatusCode::OK => acknowledged.push(value["event_id"].as_str().expect("an event id").to_owned()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(value["errcode"], "M_LIMIT_EXCEEDED", "{value}");
                assert!(value["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{value}");
                let wait =
                    answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
                assert!(wait.is_some_and(|seconds| seconds > 0), "no Retry-After");
                refused += 1;
            }
            other => panic!("{other}: {value}"),
        }
    }
    (acknowledged, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_refused_at_once_and_nothing_acknowledged_is_lost() {
    let sandbox = Sandbox::start(&[("LIMITS__REQUESTS", "16")]).await;
    let (client, room) = account(&sandbox, "busy").await;
    let before = sandbox.resident();
    let storms: Vec<_> = (0..200).map(|me| tasks::spawn(storm(client.afresh(), room.clone(), me))).collect();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for storm in storms {
        let (some, no) = storm.await.expect("every answer was one of those allowed");
        acknowledged.extend(some);
        refused += no;
    }
    println!("{} acknowledged, {refused} refused", acknowledged.len());
    assert!(refused > 0 && !acknowledged.is_empty(), "{} acknowledged, {refused} refused", acknowledged.len());
    let grown = sandbox.resident().saturating_sub(before);
    assert!(grown < 150 << 20, "{grown} bytes more after the storm");
    // It recovers at once.
    for number in 0..20 {
        acknowledged.push(client.send(&room, &format!("after-{number}"), "calm").await.expect("the storm is over"));
    }
    let mut stored = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("/rooms/{}/messages?dir=f&limit=500{from}", escape(&room));
        let page = client.call(Method::GET, &path, None).await.expect("a page");
        let messages = page["chunk"].as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.message");
        stored.extend(messages.map(|event| event["event_id"].as_str().expect("an id").to_owned()));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    stored.sort();
    acknowledged.sort();
    assert_eq!(stored, acknowledged, "what was acknowledged, and nothing else");
    sandbox.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_first_syncs_share_a_budget_until_they_are_sent_and_small_ones_go_on() {
    let sandbox = Sandbox::start(&[("LIMITS__ANSWERS_BYTES", "8388608")]).await;
    let (client, room) = account(&sandbox, "large").await;
    let (other, _) = account(&sandbox, "small").await;
    // More than the sockets between take.
    let value = "x".repeat(60_000);
    for number in 0..500 {
        let path = format!("/rooms/{}/state/m.test/{number}", escape(&room));
        client.call(Method::PUT, &path, Some(json!({"value": value}))).await.expect("state");
    }
    // Larger than the budget, and nobody else asks.
    let first = client.sync(None, 0, &json!({})).await.expect("a first sync");
    let since = first["next_batch"].as_str().expect("a token");

    let token = client.token.clone().expect("a token");
    let request = format!("GET /_matrix/client/v3/sync HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut unread = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        // Whose answer nobody reads. While it is made it may be refused because of another one, and both may: then the next one that
        // comes alone is answered, and there comes one more that isn't read.
        let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
        raw.send(&request).await.expect("a request");
        unread.push(raw);
        if let Some(refused) = refused_for(&client, Duration::from_secs(2)).await {
            break refused;
        }
        assert!(Instant::now() < deadline, "all of them are answered");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = serde_json::from_slice(refused.body()).expect("JSON");
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED", "{body}");
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    // Many at once take no more than one.
    let state = format!("/rooms/{}/state", escape(&room));
    let page = format!("/rooms/{}/messages?dir=b&limit=1000", escape(&room));
    for path in ["/sync", &state, &page] {
        let before = sandbox.resident();
        let asked = (0..20).map(|_| client.exchange(Method::GET, path, None));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        let grown = sandbox.resident().saturating_sub(before);
        assert!(grown < 200 << 20, "{path}: {grown} bytes more");
    }
    // What is small goes on.
    other.sync(None, 0, &json!({})).await.expect("a small first sync");
    client.send(&room, "1", "news").await.expect("a message");
    let news = client.sync(Some(since), 0, &json!({})).await.expect("the next sync");
    assert_eq!(news["rooms"]["join"][&room]["timeline"]["events"].as_array().map(Vec::len), Some(1));

    drop(unread);
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.exchange(Method::GET, "/sync", None).await.expect("an answer").status() != StatusCode::OK {
        assert!(Instant::now() < deadline, "what the lost answer took is free again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let whole = client.call(Method::GET, &state, None).await.expect("all of the state, alone");
    assert!(whole.as_array().is_some_and(|events| events.len() > 500));
    sandbox.assert_no_panic();
}

/// The last of the refusals, if first syncs, one after the other, are refused for so long.
async fn refused_for(client: &Client, time: Duration) -> Option<Response<Bytes>> {
    let until = Instant::now() + time;
    loop {
        let answer = client.exchange(Method::GET, "/sync", None).await.expect("an answer");
        if answer.status() == StatusCode::OK {
            return None;
        }
        if Instant::now() > until {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends one request after the other on one connection until the server is gone. A request that was sent before the end began
/// has a whole answer.
async fn send_until_the_end(
    address: String,
    token: String,
    room: String,
    me: usize,
    began: Arc<Mutex<Option<Instant>>>,
) -> usize {
    let mut raw = Raw::connect(&address).await.expect("a connection");
    for number in 0.. {
        let path = format!("/_matrix/client/v3{}", send_path(&room, &format!("{me}-{number}")));
        let body = format!("{{\"body\":\"{me}-{number}\"}}");
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let sent = raw.send(head + &body).await.map(|()| Instant::now());
        let answer = if sent.is_ok() { raw.answer().await } else { Ok(None) };
        let before_the_end = async || match (&sent, *began.lock().await) {
            (Ok(sent), Some(end)) => *sent < end,
            (_, end) => end.is_none(),
        };
        match answer {
            Ok(Some(answer)) => assert_eq!(answer.status, 200, "{answer:?}"),
            Ok(None) => {
                assert!(
                    !before_the_end().await,
                    "request {me}-{number} was sent before the end began and has no answer"
                );
                return number;
            }
            Err(error) if before_the_end().await => panic!("request {me}-{number} was cut: {error}"),
            Err(_) => return number,
        }
    }
    unreachable!("the server ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_cuts_no_request() {
    let mut sandbox = Sandbox::start(&[("SHUTDOWN_TIMEOUT_S", "30")]).await;
    let (client, room) = account(&sandbox, "busy").await;
    let first = client.sync(None, 0, &json!({})).await.expect("a first sync");
    let since = first["next_batch"].as_str().expect("a token").to_owned();
    // These wait for a room in which nothing happens.
    let filter = json!({"room": {"rooms": []}, "presence": {"types": []}, "account_data": {"types": []}});
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (client, since, filter) = (client.afresh(), since.clone(), filter.clone());
            tasks::spawn(async move { client.sync(Some(&since), 30_000, &filter).await })
        })
        .collect();
    let began = Arc::new(Mutex::new(None));
    let token = client.token.clone().expect("a token");
    let sending: Vec<_> = (0..30)
        .map(|me| {
            tasks::spawn(send_until_the_end(sandbox.address(), token.clone(), room.clone(), me, Arc::clone(&began)))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    {
        let mut began = began.lock().await;
        *began = Some(Instant::now());
        sandbox.signal("TERM");
    }
    let ended = sandbox.ended(Duration::from_secs(40)).await;
    assert_eq!(ended.code(), Some(0), "{}", sandbox.said());
    let mut answered = 0;
    for task in sending {
        answered += task.await.expect("no request was cut");
    }
    assert!(answered > 0);
    for task in waiting {
        let answer = task.await.expect("the task ends").expect("a waiting sync is answered");
        assert!(answer["next_batch"].is_string());
    }
    assert!(Raw::connect(&sandbox.address()).await.is_err(), "nobody listens any more");
    sandbox.assert_no_panic();
    // All of it is there.
    sandbox.restart().await;
    let path = format!("/rooms/{}/messages?dir=f&limit=1000", escape(&room));
    client.afresh().call(Method::GET, &path, None).await.expect("the room is there");
}

/// A request whose body doesn't come keeps the server from its end.
async fn unfinished(sandbox: &Sandbox, client: &Client) -> Raw {
    let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
    let head = format!(
        "POST /_matrix/client/v3/createRoom HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\n{{",
        client.token.as_deref().unwrap_or_default()
    );
    raw.send(head).await.expect("it is sent");
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_a_deadline_and_health_tells_of_it() {
    let mut sandbox = Sandbox::start(&[("SHUTDOWN_TIMEOUT_S", "3"), ("LIMITS__BODY_TIMEOUT_S", "60")]).await;
    let (client, _) = account(&sandbox, "busy").await;
    let mut held = unfinished(&sandbox, &client).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sandbox.signal("TERM");
    let operator = sandbox.operator();
    let not_ready = AtomicBool::new(false);
    for _ in 0..100 {
        match operator.raw(Method::GET, "/health/ready", None).await {
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => {
                not_ready.store(true, Ordering::SeqCst);
                let live = operator.raw(Method::GET, "/health/live", None).await.map(|(status, _)| status);
                assert_eq!(live.ok(), Some(StatusCode::OK), "it drains, so it lives");
                break;
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    assert!(not_ready.load(Ordering::SeqCst), "who drains isn't ready");
    let ended = sandbox.ended(Duration::from_secs(30)).await;
    assert_eq!(ended.code(), Some(0), "{}", sandbox.said());
    assert!(held.closes(Duration::from_secs(5)).await);
    sandbox.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut sandbox = Sandbox::start(&[("SHUTDOWN_TIMEOUT_S", "600"), ("LIMITS__BODY_TIMEOUT_S", "600")]).await;
    let (client, _) = account(&sandbox, "busy").await;
    let _held = unfinished(&sandbox, &client).await;
    sandbox.signal("TERM");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(sandbox.pid().is_some());
    sandbox.signal("INT");
    let ended = sandbox.ended(Duration::from_secs(20)).await;
    assert_eq!(ended.code(), Some(130));
}
