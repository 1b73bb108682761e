//! Clients can't tell a cluster from one process: each of their requests goes to another instance.

use std::collections::BTreeSet;

use http::Method;
use polity_tests::{
    Client,
    cluster::{Cluster, Tier},
    escape,
};
use serde_json::{Value, json};

use super::shared;

/// The same client, at one instance after the other.
struct Alternating {
    at: Vec<Client>,
    turn: usize,
}

impl Alternating {
    async fn register(cluster: &Cluster, name: &str) -> Self {
        let [mut one, mut other] = [1, 2].map(|number| cluster.instance(Tier::ClientApi, number).client());
        one.register(name, "a long password").await.expect("an account");
        other.token.clone_from(&one.token);
        other.user_id.clone_from(&one.user_id);
        other.device_id.clone_from(&one.device_id);
        Self { at: vec![one, other], turn: 0 }
    }

    fn next(&mut self) -> &Client {
        self.turn += 1;
        &self.at[self.turn % self.at.len()]
    }
}

fn ids(answer: &Value, room: &str) -> Vec<String> {
    let events = answer["rooms"]["join"][room]["timeline"]["events"].as_array();
    events.into_iter().flatten().map(|event| event["event_id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What a client got a 200 for, it sees in its next request at the other instance; a token goes on anywhere, without gap or repeat.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_knows_what_the_other_has_acknowledged() {
    const TURNS: usize = 60;
    let on = shared().await;
    let mut alice = Alternating::register(on.cluster, "alice").await;
    let mut bob = Alternating::register(on.cluster, "bob").await;
    let room = alice.next().create_room(json!({"preset": "public_chat"})).await.expect("a room");
    let join = format!("/rooms/{}/join", escape(&room));
    bob.next().call(Method::POST, &join, Some(json!({}))).await.expect("anybody may join");
    let (mut since, mut sent, mut seen) = (None::<String>, Vec::new(), Vec::new());
    for turn in 0..TURNS {
        sent.push(alice.next().send(&room, &format!("t{turn}"), &format!("text {turn}")).await.expect("a send"));
        let member = bob.next().call(Method::GET, &format!("/rooms/{}/joined_members", escape(&room)), None).await;
        assert!(member.is_ok(), "bob's join isn't known everywhere: {member:?}");
        let answer = bob.next().sync(since.as_deref(), 0, &json!({})).await.expect("a sync");
        let new = ids(&answer, &room);
        assert!(new.contains(&sent[turn]), "turn {turn}: {} was acknowledged, the next sync has {new:?}", sent[turn]);
        // The same token at both at once: the same, and a stranger's news can't come between.
        if let Some(since) = &since {
            let nothing = json!({});
            let (one, other) =
                tokio::join!(bob.at[0].sync(Some(since), 0, &nothing), bob.at[1].sync(Some(since), 0, &nothing));
            let both = [one, other].map(|answer| ids(&answer.expect("a sync"), &room));
            assert_eq!(both, [new.clone(), new.clone()], "turn {turn}");
        }
        since = answer["next_batch"].as_str().map(str::to_owned);
        seen.extend(new);
    }
    let texts: Vec<&String> = seen.iter().filter(|id| sent.contains(id)).collect();
    assert_eq!(texts, sent.iter().collect::<Vec<_>>(), "each once, in order");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "nothing is repeated");
}

/// Records, devices, keys and messages to devices: written at one instance, read at the other.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_the_same_everywhere() {
    let on = shared().await;
    let mut carol = Alternating::register(on.cluster, "carol").await;
    let mut dave = Alternating::register(on.cluster, "dave").await;
    let user = carol.at[0].user_id.clone();
    for turn in 0..20 {
        let path = format!("/user/{}/account_data/org.polity.turn", escape(&user));
        carol.next().call(Method::PUT, &path, Some(json!({"n": turn}))).await.expect("account data");
        assert_eq!(carol.next().call(Method::GET, &path, None).await.expect("account data")["n"], json!(turn));
        let name = format!("/profile/{}/displayname", escape(&user));
        let shown = format!("carol {turn}");
        carol.next().call(Method::PUT, &name, Some(json!({"displayname": shown}))).await.expect("a name");
        let told = dave.next().call(Method::GET, &name, None).await.expect("a name");
        assert_eq!(told["displayname"], json!(shown), "turn {turn}");
        // A token of a session that has ended opens nothing anywhere.
        let mut other = carol.next().clone();
        other.login("carol", "a long password").await.expect("a login");
        carol.next();
        let mut elsewhere = carol.next().clone();
        elsewhere.token.clone_from(&other.token);
        elsewhere.call(Method::GET, "/account/whoami", None).await.expect("the session is known");
        other.call(Method::POST, "/logout", Some(json!({}))).await.expect("a logout");
        let after = elsewhere.call(Method::GET, "/account/whoami", None).await.expect_err("it has ended");
        assert_eq!(after.errcode(), Some("M_UNKNOWN_TOKEN"), "turn {turn}");
    }
}

/// The proxy gives requests of one connection to all instances.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_has_no_favourites() {
    let on = shared().await;
    let client = on.cluster.client();
    for _ in 0..20 {
        client.raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
    }
    for number in [1, 2] {
        let instance = on.cluster.instance(Tier::ClientApi, number);
        let metrics = super::counts::metrics(instance).await;
        let requests = super::counts::sum(&metrics, "polity_http_requests_total", "/_matrix/client/versions");
        assert!(requests >= 8.0, "client-api {number} had {requests} of 20 requests");
    }
}
