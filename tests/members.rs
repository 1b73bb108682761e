//! A hundred clients ask for all members of a large room at once.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Method, StatusCode};
use polity_tests::{Client, Sandbox, escape};
use serde_json::{Value, json};

/// A room as large as can be made in so long, up to so many members: a debug build makes some thousands, and answers take as long again.
const MAKES: Duration = Duration::from_secs(5);
const MEMBERS: usize = 100_000;
const CLIENTS: usize = 100;
const USERS: usize = 20;
/// The memory of large answers; together they take some twenty times that.
const BUDGET: u64 = 8 << 20;
/// What the process keeps of such a room beside answers: its events, its state.
const KEPT: u64 = 128 << 20;

async fn account(sandbox: &Sandbox, name: &str) -> Client {
    let mut client = sandbox.client();
    client.register(name, "a long password").await.expect("an account");
    client
}

/// Invites members until there are enough; how many.
async fn fill(host: &Client, room: &str) -> usize {
    let (began, path) = (Instant::now(), format!("/rooms/{}/invite", escape(room)));
    let invitations =
        stream::iter(0..MEMBERS).take_while(|_| std::future::ready(began.elapsed() < MAKES)).map(async |n| {
            let body = json!({"user_id": format!("@a_member_with_a_name_of_usual_length_{n}:polity.test")});
            host.call(Method::POST, &path, Some(body)).await.expect("an invitation");
        });
    invitations.buffer_unordered(64).count().await
}

/// Asks until it is answered: how many members there are, and how often it was refused.
async fn members(client: &Client, path: &str) -> (usize, usize) {
    let mut refused = 0;
    loop {
        let answer = client.exchange(Method::GET, path, None).await.expect("an answer");
        match answer.status() {
            StatusCode::OK => {
                let answer: Value = serde_json::from_slice(answer.body()).expect("JSON");
                return (answer["chunk"].as_array().map_or(0, Vec::len), refused);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                refused += 1;
                let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
                let after = body["retry_after_ms"].as_u64().expect("when to come again");
                tokio::time::sleep(Duration::from_millis(after)).await;
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_ask_for_all_members_of_a_large_room_at_once() {
    let sandbox = Sandbox::start(&[("LIMITS__ANSWERS_BYTES", &BUDGET.to_string())]).await;
    let host = account(&sandbox, "host").await;
    let room = host.create_room(json!({"preset": "public_chat"})).await.expect("a room");
    let join = format!("/join/{}", escape(&room));
    let askers: Vec<Client> = stream::iter(0..USERS)
        .then(async |n| {
            let client = account(&sandbox, &format!("asker{n}")).await;
            client.call(Method::POST, &join, Some(json!({}))).await.expect("a join");
            client
        })
        .collect()
        .await;
    let count = fill(&host, &room).await + USERS + 1;
    assert!(count > 500, "only {count} members could be made");

    let path = format!("/rooms/{}/members", escape(&room));
    let (size, before) = (host.raw(Method::GET, &path, None).await.expect("an answer").1.len(), sandbox.resident());
    let began = Instant::now();
    let asked = (0..CLIENTS).map(|n| askers[n % USERS].afresh());
    let asked: Vec<Client> = asked.collect();
    let all = join_all(asked.iter().map(|client| members(client, &path)));
    // Somebody else, elsewhere, goes on meanwhile; and it is looked at how much memory is taken.
    let other = account(&sandbox, "other").await;
    let elsewhere = other.create_room(json!({})).await.expect("a room");
    let (mut most, mut slowest, mut sends) = (0, Duration::ZERO, 0);
    let goes_on = async {
        loop {
            let sent = Instant::now();
            other.send(&elsewhere, &format!("t{sends}"), "meanwhile").await.expect("a send");
            (slowest, sends) = (slowest.max(sent.elapsed()), sends + 1);
            most = most.max(sandbox.resident());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = tokio::select! { all = all => all, () = goes_on => Vec::new() };
    let refused: usize = all.iter().map(|(_, refused)| refused).sum();
    println!(
        "{count} members, {size} bytes: {:?} for {CLIENTS} answers, {refused} refusals; {} MiB more at most; {sends} sends \
         elsewhere, the slowest took {slowest:?}",
        began.elapsed(),
        most.saturating_sub(before) >> 20,
    );
    assert_eq!(all.iter().map(|(members, _)| *members).collect::<Vec<_>>(), [count; CLIENTS]);
    assert!(refused > 0, "they didn't share a budget");
    assert!(most.saturating_sub(before) < BUDGET + KEPT, "{} MiB more", most.saturating_sub(before) >> 20);
    assert!(sends > 5 && slowest < Duration::from_secs(5), "{sends} sends, the slowest took {slowest:?}");
    sandbox.assert_no_panic();
}
