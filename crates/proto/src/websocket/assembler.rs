use tungstenite::protocol::frame::coding::CloseCode;

use super::Violation;
use super::frame::{MAX_HEADER_BYTES, Opcode, mask, parse_header, parse_usual};
use super::payload::{Assembled, Payload};
use super::utf8::Utf8;
use crate::Kind;

/// Room made for an incomplete message on the word of its header alone. The rest is made as it arrives.
const TRUSTED_BYTES: usize = 256 << 10;

/// Which side of the connection this assembler reads for: it decides who must mask (section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads what a client sent: masked.
    Server,
    /// Reads what a server sent: not masked.
    Client,
}

/// What a peer said, whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'b> {
    /// A data message; text has been checked.
    Message(Kind, Payload<'b>),
    /// A ping, to be answered with the same bytes.
    Ping(Payload<'b>),
    /// A pong.
    Pong,
    /// A close frame, with its code where it has one.
    Close(Option<u16>),
}

/// Turns the bytes of one direction of a WebSocket into messages and control frames.
///
/// Unmasks in place. What arrived whole is handed out as a slice of the input; only what is incomplete
/// is kept: up to 13 bytes of a header inline, and payload in buffers that exist no longer than needed.
#[derive(Debug)]
pub struct Assembler {
    role: Role,
    /// The start of a header whose end has not arrived.
    header: [u8; MAX_HEADER_BYTES],
    header_len: u8,
    frame: Option<Frame>,
    message: Option<Box<Partial>>,
    /// The start of a control frame's payload. Control frames may stand between fragments. Hardly any ever comes in pieces.
    control: Option<Box<Assembled>>,
    max_message_bytes: usize,
}

/// The frame whose payload is arriving.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    /// Rotated so that its first byte goes with the next payload byte. Zero: not masked.
    mask: [u8; 4],
    remaining: usize,
}

/// A message of which a part has arrived.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    utf8: Utf8,
    data: Assembled,
}

impl Assembler {
    /// An assembler that has seen nothing yet.
    pub fn new(role: Role, max_message_bytes: usize) -> Assembler {
        Assembler {
            role,
            header: [0; MAX_HEADER_BYTES],
            header_len: 0,
            frame: None,
            message: None,
            control: None,
            max_message_bytes,
        }
    }

    /// Bytes that are set aside for what is not whole.
    pub fn held_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.data.capacity())
    }

    /// Takes bytes from the start of `input` until something is whole; `None` when `input` is used up.
    ///
    /// # Errors
    /// What the peer did against the protocol. The connection cannot go on: what follows has no meaning.
    #[inline]
    pub fn next<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Incoming<'b>>, Violation> {
        match self.usual(input) {
            Some((opcode, payload)) => whole(opcode, payload).map(Some),
            None => self.next_of_any_kind(input),
        }
    }

    fn next_of_any_kind<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Incoming<'b>>, Violation> {
        loop {
            if self.frame.is_none() && (input.is_empty() || !self.read_header(input)?) {
                return Ok(None);
            }
            let frame = self.frame.as_mut().expect("a header was read");
            let here = frame.remaining.min(input.len());
            let payload = input.split_off_mut(..here).expect("no more than there is");
            frame.remaining -= here;
            if frame.mask != [0; 4] {
                mask(payload, frame.mask);
                frame.mask.rotate_left(here % 4);
            }
            if frame.remaining > 0 {
                let opcode = frame.opcode;
                self.keep(opcode, payload)?;
                return Ok(None);
            }
            let Frame { opcode, is_final, .. } = self.frame.take().expect("its payload has arrived");
            if opcode.is_control() {
                return self.control_frame(opcode, payload).map(Some);
            }
            if let Some(message) = self.data_frame(opcode, is_final, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// The usual case: a short message in one frame that is all there, with nothing begun before it.
    #[inline]
    fn usual<'b>(&self, input: &mut &'b mut [u8]) -> Option<(Opcode, &'b [u8])> {
        if self.frame.is_some() || self.header_len > 0 || self.message.is_some() {
            return None;
        }
        let header = parse_usual(input)?;
        let payload_bytes = header.payload_bytes as usize;
        if header.mask.is_some() != (self.role == Role::Server) || payload_bytes > self.max_message_bytes {
            return None;
        }
        let frame = input.split_off_mut(..header.header_bytes + payload_bytes)?;
        let payload = &mut frame[header.header_bytes..];
        if let Some(key) = header.mask {
            mask(payload, key);
        }
        Some((header.opcode, payload))
    }

    /// Reads the next header into `self.frame`; false when it is not all there.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<bool, Violation> {
        let header = if self.header_len == 0 {
            let Some(header) = parse_header(input)? else {
                self.header[..input.len()].copy_from_slice(input);
                self.header_len = input.len() as u8;
                *input = &mut [];
                return Ok(false);
            };
            *input = &mut std::mem::take(input)[header.header_bytes..];
            header
        } else {
            loop {
                let Some(byte) = input.split_off_first_mut() else { return Ok(false) };
                self.header[usize::from(self.header_len)] = *byte;
                self.header_len += 1;
                if let Some(header) = parse_header(&self.header[..usize::from(self.header_len)])? {
                    self.header_len = 0;
                    break header;
                }
            }
        };
        if header.mask.is_some() != (self.role == Role::Server) {
            return Err(Violation::Masking);
        }
        if !header.opcode.is_control() {
            if (header.opcode == Opcode::Continue) != self.message.is_some() {
                return Err(Violation::Fragment);
            }
            let before = self.message.as_ref().map_or(0, |message| message.data.len());
            // Told from the header alone, before a byte of the payload is kept.
            if header.payload_bytes > (self.max_message_bytes - before) as u64 {
                return Err(Violation::TooBig);
            }
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask: header.mask.unwrap_or_default(),
            remaining: header.payload_bytes as usize,
        });
        Ok(true)
    }

    /// Keeps a part of a frame's payload; the rest has not arrived.
    fn keep(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Violation> {
        if opcode.is_control() {
            let begun = self.control.get_or_insert_with(|| Box::new(Assembled::with_capacity(0)));
            return begun.append(payload, 0, 0).map_err(|_| Violation::OutOfMemory);
        }
        let remaining = self.frame.as_ref().map_or(0, |frame| frame.remaining);
        self.partial(opcode).append(payload, remaining)
    }

    /// The message that a data frame belongs to, begun if need be.
    fn partial(&mut self, opcode: Opcode) -> &mut Partial {
        self.message.get_or_insert_with(|| {
            let kind = if opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
            Box::new(Partial { kind, utf8: Utf8::default(), data: Assembled::with_capacity(0) })
        })
    }

    fn data_frame<'b>(
        &mut self,
        opcode: Opcode,
        is_final: bool,
        payload: &'b [u8],
    ) -> Result<Option<Incoming<'b>>, Violation> {
        if is_final && self.message.is_none() {
            return whole(opcode, payload).map(Some);
        }
        self.partial(opcode).append(payload, 0)?;
        if !is_final {
            return Ok(None);
        }
        let message = self.message.take().expect("just appended to");
        message.utf8.finish()?;
        Ok(Some(Incoming::Message(message.kind, Payload::Owned(message.data))))
    }

    fn control_frame<'b>(&mut self, opcode: Opcode, payload: &'b [u8]) -> Result<Incoming<'b>, Violation> {
        let payload = match self.control.take() {
            None => Payload::Borrowed(payload),
            Some(mut begun) => {
                begun.append(payload, 0, 0).map_err(|_| Violation::OutOfMemory)?;
                Payload::Owned(*begun)
            }
        };
        match opcode {
            Opcode::Ping => Ok(Incoming::Ping(payload)),
            Opcode::Close => Ok(Incoming::Close(close_code(&payload)?)),
            _ => Ok(Incoming::Pong),
        }
    }
}

impl Partial {
    fn append(&mut self, payload: &[u8], remaining: usize) -> Result<(), Violation> {
        if self.kind == Kind::Text {
            self.utf8.check(payload)?;
        }
        self.data.append(payload, remaining, TRUSTED_BYTES).map_err(|_| Violation::OutOfMemory)
    }
}

/// A message in one frame in one read: nothing is kept or copied.
#[inline]
fn whole(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    if opcode != Opcode::Text {
        return Ok(Incoming::Message(Kind::Binary, Payload::Borrowed(payload)));
    }
    std::str::from_utf8(payload).map_err(|_| Violation::Utf8)?;
    Ok(Incoming::Message(Kind::Text, Payload::Borrowed(payload)))
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Close) };
    };
    let code = u16::from_be_bytes(*code);
    std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    // 1014 was registered after the list that tungstenite knows.
    if !CloseCode::from(code).is_allowed() && code != 1014 {
        return Err(Violation::Close);
    }
    Ok(Some(code))
}
