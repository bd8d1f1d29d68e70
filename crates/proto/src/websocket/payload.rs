use std::collections::TryReserveError;
use std::ops::{Deref, Range};

use bytes::{Buf, Bytes};

use super::frame::{MAX_HEADER_BYTES, Opcode, encode_header};

/// A payload: in the read buffer where it arrived in one piece, else by itself.
#[derive(Debug)]
pub enum Payload<'b> {
    /// A part of the read buffer.
    Borrowed(&'b [u8]),
    /// Assembled from several reads or fragments.
    Owned(Assembled),
}

impl<'b> Payload<'b> {
    /// A part of it. What was assembled is copied.
    pub(crate) fn part(self, range: Range<usize>) -> Payload<'b> {
        match self {
            Payload::Borrowed(bytes) => Payload::Borrowed(&bytes[range]),
            Payload::Owned(assembled) => Payload::owned(&assembled[range]),
        }
    }

    /// A copy of these bytes.
    pub(crate) fn owned(bytes: &[u8]) -> Payload<'static> {
        let mut assembled = Assembled::with_capacity(bytes.len());
        assembled.data.extend_from_slice(bytes);
        Payload::Owned(assembled)
    }
}

impl Payload<'_> {
    /// The payload as shared bytes; copies what stands in the read buffer.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Payload::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Payload::Owned(assembled) => assembled.into_bytes(),
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(assembled) => assembled,
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Payload<'_>) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

/// A payload that was put together, with room before it for the header of a frame: what is echoed by reference leaves in one piece all the same.
#[derive(Debug)]
pub struct Assembled {
    /// [`MAX_HEADER_BYTES`] of no meaning, and the payload.
    data: Vec<u8>,
}

impl Assembled {
    /// Nothing yet, with room for the first `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> Assembled {
        let mut data = Vec::with_capacity(MAX_HEADER_BYTES + bytes);
        data.resize(MAX_HEADER_BYTES, 0);
        Assembled { data }
    }

    /// Appends what has arrived. `expected` bytes of the same frame are still to come: room is made for `trusted` of them, or for as many as
    /// are there already. So a peer has to send what it wants us to hold, and what is long, or comes in many fragments, is not moved often.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        expected: usize,
        trusted: usize,
    ) -> Result<(), TryReserveError> {
        if self.data.capacity() - self.data.len() < bytes.len() {
            let ahead = expected.min(trusted.max(self.data.len()));
            self.data.try_reserve_exact((bytes.len() + ahead).max(self.data.len() / 4))?;
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes that are set aside for it.
    pub(super) fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// The payload without what stands before it.
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = Bytes::from(self.data);
        bytes.advance(MAX_HEADER_BYTES);
        bytes
    }

    /// The payload as a final, unmasked frame.
    pub fn into_frame(mut self, opcode: Opcode) -> Bytes {
        let mut header = Vec::with_capacity(MAX_HEADER_BYTES);
        encode_header(&mut header, opcode, self.len(), None);
        let start = MAX_HEADER_BYTES - header.len();
        self.data[start..MAX_HEADER_BYTES].copy_from_slice(&header);
        let mut frame = Bytes::from(self.data);
        frame.advance(start);
        frame
    }
}

impl Deref for Assembled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data[MAX_HEADER_BYTES..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assembled_payload_becomes_a_frame_where_it_stands() {
        for payload_bytes in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..payload_bytes).map(|at| at as u8).collect();
            let mut assembled = Assembled::with_capacity(0);
            for piece in payload.chunks(777) {
                assembled.append(piece, payload_bytes, 1000).unwrap();
            }
            assert_eq!(*assembled, *payload);
            let mut expected = Vec::new();
            encode_header(&mut expected, Opcode::Binary, payload_bytes, None);
            expected.extend_from_slice(&payload);
            assert_eq!(assembled.into_frame(Opcode::Binary), expected);
        }
    }

    #[test]
    fn room_is_made_only_for_what_a_peer_has_shown_that_it_sends() {
        let mut assembled = Assembled::with_capacity(0);
        for sent in 1..=100 {
            assembled.append(&[7; 1000], 10_000_000, 5000).unwrap();
            let held = assembled.data.capacity();
            assert!(held <= MAX_HEADER_BYTES + 2 * 1000 * sent + 6000, "{held} bytes for {sent} KB");
        }
        assert_eq!(assembled.into_bytes(), vec![7; 100_000]);
    }
}
