//! Packets (protocol section "Packet encoding"), as the text after Engine.IO's `4`. Attachments are messages of their own.

use bytes::Bytes;

use super::Namespace;

/// Attachments that an event may have: as many as the reference implementation takes, on both sides. A client that is passed on more would disconnect.
const MAX_ATTACHMENTS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) packet_type: Type,
    /// How many binary messages follow that belong to it; only with an event or an acknowledgement.
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    /// What follows, which should be JSON. Empty: nothing.
    pub(super) payload: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads all but the payload. `None`: this is no packet.
    pub(super) fn parse(text: &'a str) -> Option<Packet<'a>> {
        let (packet_type, is_binary) = match text.as_bytes().first()? {
            b'0' => (Type::Connect, false),
            b'1' => (Type::Disconnect, false),
            b'2' => (Type::Event, false),
            b'3' => (Type::Ack, false),
            b'4' => (Type::ConnectError, false),
            b'5' => (Type::Event, true),
            b'6' => (Type::Ack, true),
            _ => return None,
        };
        let mut rest = &text[1..];
        let mut attachments = 0;
        if is_binary {
            let (digits, behind) = split_digits(rest);
            attachments = digits.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count))?;
            rest = behind.strip_prefix('-')?;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let (digits, payload) = split_digits(rest);
        let id = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        Some(Packet { packet_type, attachments, namespace, id, payload })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Writes a packet, with Engine.IO's `4` before it: `pieces` are what stands between the brackets, or all of the payload.
pub(super) fn encode<const N: usize>(
    packet_type: Type,
    namespace: Namespace,
    attachments: usize,
    id: Option<u64>,
    pieces: [&str; N],
) -> Bytes {
    let is_binary = attachments > 0;
    let (mut count, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
    let count = if is_binary { count.format(attachments) } else { "" };
    let id = id.map_or("", |id| number.format(id));
    let payload_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    // Not a byte more than it takes: `Bytes` of a buffer that is full needs nothing else.
    let length =
        2 + count.len() + usize::from(is_binary) + namespace.prefix().len() + id.len() + payload_bytes;
    let mut text = String::with_capacity(length);
    text.push_str(match packet_type {
        Type::Connect => "40",
        Type::Disconnect => "41",
        Type::Event if is_binary => "45",
        Type::Event => "42",
        Type::Ack if is_binary => "46",
        Type::Ack => "43",
        Type::ConnectError => "44",
    });
    if is_binary {
        text.push_str(count);
        text.push('-');
    }
    text.push_str(namespace.prefix());
    text.push_str(id);
    pieces.iter().for_each(|piece| text.push_str(piece));
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_protocol_are_read() {
        let packet = |packet_type, attachments, namespace, id, payload| {
            Some(Packet { packet_type, attachments, namespace, id, payload })
        };
        assert_eq!(Packet::parse("0"), packet(Type::Connect, 0, "/", None, ""));
        assert_eq!(Packet::parse("0/admin,{}"), packet(Type::Connect, 0, "/admin", None, "{}"));
        assert_eq!(Packet::parse("1/admin,"), packet(Type::Disconnect, 0, "/admin", None, ""));
        assert_eq!(Packet::parse("1/admin"), packet(Type::Disconnect, 0, "/admin", None, ""));
        assert_eq!(Packet::parse(r#"212["foo"]"#), packet(Type::Event, 0, "/", Some(12), r#"["foo"]"#));
        assert_eq!(Packet::parse(r#"52-/a,7["b"]"#), packet(Type::Event, 2, "/a", Some(7), r#"["b"]"#));
        assert_eq!(Packet::parse("61-15[1]"), packet(Type::Ack, 1, "/", Some(15), "[1]"));
    }

    #[test]
    fn what_is_no_packet_is_none() {
        for text in
            ["", "7", "abc", "é", "5[]", "5-[]", "50-[]", "5999-[]", "51[]", "299999999999999999999999[]"]
        {
            assert_eq!(Packet::parse(text), None, "{text}");
        }
    }
}
