//! The log goes to its file, at the level that it has now.

use std::{fs, time::Duration};

use tower::ServiceExt as _;

use super::*;

fn log(file: &std::path::Path, level: &str) -> config::Log {
    config::Log { level: level.to_owned(), format: config::LogFormat::Json, file: file.to_owned() }
}

/// The only test of this process that starts the log: there is one for all.
#[tokio::test]
async fn the_level_and_the_file_can_be_changed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("polity.log"), folder.path().join("polity.log.1"));
    let telemetry = start(&log(&path, "warn"), &config::Telemetry::default(), "a").unwrap();
    assert!(!traces_enabled());
    assert!(tracing::info_span!("nobody wants it").is_disabled());
    tracing::info!("not wanted");
    tracing::warn!(answer = 42, "wanted");
    wait_for(&path, "\"answer\":42");
    fs::rename(&path, &moved).unwrap();
    telemetry.reload(&log(&path, "debug")).unwrap();
    tracing::debug!("wanted now");
    wait_for(&path, "wanted now");
    assert!(!fs::read_to_string(&moved).unwrap().contains("not wanted"));
    assert!(telemetry.reload(&log(&path, "loud")).is_err());
    // The line of a request asks beforehand whether anybody wants it.
    let routes = axum::Router::new().route("/route", axum::routing::get(|| async {}));
    let router = crate::http::Layers::new(&config::Limits::default()).around(routes);
    router.oneshot(http::Request::get("/route").body(axum::body::Body::empty()).unwrap()).await.unwrap();
    wait_for(&path, "\"route\":\"/route\"");
    measure();
}

fn measure() {
    const SPANS: u32 = 100_000;
    let began = std::time::Instant::now();
    for n in 0..SPANS {
        std::hint::black_box(tracing::info_span!("request", n));
    }
    let each = began.elapsed() / SPANS;
    assert!(each < Duration::from_micros(2), "a span that nobody wants costs {each:?}");
    println!("a span that nobody wants: {each:?}");
}

fn wait_for(path: &std::path::Path, text: &str) {
    for _ in 0..500 {
        if fs::read_to_string(path).is_ok_and(|log| log.contains(text)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{text} isn't in {}", path.display());
}
