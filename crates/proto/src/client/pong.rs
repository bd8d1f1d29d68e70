//! Answers to pings, of which at most one waits to be written.

use crate::Output;
use crate::websocket::Opcode;

/// A server may ping faster than it reads. Only the latest ping has to be answered (RFC 6455, 5.5.3), so a flood of them costs one frame that is queued
/// and one payload that waits behind it, however long it lasts.
#[derive(Debug, Default)]
pub(super) struct Pongs {
    /// Where the last pong ends, in bytes written on the connection.
    end: u64,
    /// The answer to the latest ping, if the pong before it is not written yet.
    waiting: Option<(Opcode, Vec<u8>)>,
}

impl Pongs {
    /// Takes the answer to a ping. Returns it if it is to be queued now.
    pub(super) fn answer(
        &mut self,
        output: &Output,
        opcode: Opcode,
        payload: &[u8],
    ) -> Option<(Opcode, Vec<u8>)> {
        let (_, mut buffer) = self.waiting.take().unwrap_or((opcode, Vec::new()));
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.waiting = Some((opcode, buffer));
        self.due(output)
    }

    /// The answer that waits, if its time has come.
    pub(super) fn due(&mut self, output: &Output) -> Option<(Opcode, Vec<u8>)> {
        self.waiting.take_if(|_| output.written() >= self.end)
    }

    /// A pong was queued, and is the last that `output` holds.
    pub(super) fn queued(&mut self, output: &Output) {
        self.end = output.written() + output.len() as u64;
    }
}
