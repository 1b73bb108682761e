//! Whom calls are taken to, and when they are taken to somebody else.

use tokio::time::Instant;
use tonic::Code;

use super::*;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn calls_about_one_thing_go_to_one_process_and_to_the_next_if_it_does_not_serve() {
    let stage = stage(3);
    let order = stage.ranked("!r");
    for _ in 0..5 {
        assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[0].member.incarnation);
    }
    order[0].is(Mode::NotServing);
    assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[1].member.incarnation);
    order[1].is(Mode::NotServing);
    assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[2].member.incarnation);
    order[2].is(Mode::NotServing);
    assert_eq!(stage.ask("!r", false, LONG).await.unwrap_err().code(), Code::Unavailable);
    let all = stage.ranked("!other");
    assert!(all.iter().any(|process| process.calls() > 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_is_not_begun_again() {
    let stage = stage(2);
    let order = stage.ranked("!r");
    for (mode, code) in [(Mode::Overloaded, Code::ResourceExhausted), (Mode::Failing, Code::Unavailable)] {
        order[0].is(mode);
        assert_eq!(stage.ask("!r", true, LONG).await.unwrap_err().code(), code, "its word is taken");
    }
    order[0].is(Mode::Hangs);
    let late = stage.ask("!r", false, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late}");
    assert_eq!(order[1].calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_left_within_its_patience_and_not_asked_first_until_it_shows_a_sign_of_life() {
    let stage = stage(2);
    let order = stage.ranked("!r");
    order[0].is(Mode::Hangs);
    let began = Instant::now();
    assert_eq!(stage.ask("!r", true, LONG).await.unwrap(), order[1].member.incarnation);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[1].member.incarnation);
    }
    assert!(began.elapsed() < Duration::from_millis(50), "nobody waits for it again");
    order[0].is(Mode::Well);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[1].member.incarnation, "looked at beside that");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.ask("!r", false, LONG).await.unwrap(), order[0].member.incarnation);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_and_alive_is_waited_for() {
    let stage = stage(2);
    let order = stage.ranked("!r");
    order[0].is(Mode::Slow(8_000));
    assert_eq!(stage.ask("!r", true, LONG).await.unwrap(), order[0].member.incarnation);
    assert_eq!((order[0].calls(), order[1].calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn retries_have_a_budget_and_calls_their_deadline() {
    let stage = stage(2);
    let order = stage.ranked("!r");
    order[0].is(Mode::NotServing);
    let mut answered = 0;
    for _ in 0..200 {
        answered += u64::from(stage.ask("!r", true, LONG).await.is_ok());
    }
    // Those at hand, and a tenth of what was asked meanwhile.
    assert!((64..90).contains(&answered), "{answered}");
    assert_eq!((order[0].calls(), order[1].calls()), (200, answered));
    order[0].is(Mode::Hangs);
    let began = Instant::now();
    stage.ask("!r", true, Duration::from_millis(400)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}
