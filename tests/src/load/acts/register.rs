//! Registrations: an account is there whole, or not at all.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::load::world::{PASSWORD, World, text};

/// Registers one after the other; at the end all are still there.
pub(super) async fn register(world: Arc<World>) {
    let (mut random, mut accounts) = (world.random("register"), Vec::new());
    while !world.is_done() {
        let name = format!("new{}", accounts.len());
        let token = one(&world, &name).await;
        accounts.push((name, token));
        world.breathe(&mut random, 150).await;
    }
    for (name, token) in accounts {
        let mut client = world.stranger.stranger();
        client.token = Some(token);
        let own = world.get(&client, &format!("register-{name}."), "/account/whoami").await;
        let right = text(&own, "user_id").starts_with(&format!("@{name}:"));
        world.journal.check(right, format!("the token of {name} is of {own}"), &[&format!("register-{name}.")]);
        login(&world, &name).await;
    }
}

/// Registers one; its access token.
pub(super) async fn one(world: &World, name: &str) -> String {
    let tag = format!("register-{name}.");
    let client = world.stranger.stranger();
    let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    match world.ask(&client, &tag, Method::POST, "/register", Some(&body)).await {
        Ok(answered) => text(&answered.value, "access_token").to_owned(),
        // An earlier try made the account, and nobody heard of its token.
        Err(refused) if refused.tries > 1 && text(&refused.body, "errcode") == "M_USER_IN_USE" => {
            login(world, name).await
        }
        Err(refused) => world.journal.fail(format!("a registration is refused: {refused:?}"), &[&tag]),
    }
}

async fn login(world: &World, name: &str) -> String {
    let body =
        json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": PASSWORD});
    let client = world.stranger.stranger();
    let answered = world.must(&client, &format!("register-{name}."), Method::POST, "/login", Some(&body)).await;
    text(&answered.value, "access_token").to_owned()
}
