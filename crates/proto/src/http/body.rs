use bytes::Bytes;

use super::answer::Answer;
use super::chunked::Chunked;
use super::reader::take;
use super::refused;

/// Memory that a Content-Length alone can make the server set aside; beyond it a buffer grows as bytes arrive.
pub(super) const TRUSTED_BYTES: usize = 256 << 10;

/// How a request says where its body ends (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// A body that is being received.
#[derive(Debug)]
pub(super) enum Body {
    Length { left: usize, received: Vec<u8> },
    Chunked(Chunked),
}

impl Body {
    pub(super) fn begin(framing: Framing, limit: usize) -> Result<Body, Answer> {
        match framing {
            Framing::Length(length) if length > limit => Err(too_large(limit)),
            Framing::Length(left) => Ok(Body::Length { left, received: Vec::new() }),
            Framing::None => Ok(Body::Length { left: 0, received: Vec::new() }),
            Framing::Chunked => Ok(Body::Chunked(Chunked::new(limit))),
        }
    }

    /// Takes what belongs to the body from the start of `input`; returns the body once it is whole.
    pub(super) fn receive(&mut self, input: &mut &mut [u8]) -> Result<Option<Bytes>, Answer> {
        let (left, received) = match self {
            Body::Chunked(chunked) => return chunked.receive(input),
            Body::Length { left, received } => (left, received),
        };
        let part = take(input, input.len().min(*left));
        *left -= part.len();
        if *left == 0 && received.is_empty() {
            return Ok(Some(Bytes::copy_from_slice(part)));
        }
        if received.capacity() - received.len() < part.len() {
            let more = (part.len() + *left).min(part.len().max(received.len()).max(TRUSTED_BYTES));
            received.try_reserve_exact(more).map_err(|_| out_of_memory())?;
        }
        received.extend_from_slice(part);
        Ok((*left == 0).then(|| Bytes::from(std::mem::take(received))))
    }

    /// Bytes that are set aside for it.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Body::Length { received, .. } => received.capacity(),
            Body::Chunked(chunked) => chunked.capacity(),
        }
    }
}

/// There is no memory for a body. Others need not suffer for it.
pub(super) fn out_of_memory() -> Answer {
    refused("memory", "no memory is left for this request body: try again later, or send less")
}

pub(super) fn too_large(limit: usize) -> Answer {
    Answer::new(413, format!("The request body is limited to {limit} bytes.\n"))
}
