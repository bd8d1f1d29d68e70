use std::collections::HashSet;

use super::answer::{Answer, field};
use super::fields::{Fields, Name, is_token, text};
use crate::websocket::accept_key;

/// What a request and its answer agree on before a connection carries frames (RFC 6455, section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The value of Sec-WebSocket-Accept: the proof that the request was understood.
    accept: String,
    /// The subprotocol that was chosen.
    protocol: Option<String>,
}

impl Handshake {
    /// Reads what a request says that asks for a WebSocket.
    pub(super) fn read(fields: Fields<'_>) -> Result<Handshake, Answer> {
        if fields.only(Name::WebSocketVersion)? != Some(b"13") {
            let answer = Answer::upgrade_required("This WebSocket speaks version 13 (RFC 6455).\n");
            return Err(answer.with("Sec-WebSocket-Version", "13"));
        }
        let key = fields.only(Name::WebSocketKey)?.unwrap_or_default();
        if !is_key(key) {
            return Err(Answer::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"));
        }
        Ok(Handshake { accept: accept_key(key), protocol: choose_protocol(fields)? })
    }

    /// Appends the answer: from here on the connection carries frames.
    pub(crate) fn encode_answer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        );
        field(out, "Sec-WebSocket-Accept", &self.accept);
        if let Some(protocol) = &self.protocol {
            field(out, "Sec-WebSocket-Protocol", protocol);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a key has the form of 16 bytes in base64. The four bits that its last character holds beside them are not looked at: in the RFC's own example
/// (section 4.1) they are not zero.
fn is_key(key: &[u8]) -> bool {
    let digits = key.strip_suffix(b"==").unwrap_or_default();
    digits.len() == 22 && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
}

/// Of the subprotocols that are offered the first, as npm's `ws` does: what is carried here is the same in all of them, and a browser gives up a WebSocket
/// that agrees to none.
fn choose_protocol<'a>(fields: Fields<'a>) -> Result<Option<String>, Answer> {
    let values = fields.all(Name::WebSocketProtocol);
    let mut offered = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut seen = HashSet::new();
    let mut is_word =
        |word: &'a [u8]| !word.is_empty() && word.iter().copied().all(is_token) && seen.insert(word);
    let first = offered.next();
    if first.into_iter().chain(offered).all(&mut is_word) {
        Ok(first.map(text))
    } else {
        Err(Answer::bad_request("Sec-WebSocket-Protocol is a list of words, each of them once"))
    }
}
