//! WebSocket frames written by hand (RFC 6455, section 5.2), right and wrong ones.

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The bit that says that a frame is the last of its message.
pub(crate) const FINAL: u8 = 0x80;

/// A key whose bytes all differ, so that one at the wrong place shows.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame that is a message of its own, as a client must send it.
pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(FINAL | opcode, KEY, payload.as_ref())
}

/// A frame of a message that goes on.
pub(crate) fn fragment(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(opcode, KEY, payload.as_ref())
}

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(TEXT, payload)
}

/// A close frame with a code and a reason.
pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_ref());
    frame(CLOSE, payload)
}

/// A frame with this first byte, masked with this key.
pub(crate) fn masked(first: u8, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(length(payload.len()));
    bytes[1] |= 0x80;
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// As only a server may send it.
pub(crate) fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FINAL | opcode];
    bytes.extend(length(payload.len()));
    bytes.extend(payload);
    bytes
}

/// A masked frame's header with the length in two bytes, whether it needs them or not.
pub(crate) fn header_16(opcode: u8, length: u16) -> Vec<u8> {
    let mut bytes = vec![FINAL | opcode, 0x80 | 126];
    bytes.extend(length.to_be_bytes());
    bytes.extend(KEY);
    bytes
}

/// A masked frame's header with the length in eight bytes, whether it needs them or not.
pub(crate) fn header_64(opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![FINAL | opcode, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend(KEY);
    bytes
}

/// A length in its shortest form.
fn length(bytes: usize) -> Vec<u8> {
    match bytes {
        0..=125 => vec![bytes as u8],
        126..=0xffff => [&[126][..], &(bytes as u16).to_be_bytes()].concat(),
        _ => [&[127][..], &(bytes as u64).to_be_bytes()].concat(),
    }
}

/// Bytes that do not repeat soon, so that a part in the wrong place shows.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8).wrapping_mul(31) ^ (i >> 16).wrapping_mul(97)) as u8).collect()
}

/// Text of so many bytes in which characters of one to four bytes take turns.
pub(crate) fn prose(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for character in ['s', 'ü', '日', '🦀', ' '].into_iter().cycle() {
        match bytes - text.len() {
            0 => break,
            left if left < 4 => text.push('.'),
            _ => text.push(character),
        }
    }
    text
}
