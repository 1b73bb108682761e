//! Two tenants in one process: the same names on both, and nothing crosses.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use polity_tests::{Client, Sandbox, escape};
use serde_json::{Value, json};

const A: &str = "polity.test";
const B: &str = "b.test";
const PASSWORD: &str = "a long password";

/// Both tenants, served by one process.
async fn two() -> Sandbox {
    let mut sandbox = Sandbox::new(&[("REGISTRATION__SHARED_SECRET", "secret")]);
    let made = sandbox.run(&["tenant", "create", B, "--public-baseurl", "https://matrix.b.test"]).await;
    assert!(made.status.success(), "{made:?}");
    sandbox.restart().await;
    sandbox
}

#[tokio::test]
async fn a_tenant_needs_an_address_and_a_name_of_its_own() {
    let sandbox = Sandbox::new(&[]);
    for (name, url) in [
        ("x.test", "x.test"),
        ("x.test", "https://"),
        ("x.test", "ftp://x.test"),
        ("X.test", "https://x.test"),
        ("Polity.test", "https://x.test"),
        (A, "https://x.test"),
        ("x/test", "https://x.test"),
    ] {
        let made = sandbox.run(&["tenant", "create", name, "--public-baseurl", url]).await;
        assert_eq!(made.status.code(), Some(64), "{name} {url}: {made:?}");
    }
    let made = sandbox.run(&["tenant", "create", "x.test", "--public-baseurl", "https://x.test/matrix"]).await;
    assert!(made.status.success(), "{made:?}");
    let again = sandbox.run(&["tenant", "create", "x.test"]).await;
    assert_eq!(again.status.code(), Some(64), "{again:?}");
}

/// The same user on both, with the same password and device.
async fn alice(sandbox: &Sandbox) -> (Client, Client) {
    let mut both = Vec::new();
    for host in [A, B] {
        let mut client = sandbox.client().for_host(host);
        client.register("alice", PASSWORD).await.expect("a name is free on each");
        assert_eq!(client.user_id, format!("@alice:{host}"));
        let body = json!({
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD, "device_id": "DEVICE",
        });
        let answer = client.call(Method::POST, "/login", Some(body)).await.expect("a login");
        client.token = answer["access_token"].as_str().map(str::to_owned);
        client.device_id = "DEVICE".to_owned();
        both.push(client);
    }
    let b = both.pop().expect("two");
    (both.pop().expect("two"), b)
}

async fn refused(client: &Client, method: Method, path: &str, body: Option<Value>) -> (StatusCode, String) {
    let bytes = body.map(|body| body.to_string().into());
    let (status, body) = client.raw(method, path, bytes).await.expect("an answer");
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(!status.is_success(), "{path}: {value}");
    (status, value["errcode"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_host_picks_the_tenant() {
    let sandbox = two().await;
    for (host, url) in [
        (A, sandbox.url()),
        (B, "https://matrix.b.test".to_owned()),
        ("MATRIX.B.TEST:443", "https://matrix.b.test".to_owned()),
    ] {
        let client = sandbox.client().for_host(host);
        let known = client.call(Method::GET, "/.well-known/matrix/client", None).await.expect("a well-known");
        assert_eq!(known["m.homeserver"]["base_url"], url, "{host}");
    }
    // A stranger's name is nobody's: neither tenant answers for it.
    let stranger = sandbox.client().for_host("c.test");
    let login =
        json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD});
    assert_eq!(
        refused(&stranger, Method::POST, "/login", Some(login)).await,
        (StatusCode::NOT_FOUND, "M_NOT_FOUND".into())
    );
    assert_eq!(refused(&stranger, Method::GET, "/_matrix/client/versions", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn users_and_tokens_stay_apart() {
    let sandbox = two().await;
    let (a, b) = alice(&sandbox).await;
    // A token is good at its own tenant only, and a whole user id names its tenant.
    let unknown = (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN".to_owned());
    for (client, other) in [(&a, B), (&b, A)] {
        let crossed = client.clone().for_host(other);
        assert_eq!(refused(&crossed, Method::GET, "/account/whoami", None).await, unknown);
        assert_eq!(refused(&crossed, Method::GET, "/sync", None).await, unknown);
        let identifier = json!({"type": "m.id.user", "user": client.user_id});
        let login = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
        let (status, errcode) = refused(&crossed, Method::POST, "/login", Some(login)).await;
        assert_eq!((status, errcode.as_str()), (StatusCode::FORBIDDEN, "M_FORBIDDEN"));
    }
    // What one sets the other doesn't have.
    let own = |client: &Client, rest: &str| format!("/user/{}/{rest}", escape(&client.user_id));
    a.call(Method::PUT, &own(&a, "account_data/org.test"), Some(json!({"of": "a"}))).await.expect("account data");
    assert_eq!(refused(&b, Method::GET, &own(&b, "account_data/org.test"), None).await.1, "M_NOT_FOUND");
    let filter = a
        .call(Method::POST, &own(&a, "filter"), Some(json!({"room": {"timeline": {"limit": 3}}})))
        .await
        .expect("a filter");
    let id = filter["filter_id"].as_str().expect("an id");
    assert_eq!(refused(&b, Method::GET, &own(&b, &format!("filter/{id}")), None).await.1, "M_NOT_FOUND");
    let name = |client: &Client| format!("/profile/{}/displayname", escape(&client.user_id));
    a.call(Method::PUT, &name(&a), Some(json!({"displayname": "Alice of A"}))).await.expect("a name");
    let of_b = b.raw(Method::GET, &name(&b), None).await.expect("an answer").1;
    assert!(!String::from_utf8_lossy(&of_b).contains("Alice of A"));
    // A logout of one is none of the other.
    a.call(Method::POST, "/logout/all", Some(json!({}))).await.expect("a logout");
    b.call(Method::GET, "/account/whoami", None).await.expect("still logged in");
    sandbox.assert_no_panic();
}

#[tokio::test]
async fn rooms_aliases_transactions_and_pages_stay_apart() {
    let sandbox = two().await;
    let (a, b) = alice(&sandbox).await;
    let room = json!({"room_alias_name": "lobby", "visibility": "public", "name": "Lobby", "preset": "public_chat"});
    let (of_a, of_b) = (a.create_room(room.clone()).await.expect("a room"), b.create_room(room).await.expect("a room"));
    assert_ne!(of_a, of_b);
    for (client, host, own, others) in [(&a, A, &of_a, &of_b), (&b, B, &of_b, &of_a)] {
        let alias = escape(&format!("#lobby:{host}"));
        let found = client.call(Method::GET, &format!("/directory/room/{alias}"), None).await.expect("an alias");
        assert_eq!(&found["room_id"], own.as_str());
        let listed = client.call(Method::GET, "/publicRooms", None).await.expect("a list");
        assert_eq!(listed["chunk"].as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(&listed["chunk"][0]["room_id"], own.as_str());
        // The same transaction gives each an event of its own.
        let event = client.send(own, "txn", host).await.expect("a message");
        let other = if host == A { &b } else { &a };
        let room = escape(own);
        for path in [
            format!("/rooms/{room}/state"),
            format!("/rooms/{room}/messages?dir=b"),
            format!("/rooms/{room}/members"),
            format!("/rooms/{room}/event/{}", escape(&event)),
            format!("/rooms/{room}/context/{}", escape(&event)),
        ] {
            let (status, errcode) = refused(other, Method::GET, &path, None).await;
            assert!(status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND, "{path}: {status} {errcode}");
        }
        for path in [format!("/rooms/{room}/join"), format!("/rooms/{room}/receipt/m.read/{}", escape(&event))] {
            let (status, _) = refused(other, Method::POST, &path, Some(json!({}))).await;
            assert!(status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND, "{path}: {status}");
        }
        let path = format!("/rooms/{room}/send/m.room.message/other");
        let (status, _) = refused(other, Method::PUT, &path, Some(json!({"body": "crossed"}))).await;
        assert!(status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND, "{status}");
        let (_, alias) = (others, escape(&format!("#lobby:{host}")));
        assert_eq!(refused(other, Method::GET, &format!("/directory/room/{alias}"), None).await.1, "M_NOT_FOUND");
    }
    let again = (a.send(&of_a, "txn", A).await.expect("again"), b.send(&of_b, "txn", B).await.expect("again"));
    assert_ne!(again.0, again.1);
    for (client, room, host) in [(&a, &of_a, A), (&b, &of_b, B)] {
        let page = client
            .call(Method::GET, &format!("/rooms/{}/messages?dir=f&limit=100", escape(room)), None)
            .await
            .expect("a page");
        let texts: Vec<_> = page["chunk"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["content"]["body"].as_str())
            .collect();
        assert_eq!(texts, [host]);
        assert!(!page.to_string().contains(if host == A { B } else { A }), "{page}");
    }
    sandbox.assert_no_panic();
}

#[tokio::test]
async fn syncs_devices_and_keys_stay_apart() {
    let sandbox = two().await;
    let (a, b) = alice(&sandbox).await;
    let (of_a, of_b) =
        (a.create_room(json!({})).await.expect("a room"), b.create_room(json!({})).await.expect("a room"));
    let first = |answer: &Value| answer["next_batch"].as_str().expect("a token").to_owned();
    let since_a = first(&a.sync(None, 0, &json!({})).await.expect("a sync"));
    let since_b = first(&b.sync(None, 0, &json!({})).await.expect("a sync"));
    // A sync's token is good at its own tenant only.
    assert_eq!(refused(&a, Method::GET, &format!("/sync?since={since_b}"), None).await.1, "M_INVALID_PARAM");
    // B waits. What happens at A doesn't reach it.
    let waiting = {
        let (b, since) = (b.clone(), since_b.clone());
        polity_core::tasks::spawn(async move { b.sync(Some(&since), 3000, &json!({})).await })
    };
    a.send(&of_a, "t", "of a").await.expect("a message");
    let keys = json!({"one_time_keys": {"signed_curve25519:k": {"key": "of a"}}});
    a.call(Method::POST, "/keys/upload", Some(keys)).await.expect("a key");
    let typing = format!("/rooms/{}/typing/{}", escape(&of_a), escape(&a.user_id));
    a.call(Method::PUT, &typing, Some(json!({"typing": true, "timeout": 30000}))).await.expect("typing");
    let to_device =
        |client: &Client, of: &str| json!({"messages": {&client.user_id: {"DEVICE": {"of": of}, "*": {"of": of}}}});
    a.call(Method::PUT, "/sendToDevice/m.test/t", Some(to_device(&a, "a"))).await.expect("a message to the device");
    // Another tenant's user is another server's.
    let _ = a.raw(Method::PUT, "/sendToDevice/m.test/u", Some(to_device(&b, "crossed").to_string().into())).await;
    let of_tenant_b = waiting.await.expect("the task ends").expect("an answer");
    assert!(
        of_tenant_b["rooms"]["join"].get(&of_b).is_none_or(|room| room["timeline"]["events"] == json!([])),
        "{of_tenant_b}"
    );
    let text = of_tenant_b.to_string();
    assert!(
        !text.contains("of a") && !text.contains("crossed") && !text.contains(A) && !text.contains(&of_a),
        "{text}"
    );
    assert!(of_tenant_b["to_device"]["events"].as_array().is_none_or(Vec::is_empty), "{text}");
    let claim = |client: &Client| json!({"one_time_keys": {&client.user_id: {"DEVICE": "signed_curve25519"}}});
    for (client, whose) in [(&b, &b), (&b, &a)] {
        let claimed = client.call(Method::POST, "/keys/claim", Some(claim(whose))).await.expect("an answer");
        assert!(!claimed.to_string().contains("of a"), "{claimed}");
    }
    let claimed = a.call(Method::POST, "/keys/claim", Some(claim(&a))).await.expect("an answer");
    assert!(claimed.to_string().contains("of a"), "A's key is still there: {claimed}");
    // The same transaction to the same device id is another message at B.
    b.call(Method::PUT, "/sendToDevice/m.test/t", Some(to_device(&b, "b"))).await.expect("a message to the device");
    for (client, since, of) in [(&a, since_a, "a"), (&b, since_b, "b")] {
        let answer = client.sync(Some(&since), 0, &json!({})).await.expect("a sync");
        let events = answer["to_device"]["events"].as_array().into_iter().flatten();
        let froms: BTreeSet<&str> = events.filter_map(|event| event["content"]["of"].as_str()).collect();
        assert_eq!(froms, BTreeSet::from([of]));
    }
    sandbox.assert_no_panic();
}

#[tokio::test]
async fn both_tenants_are_there_after_a_kill() {
    let mut sandbox = two().await;
    let (a, b) = alice(&sandbox).await;
    let room = b.create_room(json!({"name": "kept"})).await.expect("a room");
    sandbox.restart().await;
    for client in [&a, &b] {
        let own = client.call(Method::GET, "/account/whoami", None).await.expect("still logged in");
        assert_eq!(own["user_id"], client.user_id);
    }
    // Its key is the same: what is signed now stands beside what was signed before.
    b.send(&room, "t", "after the kill").await.expect("a message");
    let joined = a.call(Method::GET, "/joined_rooms", None).await.expect("a list");
    assert_eq!(joined["joined_rooms"], json!([]));
    sandbox.assert_no_panic();
}
