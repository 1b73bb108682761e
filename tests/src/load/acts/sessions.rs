//! Sessions that come and go: a token that was given is good, and one that was given back is nobody's, whatever process is asked.

use std::sync::Arc;

use http::{Method, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::register;
use crate::{
    Client, escape,
    load::world::{PASSWORD, World, text},
};

const NAME: &str = "visitor";

/// Logs in and out, or takes another token, or takes a device away by another one's hand.
pub(super) async fn come_and_go(world: Arc<World>) {
    let (mut random, mut home) = (world.random("sessions"), world.stranger.stranger());
    home.token = Some(register::one(&world, NAME).await);
    for number in 0_u64.. {
        if world.is_done() {
            break;
        }
        let tag = format!("session-{number}.");
        let visit = Visit::begin(&world, &tag).await;
        is_good(&world, &visit.client, &tag, true).await;
        world.breathe(&mut random, 30).await;
        let gone = match random.random_range(0..3) {
            0 => Some(visit.log_out(&world, &tag).await),
            1 => Some(visit.removed(&world, &tag, &home).await),
            _ => visit.refresh(&world, &tag).await,
        };
        for client in gone.iter().cycle().take(3) {
            is_good(&world, client, &tag, false).await;
        }
        world.breathe(&mut random, 60).await;
    }
    is_good(&world, &home, "session-home.", true).await;
}

/// Whether a token is somebody's.
async fn is_good(world: &World, client: &Client, tag: &str, good: bool) {
    let told = world.ask(client, tag, Method::GET, "/account/whoami", None).await.map(|answered| answered.value);
    let right = match &told {
        Ok(_) => good,
        Err(refused) => !good && refused.status == StatusCode::UNAUTHORIZED,
    };
    world.journal.check(right, format!("a token is good: {good}, and gives {told:?}"), &[tag]);
}

/// A session, from its login on.
struct Visit {
    client: Client,
    device: String,
    refresh: String,
}

impl Visit {
    async fn begin(world: &World, tag: &str) -> Self {
        let who = json!({"type": "m.id.user", "user": NAME});
        let body = json!({"type": "m.login.password", "identifier": who, "password": PASSWORD, "refresh_token": true});
        let mut client = world.stranger.stranger();
        let given = world.must(&client, tag, Method::POST, "/login", Some(&body)).await.value;
        client.token = Some(text(&given, "access_token").to_owned());
        let field = |name| text(&given, name).to_owned();
        Self { client, device: field("device_id"), refresh: field("refresh_token") }
    }

    /// By itself. Asked again for want of an answer, it finds that it is out.
    async fn log_out(self, world: &World, tag: &str) -> Client {
        let out = world.ask(&self.client, tag, Method::POST, "/logout", Some(&json!({}))).await;
        let out = out.map(|answered| answered.value);
        let right = out.as_ref().is_ok_and(Value::is_object)
            || out.as_ref().is_err_and(|refused| refused.tries > 1 && refused.status == StatusCode::UNAUTHORIZED);
        world.journal.check(right, format!("a logout gives {out:?}"), &[tag]);
        self.client
    }

    /// By who is at home.
    async fn removed(self, world: &World, tag: &str, home: &Client) -> Client {
        let who = json!({"type": "m.id.user", "user": NAME});
        let auth = json!({"type": "m.login.password", "identifier": who, "password": PASSWORD});
        let path = format!("/devices/{}", escape(&self.device));
        world.must(home, tag, Method::DELETE, &path, Some(&json!({"auth": auth}))).await;
        self.client
    }

    /// Takes another token, which ends the one before once it is used.
    async fn refresh(self, world: &World, tag: &str) -> Option<Client> {
        let body = json!({"refresh_token": self.refresh});
        let given = world.must(&self.client, tag, Method::POST, "/refresh", Some(&body)).await;
        let mut next = self.client.clone();
        next.token = Some(text(&given.value, "access_token").to_owned());
        is_good(world, &next, tag, true).await;
        // Asked for again, a third one may be given late, and until that is used the first one is good again.
        (given.tries == 1).then_some(self.client)
    }
}
