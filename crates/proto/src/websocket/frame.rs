use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::Violation;
use crate::Kind;

/// Longest frame header: 2 bytes, an 8-byte length, a mask of 4.
pub const MAX_HEADER_BYTES: usize = 14;

/// Longest payload whose length stands in the header's second byte.
const SHORT_BYTES: usize = 125;

/// The first byte of a message in one frame, and the bit of the second that says that a mask follows (RFC 6455, section 5.2). These are for the header
/// that most frames have, of which there may be a million a second; tungstenite reads and writes all others.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of a message.
    Continue,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The start of the close handshake, or its answer.
    Close,
    /// To be answered by a pong with the same payload.
    Ping,
    /// The answer to a ping, or an unasked sign of life.
    Pong,
}

impl Opcode {
    /// Whether it may stand between the fragments of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn wire(self) -> OpCode {
        match self {
            Opcode::Continue => OpCode::Data(Data::Continue),
            Opcode::Text => OpCode::Data(Data::Text),
            Opcode::Binary => OpCode::Data(Data::Binary),
            Opcode::Close => OpCode::Control(Control::Close),
            Opcode::Ping => OpCode::Control(Control::Ping),
            Opcode::Pong => OpCode::Control(Control::Pong),
        }
    }
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Opcode {
        match kind {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        }
    }
}

/// A frame header that arrived whole.
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload_bytes: u64,
    /// Bytes that the header itself took.
    pub(super) header_bytes: usize,
}

/// Reads a header from the start of `input`; `None` when it is not all there.
///
/// What holds for a frame by itself is checked here; what depends on the frames before it is the
/// assembler's business.
pub(super) fn parse_header(input: &[u8]) -> Result<Option<Header>, Violation> {
    if let Some(header) = parse_usual(input) {
        return Ok(Some(header));
    }
    if input.len() < 2 {
        return Ok(None);
    }
    let mut cursor = Cursor::new(input);
    // Reserved opcodes are all that tungstenite objects to here.
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::ReservedOpcode)?;
    let Some((header, payload_bytes)) = parsed else { return Ok(None) };
    let header_bytes = cursor.position() as usize;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::ReservedBit);
    }
    if payload_bytes >> 63 != 0 || header.len(payload_bytes) != header_bytes {
        return Err(Violation::Length);
    }
    let opcode = match header.opcode {
        OpCode::Data(Data::Continue) => Opcode::Continue,
        OpCode::Data(Data::Text) => Opcode::Text,
        OpCode::Data(Data::Binary) => Opcode::Binary,
        OpCode::Control(Control::Close) => Opcode::Close,
        OpCode::Control(Control::Ping) => Opcode::Ping,
        OpCode::Control(Control::Pong) => Opcode::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Violation::ReservedOpcode);
        }
    };
    if opcode.is_control() && (!header.is_final || payload_bytes > 125) {
        return Err(Violation::Control);
    }
    Ok(Some(Header { opcode, is_final: header.is_final, mask: header.mask, payload_bytes, header_bytes }))
}

/// The header that most frames have: a whole message of at most 125 bytes. `None`: another one, or not all there.
#[inline]
pub(super) fn parse_usual(input: &[u8]) -> Option<Header> {
    let (&[first, second], rest) = input.split_first_chunk()?;
    let opcode = match first {
        TEXT => Opcode::Text,
        BINARY => Opcode::Binary,
        _ => return None,
    };
    let payload_bytes = usize::from(second & !MASKED);
    if payload_bytes > SHORT_BYTES {
        return None;
    }
    let mask = if second & MASKED == 0 { None } else { Some(*rest.first_chunk()?) };
    let header_bytes = 2 + mask.map_or(0, |mask: [u8; 4]| mask.len());
    Some(Header { opcode, is_final: true, mask, payload_bytes: payload_bytes as u64, header_bytes })
}

/// Appends the header of a final frame with `payload_bytes` to follow.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize, mask: Option<[u8; 4]>) {
    let first = if opcode == Opcode::Text { TEXT } else { BINARY };
    if !matches!(opcode, Opcode::Text | Opcode::Binary) || payload_bytes > SHORT_BYTES {
        return encode_any_header(out, opcode, payload_bytes, mask);
    }
    let second = payload_bytes as u8;
    match mask {
        None => out.extend_from_slice(&[first, second]),
        Some([a, b, c, d]) => out.extend_from_slice(&[first, second | MASKED, a, b, c, d]),
    }
}

fn encode_any_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader { is_final: true, opcode: opcode.wire(), mask, ..FrameHeader::default() };
    header.format(payload_bytes as u64, out).expect("writing to a Vec does not fail");
}

/// Appends a close frame; without a code its payload is empty. `reason` is cut to the 123 bytes it may have.
pub fn encode_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str, mask_key: Option<[u8; 4]>) {
    let reason = if code.is_some() { &reason[..reason.floor_char_boundary(123)] } else { "" };
    let payload_bytes = code.map_or(0, |_| 2) + reason.len();
    encode_header(out, Opcode::Close, payload_bytes, mask_key);
    let start = out.len();
    if let Some(code) = code {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    }
    if let Some(key) = mask_key {
        mask(&mut out[start..], key);
    }
}

/// Masks or unmasks `payload` in place (RFC 6455, section 5.3): the two are the same operation.
#[inline]
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001;
    // Blocks whose length is known become a few wide instructions; one loop over words pays more for finding out how many it can take at once
    // than for a short payload.
    let (blocks, rest) = payload.as_chunks_mut::<32>();
    for block in blocks {
        for word in block.as_chunks_mut::<8>().0 {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_is_byte_by_byte_exclusive_or() {
        let key = [1, 2, 3, 4];
        for length in 0..40_usize {
            let plain: Vec<u8> = (0..length as u8).map(|byte| byte.wrapping_mul(37)).collect();
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut masked = plain.clone();
            mask(&mut masked, key);
            assert_eq!(masked, expected);
            mask(&mut masked, key);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn the_usual_header_is_read_and_written_as_tungstenite_does() {
        for (opcode, key) in [Opcode::Text, Opcode::Binary].into_iter().zip([None, Some([1, 2, 0x83, 4])]) {
            for payload_bytes in 0..300_usize {
                let header = FrameHeader {
                    is_final: true,
                    opcode: opcode.wire(),
                    mask: key,
                    ..FrameHeader::default()
                };
                let mut theirs = Vec::new();
                header.format(payload_bytes as u64, &mut theirs).unwrap();
                let mut ours = Vec::new();
                encode_header(&mut ours, opcode, payload_bytes, key);
                assert_eq!(ours, theirs);
                for arrived in 0..theirs.len() {
                    assert!(parse_header(&theirs[..arrived]).is_ok_and(|header| header.is_none()));
                }
                let read = parse_header(&[&theirs[..], b"payload"].concat()).ok().flatten().unwrap();
                assert_eq!((read.opcode, read.is_final, read.mask), (opcode, true, key));
                assert_eq!((read.payload_bytes, read.header_bytes), (payload_bytes as u64, theirs.len()));
            }
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut frame = Vec::new();
        encode_close(&mut frame, Some(1011), &"é".repeat(100), None);
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        assert!(frame.len() - 2 <= 125);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
