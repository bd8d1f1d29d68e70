//! HTTP/1.1 as a server speaks it: bytes in, requests out; answers in, bytes out (RFC 9110, RFC 9112).
//!
//! `httparse` reads heads, rust-url's crates take queries and percent-encoding apart; what it all means is
//! decided here. In reading order:
//!
//! - [`Reader`]: the requests of one connection, however the network cuts them.
//! - [`Request`]: what one of them asks for; `fields` and `target` are where that stands in a head.
//! - `body` and `chunked`: the two ways in which a body says where it ends.
//! - [`Handshake`]: how a request becomes a WebSocket.
//! - [`Answer`] and [`ReplyTo`]: what is said, and how this client wants it said.
//! - [`etag`]: whether the client has it already.

mod answer;
mod body;
mod chunked;
pub mod etag;
mod fields;
mod handshake;
mod query;
mod reader;
mod request;
mod target;

pub(crate) use answer::field;
pub use answer::{Answer, ReplyTo};
pub use handshake::Handshake;
pub use query::Query;
pub use reader::{Next, Reader, Rules};
pub use request::{Method, Preflight, Request, Upgrade};

/// Longest request head; a longer one is answered with 431.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// Header lines in one head; more are answered with 431.
pub const MAX_HEADERS: usize = 100;

/// Parameters in one query; more are answered with 400.
pub const MAX_PARAMETERS: usize = 100;

/// The header of a 503 that names, in one word for programs, the limit that was hit.
pub const REFUSED_HEADER: &str = "Switchboard-Refused";

/// The whole answer to a connection that a limit forbids: `limit` is one word for programs, `sentence`
/// names the limit and the way out for people.
pub fn refusal(limit: &'static str, sentence: &str) -> Vec<u8> {
    let mut out = Vec::new();
    refused(limit, sentence).encode(&ReplyTo::default(), &mut out);
    out
}

/// The same for somebody whose request is known.
pub(crate) fn refused(limit: &'static str, sentence: &str) -> Answer {
    let answer = Answer::new(503, format!("{sentence}\n"));
    answer.with(REFUSED_HEADER, limit).with("Retry-After", "1")
}
