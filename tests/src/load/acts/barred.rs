//! Somebody who is let into a room, leaves it or is thrown out, and tries the door: what was acknowledged to anybody decides, whatever
//! instance is asked.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{invited, register};
use crate::{
    Client, escape,
    load::world::{World, text},
};

const NAME: &str = "barred";

/// Tries that were never answered, to come in and to go out: each may be done at any later time, since nothing names it as a transaction does.
#[derive(Default)]
struct Late {
    ins: usize,
    outs: usize,
    /// Of those that go out: by a ban, which also keeps out.
    bans: usize,
    /// Those that let somebody in again who is banned.
    unbans: usize,
    /// Whether an invitation may come at any later time, or a room be forgotten.
    unsure: bool,
}

impl Late {
    /// Whether nothing comes late any more.
    fn is_none(&self) -> bool {
        !self.unsure && [self.ins, self.outs, self.bans, self.unbans] == [0; 4]
    }

    /// Whether a late try explains that somebody is inside who went out, or the other way round. It is done then.
    fn explains(&mut self, is_inside: bool) -> bool {
        let tries = if is_inside { &mut self.ins } else { &mut self.outs };
        let any = *tries > 0;
        *tries -= usize::from(any);
        any
    }
}

/// Comes in and goes out, one time by itself and the next one by others, and tries the door after each.
pub(super) async fn try_the_door(world: Arc<World>) {
    let mut client = world.stranger.stranger();
    client.token = Some(register::one(&world, NAME).await);
    let own = world.get(&client, "barred-account", "/account/whoami").await;
    text(&own, "user_id").clone_into(&mut client.user_id);
    let mut random = world.random(NAME);
    let mut late = Late::default();
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("barred-{number}.");
        come_in(&world, &client, &tag, &mut late).await;
        if !tries(&world, &client, &tag, true, &mut late).await {
            continue;
        }
        world.breathe(&mut random, 40).await;
        go_out(&world, &client, &tag, number % 2 == 0, &mut late).await;
        let inside = tries(&world, &client, &tag, false, &mut late).await;
        if late.ins == 0 && !inside {
            hears_nothing(&world, &client, &tag, late.unsure).await;
        }
        if late.ins == 0 && !inside && !late.unsure {
            let told = left(&world, &client, &tag).await;
            let last = told["timeline"]["events"].as_array().and_then(|events| events.last());
            let own = last.is_some_and(|last| last["state_key"] == json!(client.user_id));
            let fault = format!("who was in {} and left it is told {told} of it", world.rooms[1]);
            world.journal.check(own, fault, &["barred-"]);
        }
        // Who may come in by a late try can't be told from who was brought back.
        if number % 3 == 1 && late.ins == 0 && !inside && !late.unsure {
            forget(&world, &client, &tag, &mut late).await;
        }
        if number % 3 == 2 && late.is_none() && !inside {
            late.unsure |= !invited::is_told(&world, &client, &tag).await;
        }
        world.breathe(&mut random, 40).await;
    }
}

/// Nobody refuses it, but for a late ban.
async fn come_in(world: &World, client: &Client, tag: &str, late: &mut Late) {
    let room = escape(&world.rooms[1]);
    loop {
        let refused = match world.ask(client, tag, Method::POST, &format!("/rooms/{room}/join"), Some(&json!({}))).await
        {
            Ok(joined) => return late.ins += joined.tries - 1,
            Err(refused) => refused,
        };
        let by_late_ban = refused.status == StatusCode::FORBIDDEN && late.bans > 0;
        world.journal.check(by_late_ban, format!("a join is refused: {refused:?}"), &["barred-"]);
        late.bans -= 1;
        late.ins += refused.tries - 1;
        let body = json!({"user_id": client.user_id});
        late.unbans += done(world, &world.writers[0], tag, &format!("/rooms/{room}/unban"), &body, true).await - 1;
    }
}

/// Who has forgotten a room isn't told of it again, whatever becomes of who is out already.
async fn forget(world: &World, client: &Client, tag: &str, late: &mut Late) {
    let room = &world.rooms[1];
    let path = format!("/rooms/{}/forget", escape(room));
    late.unsure |= world.must(client, tag, Method::POST, &path, Some(&json!({}))).await.tries > 1;
    stays_forgotten(world, client, tag).await;
    for what in ["ban", "unban"] {
        let (path, body) = (format!("/rooms/{}/{what}", escape(room)), json!({"user_id": client.user_id}));
        let maybe_done = what == "unban" && late.unbans > 0;
        let more = done(world, &world.writers[0], tag, &path, &body, maybe_done).await - 1;
        if what == "ban" {
            (late.outs, late.bans) = (late.outs + more, late.bans + more);
        } else {
            late.unbans += more;
        }
        stays_forgotten(world, client, tag).await;
    }
}

/// What a first sync tells of the room to who has left it, and asks for such rooms.
async fn left(world: &World, client: &Client, tag: &str) -> Value {
    let room = &world.rooms[1];
    let filter = json!({"room": {"rooms": [room], "include_leave": true, "timeline": {"limit": 1}}});
    let answer = world.get(client, tag, &format!("/sync?filter={}", escape(&filter.to_string()))).await;
    answer["rooms"]["leave"][room].clone()
}

async fn stays_forgotten(world: &World, client: &Client, tag: &str) {
    let (room, told) = (&world.rooms[1], left(world, client, tag).await);
    world.journal.check(told.is_null(), format!("{room} was forgotten, and a sync tells {told}"), &["barred-"]);
}

/// Who is out reads nothing of what is said then, at whatever process; but the room as it was before, unless that is forgotten.
async fn hears_nothing(world: &World, client: &Client, tag: &str, may_have_forgotten: bool) {
    let room = escape(&world.rooms[1]);
    let path = format!("/rooms/{room}/send/org.polity.secret/{tag}");
    let said = world.must(&world.writers[0], tag, Method::PUT, &path, Some(&json!({}))).await.value;
    let event_id = text(&said, "event_id");
    for path in [format!("/rooms/{room}/event/{}", escape(event_id)), format!("/rooms/{room}/messages?dir=b&limit=3")] {
        let told = world.ask(client, tag, Method::GET, &path, None).await.map(|answered| answered.value.to_string());
        let heard = told.as_ref().is_ok_and(|told| told.contains(event_id));
        world.journal.check(!heard, format!("who was out is told {event_id} by {path}: {told:?}"), &["barred-"]);
    }
    let (path, secret) = (format!("/rooms/{room}/state/org.polity.secret/{tag}"), format!("the secret of {tag}"));
    let said = world.must(&world.writers[0], tag, Method::PUT, &path, Some(&json!({"secret": secret}))).await.value;
    let event_id = text(&said, "event_id");
    let one = world.ask(client, tag, Method::GET, &path, None).await;
    let right = one.as_ref().is_err_and(|refused| refused.status.is_client_error());
    world.journal.check(right, format!("who was out is told {event_id} by {path}"), &["barred-"]);
    let all = world.ask(client, tag, Method::GET, &format!("/rooms/{room}/state"), None).await;
    let right = match &all {
        Ok(all) => !all.value.to_string().contains(&secret),
        Err(refused) => may_have_forgotten && refused.status == StatusCode::FORBIDDEN,
    };
    let all = all.map(|all| all.value);
    world.journal.check(right, format!("who left before {event_id} is told {all:?} as the room's state"), &["barred-"]);
}

async fn go_out(world: &World, client: &Client, tag: &str, is_thrown: bool, late: &mut Late) {
    let room = escape(&world.rooms[1]);
    let (by, path, body) = match is_thrown {
        true => (&world.writers[0], format!("/rooms/{room}/kick"), json!({"user_id": client.user_id})),
        false => (client, format!("/rooms/{room}/leave"), json!({})),
    };
    late.outs += done(world, by, tag, &path, &body, late.outs > 0).await - 1;
}

/// Does it, unless it is refused because an earlier try did, without being answered; how often it was tried.
async fn done(world: &World, by: &Client, tag: &str, path: &str, body: &Value, maybe_done: bool) -> usize {
    let answer = world.ask(by, tag, Method::POST, path, Some(body)).await;
    let tries = answer.as_ref().map_or_else(|refused| refused.tries, |answered| answered.tries);
    if let Err(refused) = answer {
        let done_before = (maybe_done || tries > 1) && refused.status == StatusCode::FORBIDDEN;
        world.journal.check(done_before, format!("{path} is refused: {refused:?}"), &["barred-"]);
    }
    tries
}

/// Who is inside sees who else is and may speak, and nobody else. Whether it is inside now.
async fn tries(world: &World, client: &Client, tag: &str, mut inside: bool, late: &mut Late) -> bool {
    let room = escape(&world.rooms[1]);
    let members = world.ask(client, tag, Method::GET, &format!("/rooms/{room}/joined_members"), None).await;
    let members = members.map(|answered| answered.value);
    let listed = |members: &Value| members["joined"][&client.user_id].is_object();
    let told = match &members {
        Ok(members) => listed(members).then_some(true),
        Err(refused) => (refused.status == StatusCode::FORBIDDEN).then_some(false),
    };
    let right = told == Some(inside) || told.is_some_and(|told| late.explains(told));
    let fault = format!("who is in the room: {inside}, asks for its members and is told {members:?}");
    world.journal.check(right, fault, &["barred-"]);
    inside = told.unwrap_or(inside);
    let path = format!("/rooms/{room}/send/org.polity.knock/{tag}{inside}");
    let said = world.ask(client, tag, Method::PUT, &path, Some(&json!({}))).await.map(|answered| answered.value);
    if let Ok(answer) = &said {
        world.keep_event(&world.writers[0], tag, (&path, answer)).await;
    }
    let told = match &said {
        Ok(_) => Some(true),
        Err(refused) => (refused.status == StatusCode::FORBIDDEN).then_some(false),
    };
    let right = told == Some(inside) || told.is_some_and(|told| late.explains(told));
    world.journal.check(right, format!("who is in the room: {inside}, speaks and is told {said:?}"), &["barred-"]);
    told.unwrap_or(inside)
}
