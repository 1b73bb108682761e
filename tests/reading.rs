//! Who may read what of a room, and from where on.

use http::{Method, StatusCode};
use polity_tests::{Client, Failure, Sandbox, escape};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse";

async fn account(sandbox: &Sandbox, name: &str) -> Client {
    let mut client = sandbox.client();
    client.register(name, PASSWORD).await.expect("an account");
    client
}

async fn get(client: &Client, room: &str, rest: &str) -> Result<Value, Failure> {
    client.call(Method::GET, &format!("/rooms/{}/{rest}", escape(room)), None).await
}

async fn act(client: &Client, room: &str, action: &str, body: Value) {
    let path = format!("/rooms/{}/{action}", escape(room));
    client.call(Method::POST, &path, Some(body)).await.unwrap_or_else(|failure| panic!("{action}: {failure}"));
}

fn bodies(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().into_iter().flatten().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn members(answer: &Value) -> Vec<&str> {
    answer["chunk"].as_array().into_iter().flatten().filter_map(|event| event["state_key"].as_str()).collect()
}

fn refused(result: Result<Value, Failure>, status: StatusCode, errcode: &str) {
    match result {
        Err(Failure::Refused(found, body)) => {
            assert_eq!((found, body["errcode"].as_str()), (status, Some(errcode)), "{body}")
        }
        Err(failure) => panic!("{failure}"),
        Ok(answer) => panic!("not refused: {answer}"),
    }
}

#[tokio::test]
async fn a_syncs_token_is_a_place_in_history() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, bob) = (account(&sandbox, "alice").await, account(&sandbox, "bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    alice.send(&room, "1", "before").await.expect("sent");
    let before = alice.sync(None, 0, &json!({})).await.expect("a sync");
    let token = before["next_batch"].as_str().expect("a token").to_owned();
    act(&bob, &room, "join", json!({})).await;
    bob.send(&room, "1", "after").await.expect("sent");

    let lazy = escape(&json!({"lazy_load_members": true}).to_string());
    let newer = get(&alice, &room, &format!("messages?dir=f&from={token}&filter={lazy}")).await.expect("a page");
    assert_eq!(bodies(&newer), ["after"]);
    let state = newer["state"].as_array().expect("the senders' members");
    assert!(state.iter().all(|event| event["state_key"] == *bob.user_id) && state.len() == 1, "{state:?}");
    let older = get(&alice, &room, &format!("messages?dir=b&limit=1&from={token}")).await.expect("a page");
    assert_eq!((bodies(&older), older.get("state")), (vec!["before"], None));

    let then = get(&alice, &room, &format!("members?at={token}")).await.expect("members");
    assert_eq!(members(&then), [&*alice.user_id]);
    let mut now = get(&alice, &room, "members").await.expect("members");
    now["chunk"].as_array_mut().expect("a list").sort_by_key(|event| event["state_key"].to_string());
    assert_eq!(members(&now), [&*alice.user_id, &*bob.user_id]);

    // By this token bob isn't in the room yet: it stands before the joining.
    let outside = account(&sandbox, "carol").await;
    let outside_token = outside.sync(None, 0, &json!({})).await.expect("a sync")["next_batch"].to_string();
    act(&outside, &room, "join", json!({})).await;
    bob.send(&room, "2", "last").await.expect("sent");
    let since = outside_token.trim_matches('"');
    let newer = get(&outside, &room, &format!("messages?dir=f&from={since}")).await.expect("a page");
    assert_eq!(bodies(&newer), ["last"]);

    // Somebody else's token is none.
    let foreign = get(&bob, &room, &format!("messages?dir=b&from={token}")).await;
    refused(foreign, StatusCode::BAD_REQUEST, "M_INVALID_PARAM");
}

#[tokio::test]
async fn who_was_never_in_a_room_reads_nothing_of_it() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, bob) = (account(&sandbox, "alice").await, account(&sandbox, "bob").await);
    let room = alice.create_room(json!({"preset": "private_chat"})).await.expect("a room");
    alice.send(&room, "1", "closed").await.expect("sent");
    let bob_reads_nothing = async || {
        for path in ["messages?dir=b", "state", "members", "state/m.room.create/"] {
            refused(get(&bob, &room, path).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
        }
    };
    bob_reads_nothing().await;
    // Declining an invitation opens nothing, nor does a ban.
    act(&alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    act(&bob, &room, "leave", json!({})).await;
    bob_reads_nothing().await;
    act(&alice, &room, "ban", json!({"user_id": bob.user_id})).await;
    bob_reads_nothing().await;
}

#[tokio::test]
async fn who_left_reads_up_to_the_leave_until_it_is_forgotten() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, bob) = (account(&sandbox, "alice").await, account(&sandbox, "bob").await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    act(&bob, &room, "join", json!({})).await;
    alice.send(&room, "1", "with bob").await.expect("sent");
    act(&bob, &room, "leave", json!({})).await;
    let missed = alice.send(&room, "2", "without bob").await.expect("sent");
    // A later ban doesn't widen what bob saw.
    act(&alice, &room, "ban", json!({"user_id": bob.user_id})).await;
    let page = get(&bob, &room, "messages?dir=b").await.expect("a page");
    assert_eq!(bodies(&page), ["with bob"]);
    refused(get(&bob, &room, &format!("event/{}", escape(&missed))).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
    act(&bob, &room, "forget", json!({})).await;
    refused(get(&bob, &room, "messages?dir=b").await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
}

#[tokio::test]
async fn what_ignored_users_say_is_on_no_page_but_their_state_is() {
    let sandbox = Sandbox::start(&[]).await;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| account(&sandbox, name));
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    act(&bob, &room, "join", json!({})).await;
    alice.send(&room, "1", "first").await.expect("sent");
    act(&carol, &room, "join", json!({})).await;
    for number in 1..=4 {
        carol.send(&room, &number.to_string(), "unwanted").await.expect("sent");
    }
    let middle = alice.send(&room, "2", "second").await.expect("sent");
    carol.send(&room, "5", "unwanted").await.expect("sent");
    bob.send(&room, "1", "own").await.expect("sent");
    // Who ignores himself, too, reads his own.
    let list = json!({"ignored_users": {&carol.user_id: {}, &bob.user_id: {}}});
    let path = format!("/user/{}/account_data/m.ignored_user_list", escape(&bob.user_id));
    bob.call(Method::PUT, &path, Some(list)).await.expect("set");

    let page = get(&bob, &room, "messages?dir=b&limit=4").await.expect("a page");
    assert_eq!(bodies(&page), ["own", "second", "first"]);
    let joined = |event: &Value| event["state_key"] == *carol.user_id;
    assert!(page["chunk"].as_array().expect("rows").iter().any(joined), "{page}");
    let page = get(&bob, &room, "messages?dir=f&limit=100").await.expect("a page");
    assert_eq!(bodies(&page), ["first", "second", "own"]);
    let around = get(&bob, &room, &format!("context/{}?limit=4", escape(&middle))).await.expect("a context");
    let [before, after] = ["events_before", "events_after"].map(|part| json!({"chunk": around[part]}));
    assert_eq!((bodies(&before), bodies(&after)), (vec!["first"], vec!["own"]), "{around}");
    let page = get(&alice, &room, "messages?dir=b&limit=2").await.expect("a page");
    assert_eq!(bodies(&page), ["own", "unwanted"], "alice ignores nobody");
}

#[tokio::test]
async fn members_are_of_one_membership_or_not_of_another() {
    let sandbox = Sandbox::start(&[]).await;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| account(&sandbox, name));
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let room = alice.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    act(&bob, &room, "join", json!({})).await;
    act(&bob, &room, "leave", json!({})).await;
    act(&alice, &room, "invite", json!({"user_id": carol.user_id})).await;
    let (joined, left, invited) = (&*alice.user_id, &*bob.user_id, &*carol.user_id);
    for (query, expected) in [
        ("membership=join", vec![joined]),
        ("not_membership=join", vec![left, invited]),
        ("membership=join&not_membership=leave", vec![joined, invited]),
        ("membership=leave&not_membership=join", vec![left, invited]),
        ("membership=join&not_membership=join", vec![joined, left, invited]),
    ] {
        let answer = get(&alice, &room, &format!("members?{query}")).await.expect("members");
        let mut found = members(&answer);
        found.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn redacted_state_is_shown_to_nobody() {
    let sandbox = Sandbox::start(&[]).await;
    let (alice, bob) = (account(&sandbox, "alice").await, account(&sandbox, "bob").await);
    let room = alice.create_room(json!({"preset": "public_chat", "visibility": "public"})).await.expect("a room");
    let in_room = |rest: &str| format!("/rooms/{}/{rest}", escape(&room));
    let put = async |event_type: &str, key: &str, content: Value| {
        let path = in_room(&format!("state/{event_type}/{}", escape(key)));
        let sent = alice.call(Method::PUT, &path, Some(content)).await.expect("set");
        sent["event_id"].as_str().expect("an event id").to_owned()
    };
    let member = json!({"membership": "join", "displayname": "secret"});
    let secret = [
        put("m.room.name", "", json!({"name": "secret"})).await,
        put("m.room.topic", "", json!({"topic": "secret"})).await,
        put("m.room.avatar", "", json!({"url": "mxc://secret/1"})).await,
        put("m.room.member", &alice.user_id, member).await,
    ];
    act(&alice, &room, "invite", json!({"user_id": bob.user_id})).await;
    for event in &secret {
        let path = in_room(&format!("redact/{}/{}", escape(event), escape(event)));
        alice.call(Method::PUT, &path, Some(json!({}))).await.expect("redacted");
    }
    // Far enough that none of them is in a timeline, but as what another one replaced.
    put("m.room.topic", "", json!({"topic": "open"})).await;
    let told = async |client: &Client, path: &str| {
        let answer = client.call(Method::GET, path, None).await.unwrap_or_else(|failure| panic!("{path}: {failure}"));
        assert!(!answer.to_string().contains("secret"), "{path}: {answer}");
        answer
    };
    let invited = told(&bob, "/sync").await;
    assert!(invited["rooms"]["invite"][&room].is_object(), "{invited}");
    act(&bob, &room, "join", json!({})).await;
    for client in [&alice, &bob] {
        let filter = escape(&json!({"room": {"timeline": {"limit": 3}}}).to_string());
        let synced = told(client, &format!("/sync?filter={filter}")).await;
        assert!(synced["rooms"]["join"][&room]["state"]["events"].as_array().is_some_and(|state| state.len() > 5));
        for rest in ["state", "members", "joined_members", "messages?dir=b&limit=100", "state/m.room.name/"] {
            told(client, &in_room(rest)).await;
        }
        told(client, &in_room(&format!("context/{}", escape(&secret[1])))).await;
        told(client, "/publicRooms").await;
    }
    let list = alice.call(Method::GET, "/publicRooms", None).await.expect("a list");
    assert_eq!((&list["chunk"][0]["topic"], list["chunk"][0].get("name")), (&json!("open"), None));
}

#[tokio::test]
async fn a_room_is_named_by_who_is_left_in_it() {
    let sandbox = Sandbox::start(&[]).await;
    let alice = account(&sandbox, "alice").await;
    let room = alice.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    let mut others = Vec::new();
    for number in 1..=8 {
        let other = account(&sandbox, &format!("user{number}")).await;
        act(&other, &room, "join", json!({})).await;
        others.push(other);
    }
    let heroes = async || {
        let synced =
            alice.sync(None, 0, &json!({"room": {"state": {"lazy_load_members": true}}})).await.expect("a sync");
        let joined = &synced["rooms"]["join"][&room];
        let heroes = joined["summary"]["m.heroes"].as_array().expect("heroes").clone();
        let told: Vec<_> = ["state", "timeline"].iter().filter_map(|part| joined[part]["events"].as_array()).collect();
        for hero in &heroes {
            let is_theirs = |event: &Value| event["type"] == "m.room.member" && event["state_key"] == *hero;
            assert!(told.iter().any(|events| events.iter().any(is_theirs)), "the member event of {hero}: {joined}");
        }
        heroes
    };
    let ids = |clients: &[Client]| clients.iter().map(|client| json!(client.user_id)).collect::<Vec<_>>();
    assert_eq!(heroes().await, ids(&others[..5]));
    for other in &others[..6] {
        act(other, &room, "leave", json!({})).await;
    }
    assert_eq!(heroes().await, ids(&others[6..]), "not those whom the room began with");
    for other in &others[6..] {
        act(other, &room, "leave", json!({})).await;
    }
    assert_eq!(heroes().await, ids(&others[..5]), "nobody else is there: who was");
}

#[tokio::test]
async fn who_was_there_is_hidden_with_what_was_said() {
    let sandbox = Sandbox::start(&[]).await;
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| account(&sandbox, name));
    let (alice, bob, carol, dave) = (alice.await, bob.await, carol.await, dave.await);
    let visibility = |value: &str| json!({"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": value}});
    let lazy = escape(&json!({"lazy_load_members": true}).to_string());
    for hidden in ["joined", "invited"] {
        let body = json!({"preset": "public_chat", "initial_state": [visibility(hidden)]});
        let room = alice.create_room(body).await.expect("a room");
        act(&bob, &room, "join", json!({})).await;
        bob.send(&room, "1", "secret").await.expect("sent");
        act(&bob, &room, "leave", json!({})).await;
        act(&carol, &room, "join", json!({})).await;
        alice.send(&room, "1", "open").await.expect("sent");
        // Whoever was there may look back, whoever wasn't may not, by whatever number.
        let (mut seen, mut hidden_from_carol) = (0, 0);
        for row in 1..40 {
            let path = format!("members?at=p1_{row}_0");
            let then = get(&alice, &room, &path).await.expect("members");
            seen += usize::from(members(&then).contains(&&*bob.user_id));
            match get(&carol, &room, &path).await {
                // Before there is a rule for it, history is shared; and carol has seen the room with bob's leave in it.
                Ok(then) => {
                    let (bob, carol) = (&&*bob.user_id, &&*carol.user_id);
                    assert!(!members(&then).contains(bob) || members(&then).contains(carol), "{path}: {then}");
                }
                refusal => {
                    refused(refusal, StatusCode::FORBIDDEN, "M_FORBIDDEN");
                    hidden_from_carol += 1;
                }
            }
        }
        assert!(seen > 0 && hidden_from_carol > 2, "{seen} {hidden_from_carol}");
        let page = get(&carol, &room, &format!("messages?dir=b&limit=100&filter={lazy}")).await.expect("a page");
        assert_eq!(bodies(&page), ["open"]);
        let shown: Vec<_> = page["chunk"].as_array().expect("rows").iter().map(|event| &event["sender"]).collect();
        for member in page["state"].as_array().expect("the senders' members") {
            assert!(shown.contains(&&member["state_key"]), "{hidden}: {member} sent nothing that is shown");
        }
        assert!(!page["state"].to_string().contains(&*bob.user_id), "{page}");
        // What stands before the first row that one sees isn't shown, nor who sent it.
        let join = page["chunk"].as_array().expect("rows").iter().rfind(|event| event["state_key"] == *carol.user_id);
        let join = escape(join.expect("the own join")["event_id"].as_str().expect("an id"));
        let around = get(&carol, &room, &format!("context/{join}?limit=20&filter={lazy}")).await.expect("a context");
        assert!(!around.to_string().contains("secret"), "{around}");
        let told = |event: &&Value| event["type"] == "m.room.member" && event["state_key"] == *bob.user_id;
        assert_eq!(around["state"].as_array().expect("state").iter().find(told), None, "{around}");
        // A page of hidden rows only.
        let only = escape(&json!({"lazy_load_members": true, "senders": [bob.user_id]}).to_string());
        let page = get(&carol, &room, &format!("messages?dir=f&filter={only}")).await.expect("a page");
        assert_eq!((page["chunk"].clone(), page.get("state")), (json!([]), None), "{page}");

        // The room opens to the world: from now on.
        let path = format!("/rooms/{}/state/m.room.history_visibility", escape(&room));
        alice.call(Method::PUT, &path, Some(json!({"history_visibility": "world_readable"}))).await.expect("set");
        alice.send(&room, "2", "to the world").await.expect("sent");
        let page = get(&dave, &room, &format!("messages?dir=b&limit=100&filter={lazy}")).await.expect("a page");
        assert_eq!(bodies(&page), ["to the world"]);
        let told: Vec<_> = page["state"].as_array().expect("members").iter().map(|event| &event["state_key"]).collect();
        assert_eq!(told, [&json!(*alice.user_id)], "{page}");
    }
}
