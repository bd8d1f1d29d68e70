//! What a client says over a WebSocket to be understood by a Socket.IO server: Engine.IO v4 (<https://socket.io/docs/v4/engine-io-protocol/>)
//! and Socket.IO v5 (<https://socket.io/docs/v4/socket-io-protocol/>), as far as binary events need it.
//!
//! A packet is a text frame that begins with its type. A binary event is a text frame that announces its attachments, and a binary frame for each.

use crate::Kind;

/// The announcement of an event `message` with one attachment: Engine.IO message (4), binary event (5), one attachment (1-).
pub(crate) const ANNOUNCEMENT: &str = r#"451-["message",{"_placeholder":true,"num":0}]"#;

/// Where a client is in the two handshakes that follow the upgrade.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketIo {
    /// The server has not said which connection of Engine.IO this is.
    #[default]
    Opening,
    /// It has been asked for the namespace `/`.
    Connecting,
    /// Events flow.
    Connected,
}

/// What follows from a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This is to be sent.
    Answer(&'static str),
    /// Events may be sent now.
    Connected,
    /// It is the attachment of an event.
    Attachment,
    /// Nothing that a client has to know of.
    Nothing,
    /// The server ends it, or does not let us in.
    End,
}

impl SocketIo {
    /// Takes a frame. `None`: this is not Socket.IO.
    pub(crate) fn receive(&mut self, kind: Kind, frame: &[u8]) -> Option<Heard> {
        if kind == Kind::Binary {
            return (*self == SocketIo::Connected).then_some(Heard::Attachment);
        }
        match (*self, frame) {
            (SocketIo::Opening, [b'0', ..]) => {
                *self = SocketIo::Connecting;
                Some(Heard::Answer("40"))
            }
            (SocketIo::Connecting, [b'4', b'0', ..]) => {
                *self = SocketIo::Connected;
                Some(Heard::Connected)
            }
            // Refused (44), disconnected (41) or closed (1).
            (_, [b'4', b'4' | b'1', ..] | [b'1']) => Some(Heard::End),
            (_, [b'2', ..]) => Some(Heard::Answer("3")),
            (SocketIo::Connected, [b'6'] | [b'4', ..]) => Some(Heard::Nothing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_handshakes_come_before_the_first_event() {
        let mut socket = SocketIo::default();
        let text = |socket: &mut SocketIo, frame: &str| socket.receive(Kind::Text, frame.as_bytes());
        assert_eq!(socket.receive(Kind::Binary, b"early"), None);
        assert_eq!(text(&mut socket, r#"0{"sid":"a","pingInterval":25000}"#), Some(Heard::Answer("40")));
        assert_eq!(text(&mut socket, "2"), Some(Heard::Answer("3")), "a ping is answered at any time");
        assert_eq!(text(&mut socket, r#"40{"sid":"b"}"#), Some(Heard::Connected));
        assert_eq!(text(&mut socket, ANNOUNCEMENT), Some(Heard::Nothing));
        assert_eq!(socket.receive(Kind::Binary, b"payload"), Some(Heard::Attachment));
        assert_eq!(text(&mut socket, "41"), Some(Heard::End));
        assert_eq!(text(&mut socket, "hello"), None);
    }

    #[test]
    fn who_is_not_let_in_is_told() {
        let mut socket = SocketIo::Connecting;
        assert_eq!(socket.receive(Kind::Text, br#"44{"message":"not authorized"}"#), Some(Heard::End));
        assert_eq!(SocketIo::default().receive(Kind::Text, b"plain text"), None);
    }
}
