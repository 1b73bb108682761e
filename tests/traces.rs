//! A send through the whole server is one trace: HTTP, the call between the tiers on both sides, and the store.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Attribute, trace::v1::Span,
};
use polity_core::tasks;
use polity_tests::Sandbox;
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpListener, sync::Mutex};

const SECRET: &str = "a-word-that-nobody-else-says";

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    bytes: Vec<u8>,
}

/// A collector: keeps what is exported, and answers that all is well.
async fn collect(listener: TcpListener, collected: Arc<Mutex<Collected>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let collected = Arc::clone(&collected);
        tasks::spawn(async move {
            let export = service_fn(move |request: http::Request<Incoming>| {
                let collected = Arc::clone(&collected);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    // A gRPC message: a byte (not compressed), four of length, itself.
                    let message = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
                    let scopes = message.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                    let mut collected = collected.lock().await;
                    collected.bytes.extend_from_slice(&body);
                    collected.spans.extend(scopes.flat_map(|scope| scope.spans));
                    let well = HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static("0"),
                    )]);
                    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(well)) });
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, hyper::Error>(response.body(body).unwrap())
                }
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // The exporter hangs up when the server ends.
            drop(http.serve_connection(TokioIo::new(stream), export).await);
        });
    }
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Attribute| match value {
        Attribute::StringValue(text) => text.clone(),
        Attribute::IntValue(int) => int.to_string(),
        other => format!("{other:?}"),
    };
    let value = |value: &Option<opentelemetry_proto::tonic::common::v1::AnyValue>| {
        value.as_ref().and_then(|value| value.value.as_ref()).map(text).unwrap_or_default()
    };
    span.attributes.iter().map(|attribute| (attribute.key.as_str(), value(&attribute.value))).collect()
}

/// The trace of the send, once its store spans have come.
async fn trace_of_the_send(collected: &Mutex<Collected>) -> Vec<Span> {
    for _ in 0..200 {
        let spans = collected.lock().await.spans.clone();
        let send = spans.iter().find(|span| span.name.starts_with("PUT ") && span.name.contains("/send/"));
        if let Some(send) = send {
            let trace: Vec<Span> = spans.iter().filter(|span| span.trace_id == send.trace_id).cloned().collect();
            if trace.iter().any(|span| span.name == "store cas log") {
                return trace;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let names: Vec<String> = collected.lock().await.spans.iter().map(|span| span.name.clone()).collect();
    panic!("no trace of the send with a write of the log: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_is_one_trace_from_http_to_the_store() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collected = Arc::new(Mutex::new(Collected::default()));
    tasks::spawn(collect(listener, Arc::clone(&collected)));
    let sandbox = Sandbox::start(&[("TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())]).await;
    let mut client = sandbox.client();
    let account = json!({"username": "tracy", "password": SECRET, "auth": {"type": "m.login.dummy"}});
    let account = client.call(Method::POST, "/register", Some(account)).await.unwrap();
    let token = account["access_token"].as_str().unwrap().to_owned();
    client.token = Some(token.clone());
    let room = client.call(Method::POST, "/createRoom", Some(json!({}))).await.unwrap();
    let path = format!("/rooms/{}/send/m.room.message/txn1", room["room_id"].as_str().unwrap());
    let content = json!({"msgtype": "m.text", "body": SECRET});
    client.call(Method::PUT, &path, Some(content)).await.unwrap();

    let trace = trace_of_the_send(&collected).await;
    let named =
        |name: &str| trace.iter().find(|span| span.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    let (http, call) = (named("PUT "), named("call polity.room_state.v1.RoomState/SendEvent"));
    let (answer, append) = (named("answer polity.room_state.v1.RoomState/SendEvent"), named("store cas log"));
    for (parent, child) in [(http, call), (call, answer), (answer, append)] {
        assert_eq!(child.parent_span_id, parent.span_id, "{} isn't below {}", child.name, parent.name);
    }
    assert_eq!(attributes(call)["rpc.response.status_code"], "0");
    let append = attributes(append);
    assert_eq!((append["db.collection.name"].as_str(), append["outcome"].as_str()), ("log", "ok"));
    assert!(append.contains_key("tenant") && append["db.operation.name"] == "cas", "{append:?}");
    assert!(trace.iter().any(|span| span.name.starts_with("store put ")), "the projections are in it, too");

    let bytes = &collected.lock().await.bytes;
    for secret in [SECRET, &token] {
        let shown = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!shown, "{secret} stands in a trace");
    }
}
