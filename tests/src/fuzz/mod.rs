//! Fuzzing: every parser of bytes that come from elsewhere is given what a fuzzer makes up, guided by what that reaches.
//!
//! A target takes bytes, hands them to the parser, and checks what was read: that it is read again as it was written, that limits are
//! kept, that ruma agrees. Whatever panics is a fault. `tests/fuzz/run` builds the program (`src/bin/fuzz.rs`, on the stable compiler) and
//! runs each target for a while; `tests/fuzz/corpus` has inputs to begin with, and all that were ever found to fail.

mod calls;
mod events;
mod filters;
mod headers;
mod ids;
mod json;
mod news;
mod records;
mod requests;
mod server;
mod store;
mod tokens;

/// A parser under test.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Gives it some bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests::requests },
    Target { name: "calls", run: calls::calls },
    Target { name: "headers", run: headers::headers },
    Target { name: "build", run: events::build_events },
    Target { name: "pdus", run: events::stored_events },
    Target { name: "auth", run: events::authorisation },
    Target { name: "canonical_json", run: json::canonical },
    Target { name: "signatures", run: json::signatures },
    Target { name: "filters", run: filters::filters },
    Target { name: "globs", run: filters::globs },
    Target { name: "ids", run: ids::ids },
    Target { name: "tokens", run: tokens::texts },
    Target { name: "sealed_tokens", run: tokens::sealed },
    Target { name: "snapshots", run: tokens::snapshots },
    Target { name: "rows", run: records::rows },
    Target { name: "nodes", run: records::nodes },
    Target { name: "accounts", run: records::accounts },
    Target { name: "store_rows", run: store::rows },
    Target { name: "store_keys", run: records::keys },
    Target { name: "store_records", run: records::records },
    Target { name: "cql_rows", run: records::cql },
    Target { name: "store_files", run: records::files },
    Target { name: "news", run: news::news },
];

/// The text in some bytes, whatever they are.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
