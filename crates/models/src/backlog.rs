//! What waits in the parent for a child that does not keep up.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, Shutdown, shutdown};

use crate::relay::Relay;

/// Messages that a child has not taken yet, in their order.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Encoded messages, what was published shared with all other children; and how many bytes each counts.
    queue: VecDeque<(Bytes, usize)>,
    /// How much of the first has been sent.
    offset: usize,
    bytes: usize,
    /// Since when the child has taken nothing, if somebody had reason to look.
    stuck_since: Option<Instant>,
}

impl Backlog {
    /// Sends a message, or keeps it for later. A child that is more than `max_bytes` behind with what `counts` is cut off: false.
    pub(crate) fn send(&mut self, relay: &Relay, message: Bytes, counts: bool, max_bytes: usize) -> bool {
        let counted = if counts { message.len() } else { 0 };
        if self.bytes > 0 && self.bytes + counted > max_bytes {
            *self = Backlog::default();
            // It fails when the child has ended, and then there is nobody to tell.
            let _ = shutdown(relay.as_fd().as_raw_fd(), Shutdown::Write);
            return false;
        }
        self.bytes += counted;
        self.queue.push_back((message, counted));
        self.flush(relay);
        true
    }

    /// Sends what the child takes now.
    pub(crate) fn flush(&mut self, relay: &Relay) {
        while let Some((message, counted)) = self.queue.front() {
            let offset = self.offset;
            match relay.send(message, &mut self.offset, MsgFlags::MSG_DONTWAIT) {
                Ok(false) => {
                    if self.offset > offset {
                        self.stuck_since = None;
                    }
                    return;
                }
                Ok(true) => {
                    self.stuck_since = None;
                    self.bytes -= counted;
                    self.queue.pop_front();
                    self.offset = 0;
                }
                // The child has ended: its process will be reaped.
                Err(_) => *self = Backlog::default(),
            }
        }
    }

    /// Since when the child has taken nothing, as far as anybody has looked: from this call on, if it has taken something since the last.
    pub(crate) fn stuck_since(&mut self, now: Instant) -> Instant {
        *self.stuck_since.get_or_insert(now)
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
