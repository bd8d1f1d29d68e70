//! A WebSocket that says which event each is (`format=json`), so that who loses it can go on where it was. First comes where the topic stands,
//! `{"topic":"T","newest":7,"epoch":"19ac0f3b2d1"}`, and then a frame for each event: `{"id":8,"event":"message","data":"…"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use switchboard_proto::Cursor;

use super::{Heard, updates};

/// What has been heard on one connection.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The last event; `None` before the first frame.
    cursor: Option<Cursor>,
    decoded: Vec<u8>,
}

/// Which of the two a frame is.
#[derive(Deserialize)]
struct Kind {
    id: Option<u64>,
}

impl Feed {
    /// Takes a frame.
    pub(crate) fn receive(&mut self, frame: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        let is_event = serde_json::from_slice::<Kind>(frame).is_ok_and(|kind| kind.id.is_some());
        let read = match self.cursor {
            Some(cursor) if is_event => updates::read_event(frame, |event| {
                self.cursor = Some(Cursor { id: event.id, ..cursor });
                match event.data() {
                    updates::Data::Text(text) => hear(Heard::Message(text.as_bytes())),
                    updates::Data::Base64(text) => {
                        self.decoded.clear();
                        // What cannot be decoded is no message that anybody sent.
                        let _ = STANDARD.decode_vec(text, &mut self.decoded);
                        hear(Heard::Message(&self.decoded));
                    }
                    updates::Data::None => hear(Heard::Message(b"")),
                }
            }),
            _ => updates::read(frame, "", |_| ()).map(|cursor| self.cursor = Some(cursor)),
        };
        if let Err(reason) = read {
            hear(Heard::Failed(format!("a frame is no JSON of a topic: {reason}")));
        }
    }

    /// Where it would go on.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(feed: &mut Feed, frame: &str) -> Vec<String> {
        let mut heard = Vec::new();
        feed.receive(frame.as_bytes(), &mut |what| {
            heard.push(match what {
                Heard::Message(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Heard::Failed(reason) => format!("failed: {reason}"),
                _ => "else".to_owned(),
            });
        });
        heard
    }

    #[test]
    fn the_cursor_follows_the_events() {
        let mut feed = Feed::default();
        let cursor = |feed: &Feed| feed.cursor().map(|cursor| cursor.to_string());
        assert!(hear(&mut feed, r#"{"topic":"t","newest":7,"epoch":"19ac","restarted":true}"#).is_empty());
        assert_eq!(cursor(&feed).as_deref(), Some("7-19ac"));
        assert_eq!(hear(&mut feed, r#"{"id":8,"event":"message","data":"a\"b"}"#), ["a\"b"]);
        assert_eq!(hear(&mut feed, r#"{"id":9,"event":"message","base64":"aGk="}"#), ["hi"]);
        assert_eq!(cursor(&feed).as_deref(), Some("9-19ac"));
        for (mut feed, frame) in [(Feed::default(), r#"{"id":8,"data":"x"}"#), (feed, "hello")] {
            let heard = hear(&mut feed, frame);
            assert!(heard.len() == 1 && heard[0].starts_with("failed: a frame is no JSON"), "{heard:?}");
        }
    }
}
