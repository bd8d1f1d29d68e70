//! The event stream format: server-sent events (WHATWG HTML, section 9.2, "Server-sent events").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::message::DEFAULT_EVENT;
use crate::{Cursor, Kind, Outgoing};

/// What an event stream's answer says of its content.
pub(crate) const CONTENT_TYPE: &str = "text/event-stream";

/// The first thing in a stream: how long a client that lost its connection waits before it comes again, in milliseconds.
pub(crate) const PREAMBLE: &[u8] = b"retry: 1000\n\n";

/// A comment, which clients skip: it keeps intermediaries from closing a silent connection, and finds out that the peer is gone.
pub(crate) const HEARTBEAT: &[u8] = b": still here\n\n";

/// An event. Its data are lines, whatever ends them; binary data are base64, which an event stream has no other way to carry.
pub(crate) fn encode(message: &Outgoing) -> Bytes {
    let mut out = Vec::with_capacity(message.data().len() + 64);
    field(&mut out, "id", &message.cursor().to_string());
    if message.event() != DEFAULT_EVENT {
        field(&mut out, "event", message.event());
    }
    match (message.kind(), str::from_utf8(message.data())) {
        (Kind::Text, Ok(text)) => lines(&mut out, text),
        _ => field(&mut out, "data", &STANDARD.encode(message.data())),
    }
    out.push(b'\n');
    out.into()
}

/// Says that `missed` events after the last that the client had are no longer held, or that its last was of another run of the server; it goes on behind
/// `last`.
pub(crate) fn encode_gap(last: Cursor, missed: u64, restarted: bool) -> Vec<u8> {
    let restarted = if restarted { ",\"restarted\":true" } else { "" };
    format!("id: {last}\nevent: gap\ndata: {{\"missed\":{missed}{restarted}}}\n\n").into_bytes()
}

/// Says where the client is, which is told of no event: else one that has had none would have nothing to name when it comes again.
pub(crate) fn encode_place(last: Cursor) -> Vec<u8> {
    format!("id: {last}\n\n").into_bytes()
}

/// A line of data for each line of the text: CR LF, LF and CR all end one.
fn lines(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest.as_bytes());
        field(out, "data", &rest[..end.unwrap_or(rest.len())]);
        let Some(end) = end else { return };
        let skipped = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + skipped..];
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: Option<&str>, kind: Kind, data: &'static [u8]) -> String {
        let message = Outgoing::new("t".into(), 7, event, kind, Bytes::from_static(data));
        String::from_utf8(encode(&message).to_vec()).unwrap()
    }

    #[test]
    fn every_kind_of_line_end_makes_a_line_of_data() {
        assert_eq!(event(None, Kind::Text, b"a"), "id: 7\ndata: a\n\n");
        assert_eq!(
            event(Some("news"), Kind::Text, b"a\nb\r\nc\rd\n"),
            "id: 7\nevent: news\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
        );
        assert_eq!(event(None, Kind::Text, b""), "id: 7\ndata: \n\n");
    }

    #[test]
    fn an_id_names_the_run_of_the_server() {
        let epoch = "19ac0f3b2d1".parse().ok();
        let message =
            Outgoing::new("t".into(), 7, None, Kind::Text, Bytes::from_static(b"a")).with_epoch(epoch);
        assert_eq!(encode(&message), "id: 7-19ac0f3b2d1\ndata: a\n\n");
        let last = Cursor { id: 2, epoch };
        assert_eq!(encode_gap(last, 2, false), b"id: 2-19ac0f3b2d1\nevent: gap\ndata: {\"missed\":2}\n\n");
        let gap = b"id: 0\nevent: gap\ndata: {\"missed\":0,\"restarted\":true}\n\n";
        assert_eq!(encode_gap(0.into(), 0, true), gap);
        assert_eq!(encode_place(last), b"id: 2-19ac0f3b2d1\n\n");
    }

    #[test]
    fn a_space_at_the_start_survives_and_binary_is_base64() {
        assert_eq!(event(None, Kind::Text, b" a: b"), "id: 7\ndata:  a: b\n\n");
        assert_eq!(event(None, Kind::Binary, &[0xff, 0x00]), "id: 7\ndata: /wA=\n\n");
    }
}
