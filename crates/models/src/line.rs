//! One connection of a loop: reading and writing without blocking.

use std::io::{ErrorKind, Read};
use std::net::{Shutdown as Direction, TcpStream};
use std::time::Instant;

use switchboard_proto::Session;

use crate::readiness::Interest;
use crate::write::write_some;

/// Full reads that one connection may take in one turn, before the others get theirs.
const READS_PER_TURN: usize = 16;

/// One connection.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    pub(crate) session: Session,
    /// What the poller was last told; `None` before it knows this line.
    pub(crate) watched: Option<Interest>,
    /// The entry in `timers`.
    pub(crate) timer: Option<Instant>,
    pub(crate) is_touched: bool,
    /// There may be input that an edge-triggered poller will not report again unless it is asked to.
    pub(crate) has_unread: bool,
    /// Reading or writing failed: nothing more can be done for this peer.
    pub(crate) is_broken: bool,
}

impl Line {
    pub(crate) fn new(stream: TcpStream, session: Session) -> Line {
        Line {
            stream,
            session,
            watched: None,
            timer: None,
            is_touched: false,
            has_unread: false,
            is_broken: false,
        }
    }

    /// Reads until there is no more, the session has enough, or it is somebody else's turn.
    ///
    /// A short read means that there is no more, and saves the call that would say so; unless the peer has
    /// ended (`is_at_end`), which only a read of nothing tells.
    pub(crate) fn read(&mut self, scratch: &mut [u8], is_at_end: bool, now: Instant) {
        for _ in 0..READS_PER_TURN {
            if !self.session.wants().read {
                self.has_unread = true;
                return;
            }
            match self.stream.read(scratch) {
                Ok(0) => return self.session.receive_eof(now),
                Ok(n) => {
                    self.session.receive(&mut scratch[..n], now);
                    if n < scratch.len() && !is_at_end {
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

    /// Writes as much as the peer takes.
    pub(crate) fn write(&mut self) {
        let output = self.session.output();
        while !output.is_empty() && !self.is_broken {
            match write_some(&self.stream, output) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_broken = true,
            }
        }
        if self.session.poll_finish() {
            // It fails when the peer is gone, and then the next read says so.
            let _ = self.stream.shutdown(Direction::Write);
        }
    }
}
