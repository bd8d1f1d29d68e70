use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::websocket;

/// Whether a message is text, which must be UTF-8, or any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8, checked as it arrived.
    Text,
    /// Any bytes.
    Binary,
}

/// A message on its way to many receivers, encoded at most once for each wire format.
#[derive(Debug)]
pub struct Outgoing {
    kind: Kind,
    payload: Bytes,
    /// The unmasked frame, made when the first WebSocket asks for it and shared by all the others.
    websocket: OnceLock<Bytes>,
}

impl Outgoing {
    /// A message that is not encoded for anyone yet.
    pub fn new(kind: Kind, payload: Bytes) -> Outgoing {
        Outgoing { kind, payload, websocket: OnceLock::new() }
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message itself, without any framing.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The message as one unmasked WebSocket frame.
    pub fn websocket_frame(&self) -> &Bytes {
        self.websocket.get_or_init(|| {
            let mut frame = Vec::with_capacity(websocket::MAX_HEADER_BYTES + self.payload.len());
            websocket::encode_header(&mut frame, self.kind.into(), self.payload.len(), None);
            frame.extend_from_slice(&self.payload);
            frame.into()
        })
    }
}
