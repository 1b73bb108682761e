//! Each concern, through a router and without a socket.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension,
    body::Body,
    response::Response,
    routing::{get, put},
};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use super::*;

fn limits() -> Limits {
    Limits { requests: 2, request_body_bytes: 100, body_timeout_s: 1, request_timeout_s: 2, ..Limits::default() }
}

fn routes(gate: &Arc<Notify>) -> Router {
    let (waiting, parked) = (Arc::clone(gate), Arc::clone(gate));
    Router::new()
        .route("/ok/{name}", get(|| async { "fine" }))
        .route(
            "/body",
            put(|body: Body| async move { body.collect().await.map_or(0, |b| b.to_bytes().len()).to_string() }),
        )
        .route("/panic", get(async || -> Response { panic!("as a test wants it") }))
        .route("/wait", get(async move || waiting.notified().await))
        .route(
            "/park",
            get(async move |Extension(scope): Extension<Scope>| {
                let both = (scope.park(), scope.park());
                parked.notified().await;
                drop(both);
                parked.notified().await;
            }),
        )
        .route("/late", get(async || tokio::time::sleep(Duration::from_secs(100)).await))
        .route(
            "/who",
            get(async |Extension(scope): Extension<Scope>| {
                scope.set_tenant("example.org");
                scope.set_user("@alice:example.org");
                (StatusCode::FORBIDDEN, Extension(Errcode("M_FORBIDDEN")), "no")
            }),
        )
}

fn router() -> Router {
    Layers::new(&limits()).around(routes(&Arc::new(Notify::new())))
}

async fn ask(router: &Router, method: Method, path: &str, body: Body) -> (http::response::Parts, String) {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    assert_eq!(parts.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
    assert!(parts.headers.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS));
    assert!(parts.headers.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS));
    (parts, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn browsers_are_answered_on_every_path() {
    let router = router();
    for path in ["/ok/a", "/body", "/panic", "/nowhere"] {
        let (parts, body) = ask(&router, Method::OPTIONS, path, Body::empty()).await;
        assert_eq!((parts.status, body.as_str()), (StatusCode::OK, ""), "{path}");
    }
    assert_eq!(ask(&router, Method::GET, "/ok/a", Body::empty()).await.1, "fine");
    assert_eq!(ask(&router, Method::GET, "/nowhere", Body::empty()).await.0.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&router, Method::PUT, "/ok/a", Body::empty()).await.0.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_panic_is_an_internal_error() {
    let (parts, body) = ask(&router(), Method::GET, "/panic", Body::empty()).await;
    assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("M_UNKNOWN") && !body.contains("test wants"));
}

#[tokio::test]
async fn bodies_are_limited_in_size_and_in_time() {
    let router = router();
    assert_eq!(ask(&router, Method::PUT, "/body", Body::from(vec![b'a'; 100])).await.1, "100");
    let (parts, body) = ask(&router, Method::PUT, "/body", Body::from(vec![b'a'; 101])).await;
    assert_eq!((parts.status, body.contains("M_TOO_LARGE")), (StatusCode::PAYLOAD_TOO_LARGE, true));
    // Its length isn't known before.
    let chunks = futures_util::stream::iter((0..3).map(|_| Ok::<_, io::Error>(vec![b'a'; 50])));
    let (parts, body) = ask(&router, Method::PUT, "/body", Body::from_stream(chunks)).await;
    assert_eq!((parts.status, body.contains("M_TOO_LARGE")), (StatusCode::PAYLOAD_TOO_LARGE, true));
    // It never stops coming, nor ends.
    let drops = futures_util::stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Some((Ok::<_, io::Error>("a"), ()))
    });
    let began = tokio::time::Instant::now();
    let (parts, _) = ask(&router, Method::PUT, "/body", Body::from_stream(drops)).await;
    assert_eq!((parts.status, began.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, 1));
}

#[tokio::test]
async fn a_request_has_a_deadline() {
    let began = tokio::time::Instant::now();
    let (parts, _) = ask(&router(), Method::GET, "/late", Body::empty()).await;
    assert_eq!((parts.status, began.elapsed().as_secs()), (StatusCode::GATEWAY_TIMEOUT, 2));
}

/// A request that has come as far as it can.
async fn begin(router: &Router, path: &'static str) -> Pin<Box<dyn Future<Output = StatusCode>>> {
    let router = router.clone();
    let mut asked = Box::pin(async move { ask(&router, Method::GET, path, Body::empty()).await.0.status });
    assert!(futures_util::poll!(asked.as_mut()).is_pending());
    asked
}

#[tokio::test]
async fn who_comes_when_too_many_are_there_is_told_so_at_once_and_who_waits_does_not_count() {
    let gate = Arc::new(Notify::new());
    let router = Layers::new(&limits()).around(routes(&gate));
    let poll = async |path| begin(&router, path).await;
    let (one, two) = (poll("/wait").await, poll("/wait").await);
    let (parts, body) = ask(&router, Method::GET, "/ok/a", Body::empty()).await;
    assert_eq!((parts.status, body.contains("M_LIMIT_EXCEEDED")), (StatusCode::TOO_MANY_REQUESTS, true));
    assert_eq!(parts.headers[header::RETRY_AFTER], "1");
    // One whose client hangs up gives its place back.
    drop(two);
    assert_eq!(ask(&router, Method::GET, "/ok/a", Body::empty()).await.0.status, StatusCode::OK);
    let mut parked = [poll("/park").await, poll("/park").await, poll("/park").await];
    assert_eq!(ask(&router, Method::GET, "/ok/a", Body::empty()).await.0.status, StatusCode::OK);
    gate.notify_waiters();
    assert_eq!(one.await, StatusCode::OK);
    // Woken, they have work again, and count: all three, though there are two places.
    for parked in &mut parked {
        assert!(futures_util::poll!(parked).is_pending());
    }
    for _ in 0..2 {
        assert_eq!(ask(&router, Method::GET, "/ok/a", Body::empty()).await.0.status, StatusCode::TOO_MANY_REQUESTS);
    }
    gate.notify_waiters();
    for parked in parked {
        assert_eq!(parked.await, StatusCode::OK);
    }
    assert_eq!(ask(&router, Method::GET, "/ok/a", Body::empty()).await.0.status, StatusCode::OK);
}

/// A log in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_leaves_one_line_without_its_secrets() {
    let memory = Memory::default();
    let writer = memory.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let request = Request::get("/who?access_token=hush")
        .header(header::AUTHORIZATION, "Bearer hush")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let request = Request::put("/body").body(Body::from("secret"));
    router().oneshot(request.unwrap()).await.unwrap();
    router().oneshot(Request::get("/ok/private").body(Body::empty()).unwrap()).await.unwrap();
    drop(guard);
    let log = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for part in [
        r#""method":"GET""#,
        r#""route":"/who""#,
        r#""status":403"#,
        r#""errcode":"M_FORBIDDEN""#,
        r#""tenant":"example.org""#,
        r#""user":"@alice:example.org""#,
        r#""duration_us":"#,
        r#""bytes_out":2"#,
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736""#,
    ] {
        assert!(lines[0].contains(part), "{part} isn't in {}", lines[0]);
    }
    assert!(lines[1].contains(r#""bytes_in":6"#) && lines[1].contains(r#""bytes_out":1"#), "{}", lines[1]);
    assert!(lines[2].contains(r#""route":"/ok/{name}""#), "{}", lines[2]);
    assert!(["hush", "secret", "private"].iter().all(|secret| !log.contains(secret)), "{log}");
}
