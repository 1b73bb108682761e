//! The edges of the client API: what is wrong with a request is told by the status and errcode that the spec names for it.

use bytes::Bytes;
use http::{Method, StatusCode};
use polity_tests::{Client, Sandbox, escape};
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
        ("POST", in_room("forget"), json!({}), 400, "M_UNKNOWN"),
    ];
    check(&alice, cases).await;
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
