//! What connections cost that only wait.

use super::*;

const CONNECTIONS: usize = 2_000;
/// What a waiting connection may cost, its request included (and, here, the client's side of the test).
const BYTES: usize = 16 * 1024;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}

/// A GET as a real client sends it.
fn request(path: &str) -> String {
    let token = "a".repeat(100);
    format!(
        "GET {path}?since={token}&timeout=30000 HTTP/1.1\r\nhost: matrix.example.org\r\nauthorization: Bearer {token}\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\naccept: application/json\r\n\
         accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate, br, zstd\r\norigin: https://app.example.org\r\n\r\n"
    )
}

async fn crowd(server: &Running, text: &str, answered: bool) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        if answered {
            let mut answer = [0; 1024];
            assert!(stream.read(&mut answer).await.unwrap() > 0);
        } else {
            server.waiting.notified().await;
        }
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn two_thousand_connections_that_wait_stay_small_and_the_server_goes_on() {
    crate::lifecycle::raise_file_limit().unwrap();
    let server = plain().await;
    for (what, path, answered) in [("parked", "/wait", false), ("idle", "/", true)] {
        let before = resident();
        let streams = crowd(&server, &request(path), answered).await;
        let each = resident().saturating_sub(before) / CONNECTIONS;
        println!("{what}: {each} bytes a connection");
        assert!(each < BYTES, "{what}: {each} bytes a connection");
        let mut one_more = TcpStream::connect(server.address).await.unwrap();
        let answer = talk(&mut one_more, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("hello"), "{answer}");
        server.gate.notify_waiters();
        drop(streams);
    }
}
