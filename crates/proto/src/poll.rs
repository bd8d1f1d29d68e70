//! What answers a poll, short or long: a topic's newest event, and the events after the one that the client had last, as JSON. A WebSocket with
//! `format=json` gets the same in pieces: first what there is to know, then each event.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::{Epoch, Kind, Outgoing, Since};

/// The answer with what was found on a topic.
pub(crate) fn encode(topic: &str, found: &Since) -> Bytes {
    let mut out = head(topic, found.newest, found.epoch);
    trouble(&mut out, found);
    events(&mut out, found.events.iter().map(|event| &**event));
    out.into()
}

/// The answer to whoever has waited for this event.
pub(crate) fn encode_one(event: &Outgoing) -> Bytes {
    let cursor = event.cursor();
    let mut out = head(event.topic(), cursor.id, cursor.epoch);
    events(&mut out, [event]);
    out.into()
}

/// The same without the events, for whoever gets each by itself.
pub(crate) fn encode_hello(topic: &str, found: &Since) -> Vec<u8> {
    let mut out = head(topic, found.newest, found.epoch);
    trouble(&mut out, found);
    out.push(b'}');
    out
}

/// One event.
pub(crate) fn encode_event(event: &Outgoing) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + event.data().len());
    push_event(&mut out, event);
    out
}

/// What is said of the topic itself. The object is still open.
fn head(topic: &str, newest: u64, epoch: Option<Epoch>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"topic\":");
    string(&mut out, topic);
    member(&mut out, "newest", newest);
    if let Some(epoch) = epoch {
        out.extend_from_slice(format!(",\"epoch\":\"{epoch}\"").as_bytes());
    }
    out
}

/// What a client has to know that is not where it thought. It stands there only if there is any.
fn trouble(out: &mut Vec<u8>, found: &Since) {
    if found.missed > 0 {
        member(out, "missed", found.missed);
    }
    if found.restarted {
        out.extend_from_slice(b",\"restarted\":true");
    }
}

fn events<'a>(out: &mut Vec<u8>, events: impl IntoIterator<Item = &'a Outgoing>) {
    out.extend_from_slice(b",\"events\":[");
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_event(out, event);
    }
    out.extend_from_slice(b"]}");
}

fn push_event(out: &mut Vec<u8>, event: &Outgoing) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(itoa::Buffer::new().format(event.id()).as_bytes());
    out.extend_from_slice(b",\"event\":");
    string(out, event.event());
    match (event.kind(), str::from_utf8(event.data())) {
        (Kind::Text, Ok(text)) => {
            out.extend_from_slice(b",\"data\":");
            string(out, text);
        }
        _ => {
            out.extend_from_slice(b",\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(event.data()).as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'}');
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
    use serde_json::{Value, json};

    use super::*;

    fn value(json: impl AsRef<[u8]>) -> Value {
        serde_json::from_slice(json.as_ref()).unwrap()
    }

    fn text() -> Outgoing {
        Outgoing::new("t".into(), 7, None, Kind::Text, Bytes::from_static("\"\n\u{1}é".as_bytes()))
    }

    #[test]
    fn the_answer_is_json_whatever_was_published() {
        let binary = Outgoing::new("t".into(), 8, Some("x\"y"), Kind::Binary, Bytes::from_static(&[0xff]));
        let events = [
            json!({"id": 7, "event": "message", "data": "\"\n\u{1}é"}),
            json!({"id": 8, "event": "x\"y", "base64": "/w=="}),
        ];
        assert_eq!([value(encode_event(&text())), value(encode_event(&binary))], events);
        let found =
            Since { newest: 8, missed: 3, events: vec![text().into(), binary.into()], ..Since::default() };
        let expected = json!({"topic": "t\\", "newest": 8, "missed": 3, "events": events});
        assert_eq!(value(encode("t\\", &found)), expected);
        assert_eq!(encode("t", &Since::default()), "{\"topic\":\"t\",\"newest\":0,\"events\":[]}");
    }

    #[test]
    fn the_run_of_the_server_is_told_and_whether_it_was_started_again() {
        let epoch = "19ac0f3b2d1".parse().ok();
        let found = Since { newest: 7, epoch, restarted: true, missed: 6, ..Since::default() };
        let head = "{\"topic\":\"t\",\"newest\":7,\"epoch\":\"19ac0f3b2d1\",\"missed\":6,\"restarted\":true";
        assert_eq!(encode("t", &found), format!("{head},\"events\":[]}}"));
        assert_eq!(encode_hello("t", &found), format!("{head}}}").as_bytes());
        let event = value(encode_event(&text()));
        let one = json!({"topic": "t", "newest": 7, "epoch": "19ac0f3b2d1", "events": [event]});
        assert_eq!(value(encode_one(&text().with_epoch(epoch))), one);
    }
}
