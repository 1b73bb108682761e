//! Requests of clients: path, query, headers and body of every endpoint.

use bytes::Bytes;
use http::{Method, Request, Uri};
use serde_json::Value;

use super::{
    server::{Server, with_server},
    text,
};

/// `METHOD target`, lines of `name: value`, an empty line, a body. `{token}`, `{user}`, `{room}`, `{event}` and `{since}` stand for
/// what there is.
pub(super) fn requests(bytes: &[u8]) {
    with_server(|server| {
        let Some(request) = read(server, bytes) else { return };
        let head = format!("{} {}", request.method(), request.uri());
        let (status, body) = server.ask(request);
        assert!(!status.is_server_error(), "{head} gives {status}: {}", text(&body));
        if status.is_client_error() {
            let answer: Value = serde_json::from_slice(&body).expect("what is wrong is said in JSON");
            assert!(answer["errcode"].is_string() || status == 401, "{head} gives {status}: {answer}");
        } else if !body.is_empty() {
            serde_json::from_slice::<Value>(&body).expect("an answer is JSON");
        }
    });
}

fn read(server: &Server, bytes: &[u8]) -> Option<Request<Bytes>> {
    let whole = server.names.iter().fold(text(bytes).into_owned(), |text, (name, value)| text.replace(name, value));
    let (head, body) = whole.split_once("\n\n").unwrap_or((&whole, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let mut request = Request::builder().method(method).uri(target.parse::<Uri>().ok()?);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request = request.header(name, value.trim());
    }
    request.body(Bytes::copy_from_slice(body.as_bytes())).ok()
}
