//! What waits in the parent for a child that does not keep up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, Shutdown, shutdown};
use switchboard_proto::Outgoing;

use crate::relay::{IS_YOURS, Relay};

/// Messages and acknowledgements that a child has not taken yet, in their order.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Messages with their marks, and how much of the first has been sent. `None`: a subscription is acknowledged.
    queue: VecDeque<Option<(Arc<Outgoing>, u8)>>,
    offset: usize,
    bytes: usize,
}

impl Backlog {
    /// Sends a message, or keeps it for later. A child that is more than `max_bytes` behind is cut off: false.
    /// `is_its_own`: it is this child that has published it.
    pub(crate) fn send(
        &mut self,
        relay: &Relay,
        message: &Arc<Outgoing>,
        is_its_own: bool,
        max_bytes: usize,
    ) -> bool {
        let bytes = message.payload().len();
        if self.bytes > 0 && self.bytes + bytes > max_bytes {
            *self = Backlog::default();
            // It fails when the child has ended, and then there is nobody to tell.
            let _ = shutdown(relay.as_fd().as_raw_fd(), Shutdown::Write);
            return false;
        }
        self.bytes += bytes;
        self.queue.push_back(Some((message.clone(), if is_its_own { IS_YOURS } else { 0 })));
        self.flush(relay);
        true
    }

    /// Tells the child, behind all that was published before, that it will get what follows.
    pub(crate) fn acknowledge(&mut self, relay: &Relay) {
        self.queue.push_back(None);
        self.flush(relay);
    }

    /// Sends what the child takes now.
    pub(crate) fn flush(&mut self, relay: &Relay) {
        while let Some(entry) = self.queue.front() {
            let Some((message, marks)) = entry else {
                match relay.send_subscribe(MsgFlags::MSG_DONTWAIT) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    // If it has ended, its process will be reaped.
                    _ => drop(self.queue.pop_front()),
                }
                continue;
            };
            match relay.send_message(message, *marks, &mut self.offset, MsgFlags::MSG_DONTWAIT) {
                Ok(false) => return,
                Ok(true) => {
                    self.bytes -= message.payload().len();
                    self.queue.pop_front();
                    self.offset = 0;
                }
                // The child has ended: its process will be reaped.
                Err(_) => *self = Backlog::default(),
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
