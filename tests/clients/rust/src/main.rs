//! The client scenarios (`../README.md`) with matrix-sdk: `client-rust scenario BASE_URL`, `client-rust together BASE_URL RUN`

use std::{env, process::ExitCode, time::Duration};

use tracing_subscriber::filter::LevelFilter;

use crate::score::{Result, Score};

mod accounts;
mod history;
mod score;
mod talk;
mod together;
mod user;

const SCENARIO_TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.len() == 1 {
        arguments.extend(env::var("HOMESERVER_URL"));
    }
    if env::var_os("DEBUG").is_some() {
        tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).init();
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut score = Score::default();
    let play = async {
        match arguments[..] {
            ["scenario", homeserver] => scenario(&mut score, homeserver).await,
            ["together", homeserver, run] => together::together(&mut score, homeserver, run).await,
            _ => Err("usage: client-rust scenario BASE_URL (or HOMESERVER_URL) | together BASE_URL RUN".into()),
        }
    };
    let ended = tokio::time::timeout(SCENARIO_TIMEOUT, play).await;
    let outcome =
        ended.unwrap_or_else(|_| Err(format!("the scenario has not ended after {SCENARIO_TIMEOUT:?}").into()));
    if let Err(wrong) = &outcome {
        eprintln!("FAIL {wrong}");
    }
    println!("{} passed, {} failed", score.passed(), u32::from(outcome.is_err()));
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All steps in order.
async fn scenario(score: &mut Score, homeserver: &str) -> Result {
    let tag = accounts::new_tag();
    let (mut a, mut b) = accounts::sign_up(score, homeserver, [format!("a-{tag}"), format!("b-{tag}")]).await?;
    let room_id = accounts::meet(score, &a, &b, &format!("room {tag}")).await?;
    talk::messages(score, &a, &b, &room_id).await?;
    talk::relations(score, &a, &b, &room_id).await?;
    talk::signals(score, &a, &b, &room_id).await?;
    history::encryption(score, &a, &b).await?;
    history::gap(score, &a, &mut b, &room_id).await?;
    accounts::log_out(score, &mut a, &mut b).await
}
