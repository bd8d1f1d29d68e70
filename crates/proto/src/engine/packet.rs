//! Packets and payloads (protocol section "Packet encoding").

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use base64::{Engine as _, alphabet};
use bytes::Bytes;

use crate::{BLOCK_BYTES, Kind};

/// Stands between the packets of a payload.
pub(super) const SEPARATOR: u8 = 0x1e;

pub(crate) const CLOSE: Bytes = Bytes::from_static(b"1");
pub(crate) const PING: Bytes = Bytes::from_static(b"2");
pub(super) const PROBE: &[u8] = b"2probe";
pub(super) const PROBE_ANSWER: Bytes = Bytes::from_static(b"3probe");
pub(super) const UPGRADE: &[u8] = b"5";
pub(super) const NOOP: Bytes = Bytes::from_static(b"6");

/// Not a packet, but the answer to a POST.
pub(super) const OK: Bytes = Bytes::from_static(b"ok");

/// A packet as it comes from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// `4`: a text, with the packet's type still before it: so an echo need not put it back.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// `3`
    Pong,
    /// `1`
    Close,
    /// `0`, `5`, `6`: they say nothing here, and do no harm.
    Ignored,
}

/// Reads a packet. `None`: it is none, or one that only servers send.
pub(super) fn decode(kind: Kind, packet: Bytes) -> Option<Incoming> {
    if kind == Kind::Binary {
        return Some(Incoming::Binary(packet));
    }
    match packet.first()? {
        b'4' => Some(Incoming::Text(packet)),
        // On a WebSocket as well: this is what a client sends that was told to do without binary frames.
        b'b' => decode_base64(&packet[1..]).map(|bytes| Incoming::Binary(bytes.into())),
        b'3' => Some(Incoming::Pong),
        b'1' => Some(Incoming::Close),
        b'0' | b'5' | b'6' => Some(Incoming::Ignored),
        _ => None,
    }
}

/// Without padding, which is cut off before, and whatever the last character holds beside the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The bytes that a client has written as base64, in any form that one writes and the reference server's `Buffer.from` takes: in lines (Java), with the
/// alphabet of URLs, without padding, with bits left over. What is no base64 in any form is not guessed at.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    if let Ok(bytes) = BASE64_STANDARD.decode(text) {
        return Some(bytes);
    }
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let mut digits: Vec<u8> = text.iter().filter(|byte| !byte.is_ascii_whitespace()).map(standard).collect();
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    digits.truncate(digits.len() - padding);
    LENIENT.decode(digits).ok()
}

/// A packet on its way to a client, as a WebSocket message would hold it.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

impl Outgoing {
    pub(super) fn text(data: Bytes) -> Outgoing {
        Outgoing { kind: Kind::Text, data }
    }

    /// Bytes that it takes while it waits: itself and its place.
    pub(super) fn cost_bytes(&self) -> usize {
        self.data.len() + size_of::<Outgoing>()
    }
}

impl Outgoing {
    /// The part of that which nobody else is charged: what is long is shared with others, and charged by itself.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Outgoing>() + if self.data.len() <= BLOCK_BYTES { self.data.len() } else { 0 }
    }
}

/// Writes packets as the body of an answer.
pub(super) fn encode_payload(packets: &[Outgoing]) -> Bytes {
    if let [Outgoing { kind: Kind::Text, data }] = packets {
        return data.clone();
    }
    // A byte each for separator and prefix, and four characters for three bytes.
    let length = packets.iter().map(|packet| packet.data.len().div_ceil(3) * 4 + 2).sum();
    let mut payload = String::with_capacity(length);
    for (i, packet) in packets.iter().enumerate() {
        if i > 0 {
            payload.push(char::from(SEPARATOR));
        }
        match packet.kind {
            Kind::Text => payload.push_str(&String::from_utf8_lossy(&packet.data)),
            Kind::Binary => {
                payload.push('b');
                BASE64_STANDARD.encode_string(&packet.data, &mut payload);
            }
        }
    }
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_every_form_that_clients_write() {
        // Held against Node's `Buffer.from(text, 'base64')`.
        let forms: [(&str, &[u8]); 15] = [
            ("", b""),
            ("AQID", &[1, 2, 3]),
            ("AQI=", &[1, 2]),
            ("AQI", &[1, 2]),
            ("AQ", &[1]),
            ("AQ=", &[1]),
            ("AQIDBA===", &[1, 2, 3, 4]),
            ("AQIDBB==", &[1, 2, 3, 4]),
            ("AQIDBB", &[1, 2, 3, 4]),
            ("-_8=", &[0xfb, 0xff]),
            ("-_8", &[0xfb, 0xff]),
            ("+/8", &[0xfb, 0xff]),
            ("AQID\nAQID\n", &[1, 2, 3, 1, 2, 3]),
            ("AQ\r\nI D\t", &[1, 2, 3]),
            ("\n", b""),
        ];
        for (text, bytes) in forms {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), Some(bytes), "{text:?}");
        }
        // Node drops what it cannot read. Nobody writes this, and other bytes than were meant help nobody.
        for text in ["A", "AQIDB", "!", "AQ!ID", "AQ==AQ==", "A=QID", "é", "=A"] {
            assert_eq!(decode_base64(text.as_bytes()), None, "{text:?}");
        }
    }
}
