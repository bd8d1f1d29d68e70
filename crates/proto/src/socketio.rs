//! What a client says over a WebSocket to be understood by a Socket.IO server: Engine.IO v4 (<https://socket.io/docs/v4/engine-io-protocol/>)
//! and Socket.IO v5 (<https://socket.io/docs/v4/socket-io-protocol/>), as far as binary events, and text in a room, need it.
//!
//! A packet is a text frame that begins with its type. A binary event is a text frame that announces its attachments, and a binary frame for each.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Dialect, Kind};

/// The announcement of an event `message` with one attachment: Engine.IO message (4), binary event (5), one attachment (1-).
pub(crate) const ANNOUNCEMENT: &str = r#"451-["message",{"_placeholder":true,"num":0}]"#;

/// What asks a server over a new WebSocket whether it can take the place of polling.
pub(crate) const PROBE: &str = "2probe";

/// What makes it do so, and the packet that asks for the namespace `/` behind it.
pub(crate) const UPGRADE: [&str; 2] = ["5", CONNECT];

/// What answers a ping.
pub(crate) const PONG: &str = "3";

const CONNECT: &str = "40";

/// What an event is called that carries a message.
const EVENT: &str = "message";

/// What of a packet is shown to those who expected another.
const SHOWN_BYTES: usize = 120;

/// Where a client is in the handshakes that follow the upgrade, and what it wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SocketIo {
    stage: Stage,
    /// The packet that asks for a room.
    join: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A session that was opened by polling is to go on over this WebSocket, and the server has been asked.
    Probing,
    /// The server has not said which connection of Engine.IO this is.
    Opening,
    /// It has been asked for the namespace `/`.
    Connecting,
    /// It has been asked for a room.
    Joining,
    /// Events flow.
    Connected,
}

/// What follows from a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This is to be sent.
    Answer(Cow<'static, str>),
    /// The server wants to know whether somebody is there: [`PONG`] is to be sent.
    Ping,
    /// The WebSocket may take the place of polling: [`UPGRADE`] is to be sent.
    Probed,
    /// Events may be sent now, or come.
    Connected,
    /// It is the attachment of an event.
    Attachment,
    /// It is an event with a text, which stands here in the frame.
    Text(Range<usize>),
    /// The same, where the text is written in another way than it reads.
    Escaped(String),
    /// It is an event that is no message: of another name, or with other arguments.
    Other,
    /// Nothing that a client has to know of.
    Nothing,
    /// The server does not let us in.
    Refused,
    /// The server ends it.
    End,
}

impl SocketIo {
    /// `None`: messages are not Socket.IO's.
    pub(crate) fn new(dialect: &Dialect) -> Option<SocketIo> {
        let join = match dialect {
            Dialect::Plain => return None,
            Dialect::SocketIo => None,
            Dialect::SocketIoRoom(room) => {
                let room = serde_json::to_string(room).expect("a string is JSON");
                Some(format!(r#"420["join",{room}]"#).into())
            }
        };
        Some(SocketIo { stage: Stage::Opening, join })
    }

    /// The session was opened elsewhere, and goes on here if the server agrees.
    pub(crate) fn expect_probe(&mut self) {
        self.stage = Stage::Probing;
    }

    pub(crate) fn is_probing(&self) -> bool {
        self.stage == Stage::Probing
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.stage == Stage::Opening
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// Takes a frame. `None`: this is not Socket.IO.
    pub(crate) fn receive(&mut self, kind: Kind, frame: &[u8]) -> Option<Heard> {
        if kind == Kind::Binary {
            return match self.stage {
                Stage::Connected => Some(Heard::Attachment),
                // Of an event that came before the answer.
                Stage::Joining => Some(Heard::Nothing),
                _ => None,
            };
        }
        match (self.stage, frame) {
            (Stage::Probing, b"3probe") => {
                self.stage = Stage::Connecting;
                Some(Heard::Probed)
            }
            (Stage::Opening, [b'0', ..]) => {
                self.stage = Stage::Connecting;
                Some(Heard::Answer(CONNECT.into()))
            }
            (Stage::Connecting, [b'4', b'0', ..]) => {
                let join = self.join.as_deref().map(str::to_owned);
                self.stage = if join.is_some() { Stage::Joining } else { Stage::Connected };
                Some(join.map_or(Heard::Connected, |join| Heard::Answer(join.into())))
            }
            (Stage::Connecting, [b'4', b'4', ..]) => Some(Heard::Refused),
            (Stage::Joining, [b'4', b'3', b'0', acknowledgement @ ..]) => {
                // Ours has no arguments if all is well, or an object that says what is not.
                if memchr::memmem::find(acknowledgement, br#""error""#).is_some() {
                    return Some(Heard::Refused);
                }
                self.stage = Stage::Connected;
                Some(Heard::Connected)
            }
            // Refused (44), disconnected (41) or closed (1).
            (_, [b'4', b'4' | b'1', ..] | [b'1']) => Some(Heard::End),
            (_, [b'2', ..]) => Some(Heard::Ping),
            (Stage::Connected, [b'4', b'2', event @ ..]) if self.join.is_some() => {
                let behind_id = event.iter().position(|byte| !byte.is_ascii_digit())?;
                text(&event[behind_id..], 2 + behind_id)
            }
            (Stage::Connected, [b'4', b'2', ..]) => Some(Heard::Other),
            (_, [b'6']) => Some(Heard::Nothing),
            (Stage::Joining | Stage::Connected, [b'4', ..]) => Some(Heard::Nothing),
            _ => None,
        }
    }
}

/// What to call a packet that nobody expected.
pub(crate) fn shown(packet: &[u8]) -> String {
    String::from_utf8_lossy(&packet[..packet.len().min(SHOWN_BYTES)]).into_owned()
}

/// The text of an event, which begins `start` bytes behind the start of its frame. `None`: it is no event.
fn text(event: &[u8], start: usize) -> Option<Heard> {
    // One of another namespace.
    if event.starts_with(b"/") {
        return Some(Heard::Other);
    }
    let json = std::str::from_utf8(event).ok()?;
    let Event(Some(text)) = serde_json::from_str(json).ok()? else { return Some(Heard::Other) };
    let text = text.get();
    if text.contains('\\') {
        return serde_json::from_str(text).ok().map(Heard::Escaped);
    }
    let from = start + text.as_ptr() as usize - json.as_ptr() as usize;
    // Without the quotes.
    Some(Heard::Text(from + 1..from + text.len() - 1))
}

/// The text of an event `message`, as JSON; `None` of any other, and of one that begins with something else.
struct Event<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for Event<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Event<'de>, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Event<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an event and its arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Event<'de>, A::Error> {
                let name: Option<&RawValue> = elements.next_element()?;
                let is_ours = name.is_some_and(|name| name.get().trim_matches('"') == EVENT);
                let first: Option<&RawValue> = elements.next_element()?;
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Event(first.filter(|first| is_ours && first.get().starts_with('"'))))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(dialect: &Dialect, stage: Stage) -> SocketIo {
        SocketIo { stage, ..SocketIo::new(dialect).unwrap() }
    }

    fn hear(socket: &mut SocketIo, frame: &str) -> Option<Heard> {
        socket.receive(Kind::Text, frame.as_bytes())
    }

    fn answer(text: &'static str) -> Option<Heard> {
        Some(Heard::Answer(text.into()))
    }

    #[test]
    fn two_handshakes_come_before_the_first_event() {
        let mut socket = SocketIo::new(&Dialect::SocketIo).unwrap();
        assert_eq!(socket.receive(Kind::Binary, b"early"), None);
        assert_eq!(hear(&mut socket, r#"0{"sid":"a","pingInterval":25000}"#), answer("40"));
        assert_eq!(hear(&mut socket, "2"), Some(Heard::Ping), "a ping is answered at any time");
        assert_eq!(hear(&mut socket, r#"40{"sid":"b"}"#), Some(Heard::Connected));
        assert_eq!(hear(&mut socket, ANNOUNCEMENT), Some(Heard::Nothing));
        assert_eq!(hear(&mut socket, r#"42["message","hello"]"#), Some(Heard::Other));
        assert_eq!(socket.receive(Kind::Binary, b"payload"), Some(Heard::Attachment));
        assert_eq!(hear(&mut socket, "41"), Some(Heard::End));
        assert_eq!(hear(&mut socket, "hello"), None);
    }

    #[test]
    fn who_is_not_let_in_is_told() {
        let mut connecting = socket(&Dialect::SocketIo, Stage::Connecting);
        assert_eq!(hear(&mut connecting, r#"44{"message":"not authorized"}"#), Some(Heard::Refused));
        assert_eq!(hear(&mut socket(&Dialect::SocketIo, Stage::Opening), "plain text"), None);
        let room = Dialect::SocketIoRoom("r".into());
        let refused = r#"430[{"error":"the name of a room has 256 bytes at the most"}]"#;
        assert_eq!(hear(&mut socket(&room, Stage::Joining), refused), Some(Heard::Refused));
    }

    #[test]
    fn in_a_room_texts_are_heard_and_nothing_else() {
        let mut socket = SocketIo::new(&Dialect::SocketIoRoom("a \"room\"".into())).unwrap();
        assert_eq!(hear(&mut socket, r#"0{"sid":"a"}"#), answer("40"));
        assert_eq!(hear(&mut socket, r#"40{"sid":"b"}"#), answer(r#"420["join","a \"room\""]"#));
        assert_eq!(hear(&mut socket, r#"42["auth",{}]"#), Some(Heard::Nothing));
        assert_eq!(socket.receive(Kind::Binary, b"early"), Some(Heard::Nothing));
        assert_eq!(hear(&mut socket, "430[]"), Some(Heard::Connected));
        for (frame, text) in [
            (r#"42["message","hello",{"topic":"a","id":7}]"#, "hello"),
            (r#"4217[ "message" , "hello" ]"#, "hello"),
            (r#"42["message",""]"#, ""),
        ] {
            let Some(Heard::Text(range)) = hear(&mut socket, frame) else { panic!("{frame}") };
            assert_eq!(&frame[range], text);
        }
        let escaped = hear(&mut socket, r#"42["message","a\"b\u00e9"]"#);
        assert_eq!(escaped, Some(Heard::Escaped("a\"bé".into())));
        for frame in
            [r#"42["auth",{}]"#, r#"42["message",{}]"#, r#"42["message"]"#, r#"42/x,["message","a"]"#]
        {
            assert_eq!(hear(&mut socket, frame), Some(Heard::Other), "{frame}");
        }
        for frame in ["42", "427", r#"42["message","a""#, r#"42["message","a"] "#] {
            let is_json = frame.ends_with(' ');
            assert_eq!(hear(&mut socket, frame).is_some(), is_json, "{frame}");
        }
    }

    #[test]
    fn a_session_that_was_opened_by_polling_goes_on_when_the_server_agrees() {
        let mut upgraded = SocketIo::new(&Dialect::SocketIo).unwrap();
        upgraded.expect_probe();
        assert_eq!(hear(&mut upgraded, "3probe"), Some(Heard::Probed));
        assert_eq!(hear(&mut upgraded, r#"40{"sid":"b"}"#), Some(Heard::Connected));
        let mut refused = socket(&Dialect::SocketIo, Stage::Probing);
        assert_eq!(hear(&mut refused, r#"0{"sid":"a"}"#), None, "another session is not this one");
    }
}
