//! WebSocket frames and messages (RFC 6455), without extensions.
//!
//! Frame headers, opcodes, close codes and the accept key are `tungstenite`'s. The [`Assembler`] is ours:
//! it unmasks in place, hands out a whole message as a slice of the read buffer, and keeps only what is
//! incomplete, so that an idle connection owns no buffer.

mod assembler;
mod frame;
mod payload;
mod utf8;

pub use assembler::{Assembler, Incoming, Role};
pub use frame::{MAX_HEADER_BYTES, Opcode, encode_close, encode_header, mask};
pub use payload::{Assembled, Payload};
pub use tungstenite::handshake::derive_accept_key as accept_key;

use thiserror::Error;

/// What a peer did that ends the connection, with the close code that says so (RFC 6455, section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A reserved bit is set, though no extension was negotiated.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode that the RFC keeps for later.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client must mask, a server must not (section 5.1).
    #[error("frame masked the wrong way")]
    Masking,
    /// A length that would have fitted a shorter form, or with its highest bit set (section 5.2).
    #[error("length not in its shortest form")]
    Length,
    /// A control frame in fragments or with over 125 bytes (section 5.5).
    #[error("control frame too long or fragmented")]
    Control,
    /// A continuation of nothing, or a new message inside another (section 5.4).
    #[error("fragments out of order")]
    Fragment,
    /// A close frame with one byte, or a code that may not be sent (section 7.4).
    #[error("malformed close frame")]
    Close,
    /// Text that is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    Utf8,
    /// More than the limit on messages.
    #[error("message is too big")]
    TooBig,
    /// Not what the peer did: there is no memory for its message. It may try again later.
    #[error("no memory is left for this message")]
    OutOfMemory,
}

impl Violation {
    /// The close code to answer with.
    pub fn close_code(self) -> u16 {
        match self {
            Violation::Utf8 => 1007,
            Violation::TooBig => 1009,
            Violation::OutOfMemory => 1013,
            _ => 1002,
        }
    }
}
