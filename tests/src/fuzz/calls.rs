//! Calls of one process to another: the messages of room-state's service, and of the one that every process has.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;

use super::server::with_server;

const ROOMS: &str = "polity.room_state.v1.RoomState";
const CLUSTER: &str = "polity.cluster.v1.Cluster";
const METHODS: [(&str, &str); 17] = [
    (ROOMS, "CreateRoom"),
    (ROOMS, "SendEvent"),
    (ROOMS, "SetState"),
    (ROOMS, "RedactEvent"),
    (ROOMS, "JoinRoom"),
    (ROOMS, "KnockRoom"),
    (ROOMS, "LeaveRoom"),
    (ROOMS, "InviteUser"),
    (ROOMS, "KickUser"),
    (ROOMS, "BanUser"),
    (ROOMS, "UnbanUser"),
    (ROOMS, "SetProfile"),
    (ROOMS, "ListRoom"),
    (ROOMS, "Nothing"),
    (ROOMS, "PurgeRoom"),
    (CLUSTER, "Ping"),
    (CLUSTER, "Pull"),
];

/// Which call on the first byte, its message behind it.
pub(super) fn calls(bytes: &[u8]) {
    let Some((method, message)) = bytes.split_first() else { return };
    let (service, method) = METHODS[usize::from(*method) % METHODS.len()];
    with_server(|server| {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.put_slice(message);
        let request = Request::post(format!("/{service}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::<Bytes>::new(framed.freeze())));
        let status = server.within(async {
            let way = if service == CLUSTER { &server.cluster } else { &server.rooms };
            let answer = way.clone().oneshot(request.expect("a request")).await.expect("an answer");
            let (head, body) = answer.into_parts();
            let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned());
            Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers?))
        });
        let status = status.expect("every call is answered by a status");
        // What is no message at all tonic itself calls internal.
        let ours = status.code() != Code::Internal || status.message().contains("decode");
        assert!(ours && status.code() != Code::Unknown, "{method}: {status:?}");
    });
}
