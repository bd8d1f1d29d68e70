//! What answers a poll, short or long: a topic's newest event, and the events after the one that the client had last, as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::{Kind, Outgoing};

/// The answer with these events. `missed`: so many more are no longer held; it stands there only if there are any.
pub(crate) fn encode<'a>(
    topic: &str,
    newest: u64,
    missed: u64,
    events: impl IntoIterator<Item = &'a Outgoing>,
) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"topic\":");
    string(&mut out, topic);
    member(&mut out, "newest", newest);
    if missed > 0 {
        member(&mut out, "missed", missed);
    }
    out.extend_from_slice(b",\"events\":[");
    for (index, event) in events.into_iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"id\":" } else { b",{\"id\":" });
        out.extend_from_slice(itoa::Buffer::new().format(event.id()).as_bytes());
        out.extend_from_slice(b",\"event\":");
        string(&mut out, event.event());
        match (event.kind(), str::from_utf8(event.data())) {
            (Kind::Text, Ok(text)) => {
                out.extend_from_slice(b",\"data\":");
                string(&mut out, text);
            }
            _ => {
                out.extend_from_slice(b",\"base64\":\"");
                out.extend_from_slice(STANDARD.encode(event.data()).as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out.into()
}

fn member(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string can always be written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_json_whatever_was_published() {
        let text =
            Outgoing::new("t".into(), 7, None, Kind::Text, Bytes::from_static("\"\n\u{1}é".as_bytes()));
        let binary = Outgoing::new("t".into(), 8, Some("x\"y"), Kind::Binary, Bytes::from_static(&[0xff]));
        let answer = encode("t\\", 8, 3, [&text, &binary]);
        let value: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let expected = serde_json::json!({"topic": "t\\", "newest": 8, "missed": 3, "events": [
            {"id": 7, "event": "message", "data": "\"\n\u{1}é"},
            {"id": 8, "event": "x\"y", "base64": "/w=="},
        ]});
        assert_eq!(value, expected);
        assert_eq!(encode("t", 0, 0, []), "{\"topic\":\"t\",\"newest\":0,\"events\":[]}");
    }
}
