//! The socket of one connection of a loop: reading and writing without blocking.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Direction, TcpStream};
use std::time::Instant;

use bytes::Bytes;
use switchboard_proto::Session;

use crate::readiness::Interest;
use crate::write::write_some;

/// Full reads that one connection may take in one turn, before the others get theirs.
const READS_PER_TURN: usize = 16;

/// One connection's socket, and what its loop knows of it.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    /// What the poller was last told; `None` before it knows this line.
    pub(crate) watched: Option<Interest>,
    /// There may be input that an edge-triggered poller will not report again unless it is asked to.
    pub(crate) has_unread: bool,
    /// Reading or writing failed: nothing more can be done for this peer.
    pub(crate) is_broken: bool,
}

impl Line {
    pub(crate) fn new(stream: TcpStream) -> Line {
        Line { stream, watched: None, has_unread: false, is_broken: false }
    }

    /// Reads until there is no more, the session has enough, or it is somebody else's turn.
    pub(crate) fn read(
        &mut self,
        session: &mut Session,
        scratch: &mut [u8],
        reads_short: bool,
        now: Instant,
    ) {
        self.read_each(session, READS_PER_TURN, scratch, reads_short, |session, bytes| match bytes {
            [] => session.receive_eof(now),
            bytes => session.receive(bytes, now),
        });
    }

    /// Reads once, for somebody else to hand it to the session: the bytes, and whether the peer has ended.
    pub(crate) fn collect(
        &mut self,
        session: &mut Session,
        scratch: &mut [u8],
        reads_short: bool,
    ) -> (Vec<u8>, bool) {
        let mut collected = (Vec::new(), false);
        self.read_each(session, 1, scratch, reads_short, |_, bytes| match bytes {
            [] => collected.1 = true,
            bytes => collected.0.extend_from_slice(bytes),
        });
        collected
    }

    /// Reads at most `reads` times and hands each piece to `take`; an empty one is the end.
    ///
    /// A short read means that there is no more, and saves the call that would say so. It does not (`reads_short`) where the peer has ended, which
    /// only a read of nothing tells, nor where it has sent urgent data (MSG_OOB): reads end at the mark of that, whether it stands in the stream
    /// (SO_OOBINLINE) or not, and here it is discarded. Both are told with the readiness, so that nobody else pays for it.
    fn read_each(
        &mut self,
        session: &mut Session,
        reads: usize,
        scratch: &mut [u8],
        reads_short: bool,
        mut take: impl FnMut(&mut Session, &mut [u8]),
    ) {
        for _ in 0..reads {
            if !session.wants().read {
                self.has_unread = true;
                return;
            }
            match self.stream.read(scratch) {
                Ok(0) => return take(session, &mut []),
                Ok(n) => {
                    take(session, &mut scratch[..n]);
                    if n < scratch.len() && !reads_short {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_broken = true;
                    return;
                }
            }
        }
        self.has_unread = true;
    }

    /// Writes what was published to a peer that nothing waits for. False: something is left.
    pub(crate) fn write_published(&mut self, session: &mut Session, piece: &Bytes) -> bool {
        let written = match (&self.stream).write(piece) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.is_broken = true;
                return false;
            }
        };
        session.output().begun(piece, written);
        written == piece.len()
    }

    /// Writes as much as the peer takes.
    pub(crate) fn write(&mut self, session: &mut Session) {
        let output = session.output();
        while !output.is_empty() && !self.is_broken {
            match write_some(&self.stream, output) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return output.stalled(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_broken = true,
            }
        }
        if session.poll_finish() {
            // It fails when the peer is gone, and then the next read says so.
            let _ = self.stream.shutdown(Direction::Write);
        }
    }
}
