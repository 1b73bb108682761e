//! Input that no client means well with: the spec's error, nothing lost, memory flat, no panic.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use polity_core::tasks;
use polity_tests::{Client, Raw, Sandbox, escape};
use serde_json::json;
use tokio::net::TcpStream;

const V3: &str = "/_matrix/client/v3";

async fn account(sandbox: &Sandbox, name: &str) -> Client {
    let mut client = sandbox.client();
    client.register(name, "a long password").await.expect("an account");
    client
}

/// A request with any bytes as its body.
fn request(method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: polity.test\r\n{token}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Sends one request; its status and `errcode`.
async fn ask(sandbox: &Sandbox, bytes: &[u8]) -> (u16, String) {
    let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
    // A refusal may come before everything is sent.
    let _ = raw.send(bytes).await;
    let answer = raw.answer().await.expect("a whole answer").expect("an answer");
    let errcode = answer.errcode().unwrap_or_default();
    (answer.status, errcode)
}

/// All is well: it answers, and nothing panicked.
async fn assert_well(sandbox: &Sandbox) {
    let (status, _) = sandbox.client().raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
    assert!(status.is_success());
    sandbox.assert_no_panic();
}

#[tokio::test]
async fn bodies_that_are_no_good_get_the_specs_error() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let room = client.create_room(json!({})).await.expect("a room");
    let token = client.token.as_deref();
    let room = escape(&room);
    let user = escape(&client.user_id);
    let endpoints = [
        ("POST", "/register".to_owned()),
        ("POST", "/login".to_owned()),
        ("POST", "/createRoom".to_owned()),
        ("POST", "/keys/upload".to_owned()),
        ("POST", "/keys/query".to_owned()),
        ("POST", format!("/user/{user}/filter")),
        ("PUT", format!("/user/{user}/account_data/org.test")),
        ("PUT", format!("/rooms/{room}/send/m.room.message/t")),
        ("PUT", format!("/rooms/{room}/state/m.room.topic")),
        ("PUT", "/sendToDevice/m.test/t".to_owned()),
        ("PUT", format!("/profile/{user}/displayname")),
    ];
    let deep =
        |open: &str, close: &str| [open.repeat(100_000), "1".to_owned(), close.repeat(100_000)].concat().into_bytes();
    let bodies: [(&str, Vec<u8>); 9] = [
        ("deep arrays", [b"{\"a\":", &deep("[", "]")[..], b"}"].concat()),
        ("deep objects", deep("{\"a\":", "}")),
        ("open arrays", b"[".repeat(100_000)),
        ("an array", b"[]".to_vec()),
        ("a text", b"\"text\"".to_vec()),
        ("half an object", b"{\"a\": ".to_vec()),
        ("no UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec()),
        ("zeros", vec![0; 1000]),
        ("no JSON", b"a=b&c=d".to_vec()),
    ];
    for (method, path) in &endpoints {
        for (what, body) in &bodies {
            let (status, errcode) = ask(&sandbox, &request(method, &format!("{V3}{path}"), token, body)).await;
            let known = status == 400 && ["M_NOT_JSON", "M_BAD_JSON", "M_MISSING_PARAM"].contains(&errcode.as_str());
            // A field that nobody knows is passed over, however deep it is.
            let passed_over = what.starts_with("deep");
            let kept = path.contains("account_data") || path.contains("/rooms/");
            assert!(known || (passed_over && !kept && status < 500), "{method} {path} with {what}: {status} {errcode}");
        }
    }
    for (method, path, body) in [
        ("POST", "/login", json!({"type": 5})),
        ("POST", "/login", json!({"type": "m.login.password", "identifier": [], "password": "x"})),
        ("POST", "/register", json!({"username": ["a"]})),
        ("POST", "/createRoom", json!({"name": 5})),
        ("POST", "/createRoom", json!({"invite": "@a:b"})),
        ("POST", "/createRoom", json!({"initial_state": [{"type": "a", "content": "b"}]})),
        // As many elements as the struct has fields: to serde that would be one.
        ("POST", "/keys/upload", json!({"device_keys": [&client.user_id, "D", [], {}, {}]})),
        ("POST", "/keys/upload", json!({"one_time_keys": {"signed_curve25519:A": ["a"]}})),
        ("POST", "/keys/upload", json!({"fallback_keys": {"signed_curve25519:A": 5}})),
        ("POST", "/keys/device_signing/upload", json!({"master_key": [&client.user_id, ["master"], {}]})),
        ("POST", "/keys/claim", json!({"one_time_keys": {"no user": {"D": "a"}}})),
        ("PUT", "/sendToDevice/m.test/t", json!({"messages": {&client.user_id: []}})),
    ] {
        let body = body.to_string();
        let (status, errcode) = ask(&sandbox, &request(method, &format!("{V3}{path}"), token, body.as_bytes())).await;
        assert!(status == 400 && errcode.starts_with("M_"), "{method} {path} {body}: {status} {errcode}");
    }
    assert_well(&sandbox).await;
}

/// JSON within JSON within JSON, each a text under the parser's own name for such texts, so that every layer begins a new count of depth.
fn nested_by_the_parsers_name(layers: usize) -> String {
    let name = "$serde_json::private::RawValue";
    let mut inner = "1".to_owned();
    for _ in 0..layers {
        let arrays = ["[".repeat(100), inner, "]".repeat(100)].concat();
        let text = arrays.replace('\\', "\\u005c").replace('"', "\\u0022");
        inner = format!("{{\"{name}\":\"{text}\"}}");
    }
    format!("{{\"auth\":{{\"type\":\"x\",\"x\":{inner}}},\"a\":{inner},\"messages\":{{\"@a:b\":{{\"c\":{inner}}}}}}}")
}

#[tokio::test]
async fn the_parsers_own_names_do_not_nest_without_end() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let room = client.create_room(json!({})).await.expect("a room");
    let (room, user) = (escape(&room), escape(&client.user_id));
    let plain = nested_by_the_parsers_name(30);
    let escaped = plain.replacen("\"$serde", "\"\\u0024serde", 9);
    for body in [plain, escaped, nested_by_the_parsers_name(1)] {
        for (method, path) in [
            ("POST", "/register".to_owned()),
            ("POST", "/login".to_owned()),
            ("POST", "/keys/upload".to_owned()),
            ("PUT", format!("/user/{user}/account_data/org.test")),
            ("PUT", format!("/rooms/{room}/send/m.room.message/t")),
            ("PUT", format!("/rooms/{room}/state/m.room.topic")),
            ("PUT", "/sendToDevice/m.test/t".to_owned()),
        ] {
            let asked = request(method, &format!("{V3}{path}"), client.token.as_deref(), body.as_bytes());
            assert_eq!(ask(&sandbox, &asked).await, (400, "M_BAD_JSON".to_owned()), "{method} {path}");
        }
    }
    assert_well(&sandbox).await;
}

#[tokio::test]
async fn events_that_cannot_be_are_refused_and_leave_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let room = client.create_room(json!({})).await.expect("a room");
    let path = format!("{V3}/rooms/{}/send/m.room.message", escape(&room));
    let huge = json!({"body": "a".repeat(70_000)}).to_string();
    for (what, body, status, errcode) in [
        ("too large", huge.as_str(), 413, "M_TOO_LARGE"),
        ("a fraction", "{\"a\": 1.5}", 400, "M_BAD_JSON"),
        ("too great a number", "{\"a\": 9007199254740993}", 400, "M_BAD_JSON"),
        ("a number beyond any", "{\"a\": 1e999}", 400, "M_NOT_JSON"),
    ] {
        let asked =
            request("PUT", &format!("{path}/{}", what.replace(' ', "")), client.token.as_deref(), body.as_bytes());
        assert_eq!(ask(&sandbox, &asked).await, (status, errcode.to_owned()), "{what}");
    }
    let long = format!("{V3}/rooms/{}/send/{}/t", escape(&room), "a".repeat(300));
    let (status, errcode) = ask(&sandbox, &request("PUT", &long, client.token.as_deref(), b"{}")).await;
    assert!((status == 400 || status == 413) && errcode.starts_with("M_"), "a long type: {status} {errcode}");
    let page =
        client.call(Method::GET, &format!("/rooms/{}/messages?dir=b", escape(&room)), None).await.expect("a page");
    let messages = page["chunk"].as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.message");
    assert_eq!(messages.count(), 0);
    assert_well(&sandbox).await;
}

#[tokio::test]
async fn paths_and_heads_that_are_no_good_are_refused() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let token = client.token.as_deref().unwrap_or_default().to_owned();
    let head = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: polity.test\r\n{more}\r\n").into_bytes();
    let auth = format!("authorization: Bearer {token}\r\n");
    let many = (0..4000).map(|n| format!("&a{n}=1")).collect::<String>();
    for (what, bytes, statuses, errcode) in [
        ("not UTF-8", head(&format!("{V3}/rooms/%ff%fe/state"), &auth), 400..401, "M_INVALID_PARAM"),
        ("a zero", head(&format!("{V3}/rooms/!a%00b/state"), &auth), 400..405, "M_"),
        ("a zero in a user", head(&format!("{V3}/profile/@a%00b:polity.test"), ""), 400..405, "M_"),
        ("dots", head("/_matrix/client/v3/../../../etc/passwd", ""), 404..405, "M_UNRECOGNIZED"),
        ("hidden dots", head(&format!("{V3}/profile/..%2f..%2fetc%2fpasswd"), ""), 400..405, "M_"),
        ("a query that is not UTF-8", head(&format!("{V3}/sync?filter=%ff&timeout=0"), &auth), 400..405, "M_"),
        ("a number that is none", head(&format!("{V3}/sync?timeout=-1"), &auth), 400..401, "M_INVALID_PARAM"),
        ("a filter that is none", head(&format!("{V3}/sync?filter=%7B"), &auth), 400..401, "M_BAD_JSON"),
        ("thousands of parameters", head(&format!("{V3}/sync?timeout=0{many}"), &auth), 200..432, ""),
        ("no token", head(&format!("{V3}/sync"), ""), 401..402, "M_MISSING_TOKEN"),
        ("another scheme", head(&format!("{V3}/sync"), "authorization: Basic YTpi\r\n"), 401..402, "M_MISSING_TOKEN"),
        ("an empty token", head(&format!("{V3}/sync"), "authorization: Bearer \r\n"), 401..402, "M_"),
        (
            "a false token",
            head(&format!("{V3}/sync"), "authorization: Bearer syt_a_b\r\n"),
            401..402,
            "M_UNKNOWN_TOKEN",
        ),
        (
            "a cut token",
            head(&format!("{V3}/sync?access_token={}", &token[..token.len() - 1]), ""),
            401..402,
            "M_UNKNOWN_TOKEN",
        ),
        ("no such endpoint", head("/_matrix/client/v3/nothing", &auth), 404..405, "M_UNRECOGNIZED"),
        ("two hosts", head("/_matrix/client/versions", "host: evil.test\r\n"), 400..401, "M_INVALID_PARAM"),
        ("a huge header", head("/", &format!("x: {}\r\n", "a".repeat(100_000))), 431..432, ""),
        ("many headers", head("/", &"x: y\r\n".repeat(1000)), 431..432, ""),
        (
            "a wrong method",
            b"PATCH /_matrix/client/v3/sync HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            405..406,
            "M_UNRECOGNIZED",
        ),
    ] {
        let (status, got) = ask(&sandbox, &bytes).await;
        assert!(statuses.contains(&status) && got.starts_with(errcode), "{what}: {status} {got}");
    }
    let nonsense =
        [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"];
    for bytes in nonsense {
        let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
        raw.send(bytes).await.expect("it is sent");
        assert!(raw.answer().await.expect("an answer or none").is_none_or(|answer| answer.status == 400));
    }
    assert_well(&sandbox).await;
}

#[tokio::test]
async fn tokens_of_others_and_broken_ones_are_refused_and_lose_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let (client, other) = (account(&sandbox, "hostile").await, account(&sandbox, "other").await);
    let mut second = sandbox.client();
    second.login("hostile", "a long password").await.expect("another device");
    let room = client.create_room(json!({})).await.expect("a room");
    let since = async |client: &Client| {
        let answer = client.sync(None, 0, &json!({})).await.expect("a first sync");
        answer["next_batch"].as_str().expect("a token").to_owned()
    };
    let (own, others, devices) = (since(&client).await, since(&other).await, since(&second).await);
    client.send(&room, "t", "a text").await.expect("a message");
    let mut bad: Vec<String> =
        (0..own.len()).map(|length| own[..length].to_owned()).filter(|cut| !cut.is_empty()).collect();
    for at in 0..own.len() {
        let mut changed = own.clone().into_bytes();
        changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
        bad.push(String::from_utf8(changed).expect("ASCII"));
    }
    bad.extend([others.clone(), devices, "s1_2_3".to_owned(), "A".repeat(20_000), "%00".to_owned(), format!("{own}A")]);
    for token in bad {
        let path = format!("/sync?timeout=0&since={token}");
        let failure = client.call(Method::GET, &path, None).await.expect_err("no token of this client");
        assert_eq!(failure.errcode(), Some("M_INVALID_PARAM"), "{token}");
    }
    let path = format!("/rooms/{}/messages?dir=b&from=", escape(&room));
    for token in ["p1_1", "p1_x_0", "p1_1_-5", "p1_99999999999999999999_0", "s1", &others, "%ff", "%00"] {
        let failure = client.call(Method::GET, &format!("{path}{token}"), None).await.expect_err("no token of a page");
        assert_eq!(failure.errcode(), Some("M_INVALID_PARAM"), "{token}");
    }
    let answer = client.sync(Some(&own), 0, &json!({})).await.expect("the good token is still good");
    let events = answer["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("the room has news");
    assert!(events.len() == 1 && events[0]["content"]["body"] == "a text", "{events:?}");
    assert_well(&sandbox).await;
}

#[tokio::test]
async fn large_slow_and_broken_off_requests_are_given_up() {
    let settings =
        [("LIMITS__BODY_TIMEOUT_S", "1"), ("LIMITS__IDLE_TIMEOUT_S", "2"), ("LIMITS__HANDSHAKE_TIMEOUT_S", "1")];
    let sandbox = Sandbox::start(&settings).await;
    let client = account(&sandbox, "hostile").await;
    let room = client.create_room(json!({})).await.expect("a room");
    let path = format!("{V3}/rooms/{}/send/m.room.message", escape(&room));
    let auth = format!("host: a\r\nauthorization: Bearer {}\r\n", client.token.as_deref().unwrap_or_default());
    let connect = async || Raw::connect(&sandbox.address()).await.expect("a connection");
    let head = |txn: &str, more: &str| format!("PUT {path}/{txn} HTTP/1.1\r\n{auth}{more}\r\n\r\n");
    // By its own word, and by chunks without any word.
    let mut raw = connect().await;
    raw.send(head("large", "content-length: 100000000")).await.expect("it is sent");
    assert_eq!(
        raw.answer().await.expect("whole").map(|answer| (answer.status, answer.errcode())),
        Some((413, Some("M_TOO_LARGE".into())))
    );
    let mut raw = connect().await;
    raw.send(head("chunks", "transfer-encoding: chunked")).await.expect("it is sent");
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, "a".repeat(65_536));
    for _ in 0..200 {
        if raw.send(&chunk).await.is_err() {
            break;
        }
    }
    assert!(raw.answer().await.unwrap_or(None).is_none_or(|answer| answer.status == 413));
    // A body that doesn't come, and a head that doesn't end.
    let mut raw = connect().await;
    raw.send(head("slow", "content-length: 20")).await.expect("it is sent");
    raw.send("{\"body\":").await.expect("it is sent");
    assert_eq!(raw.answer().await.expect("whole").map(|answer| answer.status), Some(408));
    let mut raw = connect().await;
    let mut sent = 0;
    for byte in head("loris", "x: y").bytes().cycle() {
        if raw.send([byte]).await.is_err() || sent > 300 {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if raw.closes(Duration::from_millis(1)).await {
            break;
        }
    }
    assert!(sent < 300, "a head may take as long as it likes");
    // A body that ends early.
    let mut raw = connect().await;
    raw.send(head("early", "content-length: 100")).await.expect("it is sent");
    raw.send("{\"body\": \"early\"}").await.expect("it is sent");
    raw.finish().await.expect("it is ended");
    assert!(raw.answer().await.unwrap_or(None).is_none_or(|answer| answer.status >= 400));
    let page =
        client.call(Method::GET, &format!("/rooms/{}/messages?dir=b", escape(&room)), None).await.expect("a page");
    assert!(!page.to_string().contains("early"), "{page}");
    assert_well(&sandbox).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let room = client.create_room(json!({})).await.expect("a room");
    let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
    let one = |number: usize| {
        let path = format!("{V3}/rooms/{}/send/m.room.message/p{number}", escape(&room));
        request("PUT", &path, client.token.as_deref(), format!("{{\"body\":\"{number}\"}}").as_bytes())
    };
    raw.send((0..100).flat_map(one).collect::<Vec<u8>>()).await.expect("all are sent");
    for number in 0..100 {
        let answer = raw.answer().await.expect("whole").expect("an answer");
        assert_eq!(answer.status, 200, "{number}: {answer:?}");
    }
    let path = format!("/rooms/{}/messages?dir=f&limit=200", escape(&room));
    let page = client.call(Method::GET, &path, None).await.expect("a page");
    let sent = page["chunk"].as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.message");
    let bodies: Vec<_> = sent.filter_map(|event| event["content"]["body"].as_str()?.parse::<usize>().ok()).collect();
    assert_eq!(bodies, (0..100).collect::<Vec<_>>());
    assert_well(&sandbox).await;
}

/// Streams that are opened and reset at once (CVE-2023-44487): the connection is closed, the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_cost_little() {
    let sandbox = Sandbox::start(&[]).await;
    let client = account(&sandbox, "hostile").await;
    let before = sandbox.resident();
    for _ in 0..5 {
        let stream = TcpStream::connect(sandbox.address()).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("HTTP/2");
        let driving = tasks::spawn(connection);
        for number in 0..5_000 {
            if sender.ready().await.is_err() {
                break;
            }
            let uri = format!("{}{V3}/sync?timeout=30000&n={number}", sandbox.url());
            let request = Request::get(uri)
                .header("authorization", format!("Bearer {}", client.token.as_deref().unwrap_or_default()));
            let answer = sender.send_request(request.body(Full::new(Bytes::new())).expect("a request"));
            // Polled once, so that it goes out; then dropped, which resets it.
            let _ = tokio::time::timeout(Duration::from_micros(1), answer).await;
        }
        drop(sender);
        driving.abort();
    }
    assert_well(&sandbox).await;
    let grown = sandbox.resident().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes more after the resets");
}

/// Most say nothing, the others said something once.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_cost_little_and_leave_nothing() {
    let settings = [("LIMITS__HANDSHAKE_TIMEOUT_S", "600"), ("LIMITS__IDLE_TIMEOUT_S", "600")];
    let sandbox = Sandbox::start(&settings).await;
    let client = account(&sandbox, "hostile").await;
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    let count = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(500).min(10_000);
    assert!(count >= 500, "at most {files} files may be open: too few for this test");
    let mut after = Vec::new();
    for _ in 0..3 {
        let before = sandbox.resident();
        let mut crowd = Vec::with_capacity(count);
        for number in 0..count {
            let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
            if number % 4 == 0 {
                raw.send("GET /_matrix/client/versions HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it is sent");
                assert_eq!(raw.answer().await.expect("whole").map(|answer| answer.status), Some(200));
            }
            crowd.push(raw);
        }
        let each = sandbox.resident().saturating_sub(before) / u64::try_from(count).expect("small");
        println!("{count} idle connections: {each} bytes each");
        assert!(each < 16 * 1024, "{each} bytes for an idle connection");
        client.create_room(json!({"name": "in a crowd"})).await.expect("the others are served");
        drop(crowd);
        wait_until_alone(&sandbox).await;
        after.push(sandbox.resident());
    }
    println!("resident after each crowd: {after:?}");
    // The first ones leave what the allocator keeps at hand, and gives back when it likes; later ones use that. A third of what a
    // connection takes would be more.
    assert!(after[2] < after[0].max(after[1]) + (16 << 20), "memory grows with each crowd: {after:?}");
    assert_well(&sandbox).await;
}

/// Until the server knows that the crowd has gone.
async fn wait_until_alone(sandbox: &Sandbox) {
    for _ in 0..600 {
        let (_, text) = sandbox.operator().raw(Method::GET, "/metrics", None).await.expect("the metrics");
        let text = String::from_utf8_lossy(&text).into_owned();
        let open = text.lines().find_map(|line| line.strip_prefix("polity_http_connections "));
        if open.and_then(|open| open.trim().parse::<f64>().ok()).is_some_and(|open| open < 50.0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("connections that are gone are still counted");
}
