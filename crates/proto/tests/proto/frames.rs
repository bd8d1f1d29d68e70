//! Frames written and read by hand: a codec shared with the code under test would share its mistakes.

/// First bytes of frames: FIN and the opcode.
pub(crate) const CONTINUE: u8 = 0x80;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// Take it off the first byte, and more fragments follow.
pub(crate) const FIN: u8 = 0x80;

/// The key that frames are masked with where a test does not care.
pub(crate) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// How a length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The only one allowed.
    Shortest,
    /// In 16 bits, whether it needs them or not.
    Word,
    /// In 64 bits, whether it needs them or not.
    Long,
}

/// One frame, right or wrong.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// FIN, three reserved bits, the opcode.
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) form: Form,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let length = self.payload.len();
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(self.first);
        match self.form {
            Form::Shortest if length < 126 => out.push(mask_bit | length as u8),
            Form::Long => long(out, mask_bit, length as u64),
            _ if length < 1 << 16 => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => long(out, mask_bit, length as u64),
        }
        match self.mask {
            None => out.extend_from_slice(&self.payload),
            Some(key) => {
                out.extend_from_slice(&key);
                out.extend(self.payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
            }
        }
    }
}

fn long(out: &mut Vec<u8>, mask_bit: u8, length: u64) {
    out.push(mask_bit | 127);
    out.extend_from_slice(&length.to_be_bytes());
}

/// A frame as a client sends it.
pub(crate) fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    encoded(first, Some(KEY), payload.as_ref())
}

/// A frame as a server sends it.
pub(crate) fn plain(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    encoded(first, None, payload.as_ref())
}

fn encoded(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { first, mask, form: Form::Shortest, payload: payload.to_vec() }.encode(&mut out);
    out
}

/// The payload of a close frame.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Takes a server's frames apart: first byte and payload of each. Panics on anything a server must not send.
pub(crate) fn read_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[1] & 0x80, 0, "a server must not mask");
        let (length, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        frames.push((bytes[0], bytes[header..header + length].to_vec()));
        bytes = &bytes[header + length..];
    }
    frames
}
