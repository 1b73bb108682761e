//! The edges of the client API: what is wrong with a request is told by the status and errcode that the spec names for it.

use bytes::Bytes;
use http::{Method, StatusCode};
use polity_tests::{Client, Raw, Sandbox, escape};
use serde_json::{Value, json};

/// Method, path, body, and the status and errcode that answer (none: 200).
type Case = (&'static str, String, Value, u16, &'static str);

async fn check(client: &Client, cases: Vec<Case>) {
    for (method, path, body, status, errcode) in cases {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let bytes = (!body.is_null()).then(|| Bytes::from(body.to_string()));
        let (found, answer) = client.raw(method.clone(), &path, bytes).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let told = answer["errcode"].as_str().unwrap_or_default();
        assert_eq!((found.as_u16(), told), (status, errcode), "{method} {path} {body}: {answer}");
    }
}

async fn account(sandbox: &Sandbox, name: &str) -> Client {
    let mut client = sandbox.client();
    client.register(name, "correct horse").await.expect("an account");
    client
}

#[tokio::test]
async fn what_is_not_built_and_who_has_no_token_is_told_so() {
    let sandbox = Sandbox::start(&[]).await;
    let mut nobody = sandbox.client();
    let at = |path: &str| path.to_owned();
    let cases = vec![
        ("GET", at("/nowhere"), Value::Null, 404, "M_UNRECOGNIZED"),
        ("GET", at("/_matrix/media/v3/config"), Value::Null, 404, "M_UNRECOGNIZED"),
        ("PUT", at("/sync"), Value::Null, 405, "M_UNRECOGNIZED"),
        ("GET", at("/sync"), Value::Null, 401, "M_MISSING_TOKEN"),
        ("GET", at("/publicRooms"), Value::Null, 401, "M_MISSING_TOKEN"),
        ("POST", at("/register?kind=guest"), json!({}), 403, "M_GUEST_ACCESS_FORBIDDEN"),
        ("POST", at("/register?kind=robot"), json!({}), 400, "M_INVALID_PARAM"),
        ("GET", at("/register/available"), Value::Null, 400, "M_MISSING_PARAM"),
        ("POST", at("/login"), json!([]), 400, "M_BAD_JSON"),
        ("POST", at("/login"), json!({"type": "m.login.magic"}), 400, "M_UNKNOWN"),
        ("POST", at("/refresh"), json!({"refresh_token": "x"}), 401, "M_UNKNOWN_TOKEN"),
    ];
    check(&nobody, cases).await;
    nobody.token = Some("nonsense".to_owned());
    check(&nobody, vec![("GET", at("/sync"), Value::Null, 401, "M_UNKNOWN_TOKEN")]).await;
    let (status, answer) = nobody.raw(Method::POST, "/login", Some(Bytes::from_static(b"{"))).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_NOT_JSON")));
}

#[tokio::test]
async fn names_are_found_in_any_case_and_push_rules_one_by_one() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let mut again = sandbox.client();
    again.login("@ALICE:polity.test", "correct horse").await.expect("a login");
    assert_eq!(again.user_id, alice.user_id);

    let rule = |kind: &str, id: &str, rest: &str| format!("/pushrules/global/{kind}/{id}{rest}");
    let get = async |path: String| alice.call(Method::GET, &path, None).await.expect("a rule");
    assert_eq!(get(rule("override", ".m.rule.master", "")).await["rule_id"], ".m.rule.master");
    assert_eq!(get(rule("override", ".m.rule.master", "/enabled")).await, json!({"enabled": false}));
    assert_eq!(get(rule("underride", ".m.rule.message", "/actions")).await, json!({"actions": ["notify"]}));
    let rules = get("/pushrules/".to_owned()).await;
    assert_eq!(get("/pushrules/global/".to_owned()).await, rules["global"]);
    let cases = vec![
        ("GET", rule("override", "none", ""), Value::Null, 404, "M_NOT_FOUND"),
        ("GET", rule("nothing", ".m.rule.master", ""), Value::Null, 404, "M_NOT_FOUND"),
        (
            "DELETE",
            format!("/devices/{}", alice.device_id),
            json!({"auth": {"type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "bob"}, "password": "correct horse"}}),
            403,
            "M_FORBIDDEN",
        ),
    ];
    check(&alice, cases).await;
}

#[tokio::test]
async fn a_room_refuses_what_it_cannot_take() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    let root = alice.send(&room, "root", "a thread begins").await.expect("sent");
    let other = alice.send(&room, "other", "beside it").await.expect("sent");
    let in_room = |rest: &str| format!("/rooms/{}/{rest}", escape(&room));
    let reply = json!({"body": "in it", "m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    let sent = alice.call(Method::PUT, &in_room("send/m.room.message/reply"), Some(reply)).await.expect("sent");
    let reply = sent["event_id"].as_str().expect("an event id").to_owned();
    let read = |kind: &str, event: &str| in_room(&format!("receipt/{kind}/{}", escape(event)));
    let cases = vec![
        ("PUT", in_room("send/m.x/1"), json!({"half": 1.5}), 400, "M_BAD_JSON"),
        ("PUT", in_room("send/m.x/2"), json!({"large": "x".repeat(66_000)}), 413, "M_TOO_LARGE"),
        ("PUT", in_room(&format!("send/{}/3", "t".repeat(256))), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", in_room("state/m.x/%40bob%3Apolity.test"), json!({}), 403, "M_FORBIDDEN"),
        ("GET", in_room("state/m.none/"), Value::Null, 404, "M_NOT_FOUND"),
        ("GET", in_room("messages"), Value::Null, 400, "M_MISSING_PARAM"),
        ("GET", in_room("messages?dir=b&from=nonsense"), Value::Null, 400, "M_INVALID_PARAM"),
        ("GET", "/rooms/nonsense/state".to_owned(), Value::Null, 400, "M_INVALID_PARAM"),
        ("POST", read("m.read", &root), json!({"thread_id": ""}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.read", &root), json!({"thread_id": 1}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.glance", &root), json!({}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.fully_read", &root), json!({"thread_id": "main"}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.read", &other), json!({"thread_id": root}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.read", &reply), json!({"thread_id": "main"}), 400, "M_INVALID_PARAM"),
        ("POST", read("m.read", &reply), json!({"thread_id": root}), 200, ""),
        ("POST", read("m.read", &other), json!({"thread_id": "main"}), 200, ""),
        ("POST", read("m.fully_read", &other), json!({}), 200, ""),
        ("POST", read("m.fully_read", "$nothing"), json!({}), 404, "M_NOT_FOUND"),
        ("POST", in_room("read_markers"), json!({"m.fully_read": "$nothing"}), 404, "M_NOT_FOUND"),
        ("POST", in_room("forget"), json!({}), 400, "M_UNKNOWN"),
    ];
    check(&alice, cases).await;
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_and_keeps_nobody_out() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    let (room, long) = (escape(&room), "x".repeat(8_190));
    let own = |rest: &str| format!("/user/{}/{rest}", escape(&alice.user_id));
    let keys = json!({"one_time_keys": {format!("{long}:AAAA"): {"key": "a", "signatures": {}}}});
    let cases = vec![
        ("PUT", own(&format!("account_data/{long}")), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", own(&format!("rooms/{room}/account_data/{long}")), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", format!("/rooms/{room}/send/m.x/{long}"), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", format!("/rooms/{room}/state/m.x/{long}"), json!({}), 413, "M_TOO_LARGE"),
        ("PUT", format!("/sendToDevice/m.x/{long}"), json!({"messages": {}}), 413, "M_TOO_LARGE"),
        ("PUT", format!("/devices/{long}"), json!({}), 413, "M_TOO_LARGE"),
        ("POST", "/keys/upload".to_owned(), keys, 413, "M_TOO_LARGE"),
        ("PUT", own("account_data/org.test"), json!({"large": "x".repeat(1 << 20)}), 413, "M_TOO_LARGE"),
        ("PUT", own(&format!("account_data/{}", "x".repeat(255))), json!({}), 200, ""),
        ("PUT", own("account_data/org.test"), json!({}), 200, ""),
        ("PUT", format!("/rooms/{room}/send/m.x/{}", "x".repeat(255)), json!({}), 200, ""),
    ];
    check(&alice, cases).await;
}

#[tokio::test]
async fn a_room_of_others_and_one_that_is_not_answer_alike() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, eve) = (account(&sandbox, "alice").await, account(&sandbox, "eve").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    let sent = alice.send(&room, "1", "closed").await.expect("sent");
    for room in [&*room, "!nowhere:polity.test"] {
        let at = |rest: &str| format!("/rooms/{}/{rest}", escape(room));
        let target = json!({"user_id": alice.user_id});
        let cases = vec![
            ("PUT", at("send/m.x/1"), json!({}), 403, "M_FORBIDDEN"),
            ("PUT", at("state/m.x/"), json!({}), 403, "M_FORBIDDEN"),
            ("PUT", at(&format!("redact/{}/1", escape(&sent))), json!({}), 403, "M_FORBIDDEN"),
            ("PUT", at(&format!("typing/{}", escape(&eve.user_id))), json!({"typing": true}), 403, "M_FORBIDDEN"),
            ("POST", at("invite"), target.clone(), 403, "M_FORBIDDEN"),
            ("POST", at("kick"), target.clone(), 403, "M_FORBIDDEN"),
            ("POST", at("ban"), target.clone(), 403, "M_FORBIDDEN"),
            ("POST", at("unban"), target, 403, "M_FORBIDDEN"),
            ("POST", at("leave"), json!({}), 403, "M_FORBIDDEN"),
            ("POST", at(&format!("receipt/m.read/{}", escape(&sent))), json!({}), 403, "M_FORBIDDEN"),
            ("GET", at("messages?dir=b"), Value::Null, 403, "M_FORBIDDEN"),
            ("GET", at(&format!("event/{}", escape(&sent))), Value::Null, 404, "M_NOT_FOUND"),
            ("GET", at(&format!("context/{}", escape(&sent))), Value::Null, 404, "M_NOT_FOUND"),
        ];
        check(&eve, cases).await;
    }
}

#[tokio::test]
async fn a_profile_has_what_is_set() {
    let sandbox = Sandbox::start(&[]).await;
    let mut alice = account(&sandbox, "alice").await;
    let of = |user: &str, rest: &str| format!("/profile/{}{rest}", escape(user));
    let own = alice.user_id.clone();
    let cases = vec![
        ("GET", of(&own, "/displayname"), Value::Null, 200, ""),
        ("GET", of(&own, "/avatar_url"), Value::Null, 404, "M_NOT_FOUND"),
        ("PUT", of(&own, "/displayname"), json!({"displayname": ""}), 200, ""),
        ("GET", of(&own, "/displayname"), Value::Null, 404, "M_NOT_FOUND"),
        ("GET", of(&own, ""), Value::Null, 200, ""),
        ("GET", of("@nobody:polity.test", ""), Value::Null, 404, "M_NOT_FOUND"),
        ("POST", "/keys/device_signing/upload".to_owned(), json!({}), 400, "M_MISSING_PARAM"),
        ("POST", "/publicRooms?server=elsewhere.test".to_owned(), json!({}), 404, "M_NOT_FOUND"),
    ];
    check(&alice, cases).await;
    // A token in the query is encoded like all else there.
    let token = alice.token.take().expect("a token");
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/account/whoami?access_token={encoded}");
    assert_eq!(alice.call(Method::GET, &path, None).await.expect("an answer")["user_id"], *own);
}

#[tokio::test]
async fn json_that_is_none_is_refused_and_a_name_said_twice_counts_once() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    let send = format!("/rooms/{}/send/m.x/", escape(&room));
    let state = format!("/rooms/{}/state/m.x/", escape(&room));
    let data = format!("/user/{}/account_data/org.test", escape(&alice.user_id));
    let bodies: [(&str, &str); 9] = [
        (r#"{"a":1e400}"#, "M_NOT_JSON"),
        (r#"{"a":9007199254740992}"#, "M_BAD_JSON"),
        (r#"{"a":-9007199254740992}"#, "M_BAD_JSON"),
        (r#"{"a":0.5}"#, "M_BAD_JSON"),
        (r#"{"a":"\ud800"}"#, "M_NOT_JSON"),
        (r#"{"a":"\udc00\ud800"}"#, "M_NOT_JSON"),
        (r#"{"\ud800":1}"#, "M_NOT_JSON"),
        ("{\"a\":1,}", "M_NOT_JSON"),
        ("[1]", "M_BAD_JSON"),
    ];
    for (at, (body, errcode)) in bodies.into_iter().enumerate() {
        for path in [format!("{send}{at}"), state.clone(), data.clone()] {
            if path == data && errcode == "M_BAD_JSON" && body != "[1]" {
                // Account data is no event: its numbers may be any.
                continue;
            }
            let (status, answer) = alice.raw(Method::PUT, &path, Some(Bytes::from(body))).await.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            let told = (status, answer["errcode"].as_str());
            assert_eq!(told, (StatusCode::BAD_REQUEST, Some(errcode)), "{path} {body}: {answer}");
        }
    }
    let initial = |content: &str| format!(r#"{{"initial_state":[{{"type":"m.x","content":{content}}}]}}"#);
    for (content, errcode) in
        [(r#"{"a":1e400}"#, "M_NOT_JSON"), (r#"{"a":"\ud800"}"#, "M_NOT_JSON"), ("[]", "M_BAD_JSON")]
    {
        let body = Some(Bytes::from(initial(content)));
        let (status, answer) = alice.raw(Method::POST, "/createRoom", body).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!(errcode)), "{content}");
    }
    // The last one counts, and the first one is nowhere any more.
    let twice = Bytes::from_static(br#"{"a":"first","a":"last"}"#);
    let (status, _) = alice.raw(Method::PUT, &state, Some(twice)).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    let (_, shown) = alice.raw(Method::GET, &state, None).await.expect("an answer");
    assert_eq!(shown, r#"{"a":"last"}"#);
}

#[tokio::test]
async fn device_keys_must_be_whole() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let part = json!({"user_id": alice.user_id, "device_id": alice.device_id});
    let mut whole = part.clone();
    whole["algorithms"] = json!(["m.olm.v1.curve25519-aes-sha2"]);
    whole["keys"] = json!({});
    whole["signatures"] = json!({});
    let upload = |keys: &Value| json!({"device_keys": keys});
    let cases = vec![
        ("POST", "/keys/upload".to_owned(), upload(&part), 400, "M_BAD_JSON"),
        ("POST", "/keys/upload".to_owned(), upload(&json!(1)), 400, "M_BAD_JSON"),
        ("POST", "/keys/upload".to_owned(), upload(&whole), 200, ""),
    ];
    check(&alice, cases).await;
}

#[tokio::test]
async fn a_deleted_alias_is_no_longer_the_rooms() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, bob) = (account(&sandbox, "alice").await, account(&sandbox, "bob").await);
    let body = json!({"preset": "public_chat", "room_alias_name": "first"});
    let room = alice.create_room(body).await.expect("a room");
    let directory = |name: &str| format!("/directory/room/%23{name}%3Apolity.test");
    alice.call(Method::PUT, &directory("second"), Some(json!({"room_id": room}))).await.expect("an alias");
    let canonical = format!("/rooms/{}/state/m.room.canonical_alias/", escape(&room));
    let both = json!({"alias": "#first:polity.test", "alt_aliases": ["#second:polity.test"]});
    alice.call(Method::PUT, &canonical, Some(both)).await.expect("set");
    // No body at all does for a join.
    let (status, answer) = bob.raw(Method::POST, "/join/%23first%3Apolity.test", None).await.expect("an answer");
    assert_eq!(status, StatusCode::OK, "{answer:?}");
    check(&bob, vec![("DELETE", directory("first"), Value::Null, 403, "M_FORBIDDEN")]).await;
    let own = async || alice.call(Method::GET, &canonical, None).await.expect("state");
    alice.call(Method::DELETE, &directory("second"), None).await.expect("deleted");
    assert_eq!(own().await, json!({"alias": "#first:polity.test", "alt_aliases": []}));
    alice.call(Method::DELETE, &directory("first"), None).await.expect("deleted");
    assert_eq!(own().await, json!({"alt_aliases": []}));
    let gone = vec![
        ("GET", directory("first"), Value::Null, 404, "M_NOT_FOUND"),
        ("DELETE", directory("first"), Value::Null, 404, "M_NOT_FOUND"),
    ];
    check(&alice, gone).await;
}

#[tokio::test]
async fn the_scheme_of_a_token_has_no_case() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let token = alice.token.as_deref().expect("a token");
    let mut raw = Raw::connect(&sandbox.address()).await.expect("a connection");
    for (scheme, status) in [("bearer", 200), ("BEARER", 200), ("Bearer", 200), ("Basic", 401), ("bearers", 401)] {
        let head = format!("authorization: {scheme} {token}");
        raw.send(format!("GET /_matrix/client/v3/account/whoami HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n"))
            .await
            .expect("sent");
        let answer = raw.answer().await.expect("an answer").expect("one on this connection");
        assert_eq!(answer.status, status, "{scheme}: {answer:?}");
    }
}
