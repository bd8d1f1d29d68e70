//! The event stream format: server-sent events (WHATWG HTML, section 9.2, "Server-sent events").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::message::DEFAULT_EVENT;
use crate::{Kind, Outgoing};

/// What an event stream's answer says of its content.
pub(crate) const CONTENT_TYPE: &str = "text/event-stream";

/// The first thing in a stream: how long a client that lost its connection waits before it comes again, in milliseconds.
pub(crate) const PREAMBLE: &[u8] = b"retry: 1000\n\n";

/// A comment, which clients skip: it keeps intermediaries from closing a silent connection, and finds out that the peer is gone.
pub(crate) const HEARTBEAT: &[u8] = b": still here\n\n";

/// An event. Its data are lines, whatever ends them; binary data are base64, which an event stream has no other way to carry.
pub(crate) fn encode(message: &Outgoing) -> Bytes {
    let mut out = Vec::with_capacity(message.data().len() + 64);
    field(&mut out, "id", itoa::Buffer::new().format(message.id()));
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

/// Says that `missed` events after the last that the client had are no longer held; it goes on behind `id`.
pub(crate) fn encode_gap(id: u64, missed: u64) -> Vec<u8> {
    format!("id: {id}\nevent: gap\ndata: {{\"missed\":{missed}}}\n\n").into_bytes()
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
    fn a_space_at_the_start_survives_and_binary_is_base64() {
        assert_eq!(event(None, Kind::Text, b" a: b"), "id: 7\ndata:  a: b\n\n");
        assert_eq!(event(None, Kind::Binary, &[0xff, 0x00]), "id: 7\ndata: /wA=\n\n");
    }
}
